"""``/api/optimisations``: backtests with many sets of parameters, shared by all workers."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from starlette.responses import Response

from services.gateway.backtests import queries
from services.gateway.backtests.api import check_bars, check_indicators, check_owner, shown, start
from services.gateway.backtests.schemas import (
    BacktestQuery,
    BacktestQueued,
    NewOptimisation,
    OptimisationDetail,
    OptimisationPage,
)
from services.gateway.http.auth import READ, TRADE_OR_OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.operations.job_control import change
from services.gateway.operations.schemas import RunState
from shared.jobs.admin import control
from shared.storage.keyset import Record

JOB = "optimise"


async def post_optimisation(gateway: Gateway, principal: Principal, body: NewOptimisation) -> BacktestQueued:
    """Run a strategy with each of several sets of parameters, by a run of the job `optimise`.

    The best set by the `objective` is chosen on the first part of the time. The last part, `out_of_sample`, and the
    steps of a walk-forward show what the choice was worth.

    Raises Invalid for an unknown strategy, parameter or symbol, and for a time without bars.
    """
    check_indicators(body.strategy.rules)
    await check_bars(gateway, body)
    run_id = await start(gateway, JOB, body, principal)
    return BacktestQueued(id=run_id, run_id=run_id)


async def get_optimisations(gateway: Gateway, query: BacktestQuery) -> OptimisationPage:
    """List optimisations, the newest first."""
    return await page_of(gateway, _page, query, OptimisationPage, ("queued_at", "id"))


async def get_optimisation(gateway: Gateway, optimisation_id: UUID) -> OptimisationDetail:
    """Get an optimisation with its state, progress, table of trials, and what tells overfitting from skill.

    Raises NotFound where no optimisation has this id.
    """
    found = await _one(gateway, optimisation_id)
    result = found.pop("result") or {}
    if result.get("heat_map"):
        result["heat_map"] = f"/api/optimisations/{optimisation_id}/heat-map.svg"
    return OptimisationDetail.model_validate({**result, **shown(found)})


async def get_heat_map(gateway: Gateway, optimisation_id: UUID) -> Annotated[Response, str]:
    """Draw the objective over the first two parameters that vary, as SVG.

    Raises NotFound where no optimisation has this id, or it has no picture.
    """
    picture = ((await _one(gateway, optimisation_id))["result"] or {}).get("heat_map")
    if picture is None:
        raise NotFound(f"optimisation_id: {optimisation_id} has no heat map", field="optimisation_id")
    return Response(picture, media_type="image/svg+xml")


async def post_cancel_optimisation(gateway: Gateway, principal: Principal, optimisation_id: UUID) -> RunState:
    """Cancel an optimisation with all of its parts.

    Raises NotFound where no optimisation has this id, Conflict where it has ended, and Forbidden for one of another
    key.
    """
    check_owner(principal, await _one(gateway, optimisation_id))
    state = await change(gateway, partial(control.cancel, run_id=optimisation_id, who=principal.key_id))
    return RunState(run_id=optimisation_id, state=state)


async def _one(gateway: Gateway, optimisation_id: UUID) -> Record:
    found = await read(gateway, queries.one, optimisation_id, JOB)
    if found is None:
        raise NotFound(f"optimisation_id: there is no optimisation {optimisation_id}", field="optimisation_id")
    return found


def _page(*arguments: Any, **given: Any) -> list[Record]:
    return [shown(row) for row in queries.page(JOB)(*arguments, **given)]


endpoints = (
    Endpoint("POST", "/api/optimisations", post_optimisation, TRADE_OR_OPERATE, 202, refusals=(409,)),
    Endpoint("GET", "/api/optimisations", get_optimisations, READ),
    Endpoint("GET", "/api/optimisations/{optimisation_id}", get_optimisation, READ),
    Endpoint("GET", "/api/optimisations/{optimisation_id}/heat-map.svg", get_heat_map, READ, media="image/svg+xml"),
    Endpoint(
        "POST",
        "/api/optimisations/{optimisation_id}/cancel",
        post_cancel_optimisation,
        TRADE_OR_OPERATE,
        202,
        refusals=(409,),
    ),
)
