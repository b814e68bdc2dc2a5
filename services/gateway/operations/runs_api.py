"""``/api/runs``: what ran, what runs, and what waits to."""

from functools import partial
from uuid import UUID

from sqlalchemy import Connection

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.operations.job_control import steer
from services.gateway.operations.requests import RunQuery
from services.gateway.operations.schemas import RunDetail, RunPage, RunQueued, RunState
from shared.jobs.admin import control, log_queries, run_queries

LOG_LINES = 500


async def get_runs(gateway: Gateway, query: RunQuery) -> RunPage:
    """Runs, the newest first; parts of runs only where they, or the runs of a parent, are asked for."""
    return await page_of(gateway, run_queries.runs, query, RunPage, ("queued_at", "id"))


async def get_run(gateway: Gateway, run_id: UUID) -> RunDetail:
    """All of one run: parameters, progress, error, its parts, what followed it, and its log."""
    detail = await read(gateway, _detail, run_id)
    if detail is None:
        raise NotFound(f"run_id: there is no run {run_id}", field="run_id")
    return detail


def _detail(connection: Connection, run_id: UUID) -> RunDetail | None:
    found = run_queries.run(connection, run_id)
    if found is None:
        return None
    return RunDetail.model_validate({**found, "log": log_queries.log_of_run(connection, run_id, LOG_LINES)})


async def post_cancel(gateway: Gateway, principal: Principal, run_id: UUID) -> RunState:
    """Cancel a run: at once where it has not begun, at its next look where it runs."""
    state = await steer(gateway, partial(control.cancel, run_id=run_id, who=principal.key_id))
    return RunState(run_id=run_id, state=state)


async def post_retry(gateway: Gateway, principal: Principal, run_id: UUID) -> RunQueued:
    """Run it once more, for the same slot and with the same parameters."""
    return RunQueued(run_id=await steer(gateway, partial(control.retry, run_id=run_id, who=principal.key_id)))


endpoints = (
    Endpoint("GET", "/api/runs", get_runs, OPERATE),
    Endpoint("GET", "/api/runs/{run_id}", get_run, OPERATE),
    Endpoint("POST", "/api/runs/{run_id}/cancel", post_cancel, OPERATE, 202, refusals=(409,)),
    Endpoint("POST", "/api/runs/{run_id}/retry", post_retry, OPERATE, 202, refusals=(409,)),
)
