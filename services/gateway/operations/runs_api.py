"""``/api/runs``: queued, running and finished runs of all jobs, and their control."""

from functools import partial
from uuid import UUID

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.operations.job_control import change
from services.gateway.operations.requests import RunQuery
from services.gateway.operations.schemas import RunDetail, RunPage, RunQueued, RunState, WaitingFor
from shared.jobs.admin import control, log_queries, run_queries, waiting

LOG_LINES = 500


async def get_runs(gateway: Gateway, query: RunQuery) -> RunPage:
    """List runs, the newest first. Parts are listed only if the query asks for parts or for a parent's runs."""
    return await page_of(gateway, run_queries.runs, query, RunPage, ("queued_at", "id"))


async def get_run(gateway: Gateway, run_id: UUID) -> RunDetail:
    """Get a run with its parameters, progress, error, parts, chained runs, retries and log, and for what it waits.

    Raises NotFound where no run has this id.
    """
    run = await read(gateway, run_queries.run, run_id)
    if run is None:
        raise NotFound(f"run_id: there is no run {run_id}", field="run_id")
    log = await read(gateway, log_queries.log_of_run, run_id, LOG_LINES)
    waits = WaitingFor.of(await read(gateway, waiting.of_run, run_id, gateway.context.clock()))
    return RunDetail.model_validate({**run, "log": log, "waiting": waits})


async def post_cancel(gateway: Gateway, principal: Principal, run_id: UUID) -> RunState:
    """Cancel a run. A queued run ends at once, a running one at its next check."""
    state = await change(gateway, partial(control.cancel, run_id=run_id, who=principal.key_id))
    return RunState(run_id=run_id, state=state)


async def post_retry(gateway: Gateway, principal: Principal, run_id: UUID) -> RunQueued:
    """Run it again, for the same slot and with the same parameters."""
    return RunQueued(run_id=await change(gateway, partial(control.retry, run_id=run_id, who=principal.key_id)))


endpoints = (
    Endpoint("GET", "/api/runs", get_runs, OPERATE),
    Endpoint("GET", "/api/runs/{run_id}", get_run, OPERATE),
    Endpoint("POST", "/api/runs/{run_id}/cancel", post_cancel, OPERATE, 202, refusals=(409,)),
    Endpoint("POST", "/api/runs/{run_id}/retry", post_retry, OPERATE, 202, refusals=(409,)),
)
