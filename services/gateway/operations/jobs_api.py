"""``/api/jobs``: the status, settings and figures of the background jobs, and their control."""

from datetime import timedelta
from functools import partial
from typing import Annotated

from starlette.responses import Response

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Word
from services.gateway.operations.job_control import change, unknown_job
from services.gateway.operations.requests import Backfill, FiguresQuery, SettingChanges, Toggle, Trigger
from services.gateway.operations.schemas import (
    EffectiveSettings,
    JobDetail,
    JobFigures,
    JobStatuses,
    JobToggled,
    RunQueued,
    RunsQueued,
    WaitingFor,
)
from shared.jobs.admin import control, run_queries, waiting
from shared.jobs.admin.removal import remove
from shared.markets import load_market, open_markets

NEXT_SLOTS = 5


async def get_status(gateway: Gateway) -> Annotated[Response, JobStatuses]:
    """List every job with its settings, its next slot, its latest run and its active run."""
    return Response(await status_json(gateway), media_type="application/json")


async def status_json(gateway: Gateway) -> str:
    """Return the status of all jobs as JSON. The stream of the page sends it too."""
    now = gateway.context.clock()
    open_now = await read(gateway, open_markets, now)
    return f'{{"jobs": {await read(gateway, run_queries.statuses, open_now)}}}'


async def get_job(gateway: Gateway, name: Word) -> JobDetail:
    """Get a job's status, its declared settings, the operators' overrides, its next five slots, and for what it waits.

    Raises NotFound where no service has declared the job.
    """
    now = gateway.context.clock()
    markets = await read(gateway, open_markets, now)
    job = await read(gateway, run_queries.job, name, markets)
    if job is None:
        raise unknown_job(name)
    count = 0 if job["retired_at"] else NEXT_SLOTS
    slots = await read(gateway, run_queries.next_slots, job["settings"], now, count, load_market=load_market)
    waits = WaitingFor.of(await read(gateway, waiting.of_job, name, now, open_markets=markets))
    return JobDetail.model_validate({**job, "next_slots": slots, "waiting": waits})


async def get_figures(gateway: Gateway, name: Word, query: FiguresQuery) -> JobFigures:
    """Get outcomes, durations and lateness of a job's runs in the last hours.

    Raises NotFound where no service has declared the job.
    """
    now = gateway.context.clock()
    if not await read(gateway, run_queries.exists, name):
        raise unknown_job(name)
    figures = await read(gateway, run_queries.figures, name, since=now - timedelta(hours=query.hours), now=now)
    return JobFigures.model_validate({**figures, "job": name, "hours": query.hours})


async def post_trigger(gateway: Gateway, principal: Principal, name: Word, body: Trigger | None) -> RunQueued:
    """Queue a run now, even if the job is disabled or its market is closed."""
    parameters = body.parameters if body else {}
    trigger = partial(control.trigger, job=name, parameters=parameters, who=principal.key_id)
    return RunQueued(run_id=await change(gateway, trigger))


async def put_toggle(gateway: Gateway, principal: Principal, name: Word, query: Toggle) -> JobToggled:
    """Enable or disable a job."""
    toggle = partial(
        control.set_enabled, job=name, enabled=query.enabled, load_market=load_market, who=principal.key_id
    )
    await change(gateway, toggle)
    return JobToggled(name=name, enabled=query.enabled)


async def patch_job(gateway: Gateway, principal: Principal, name: Word, body: SettingChanges) -> EffectiveSettings:
    """Override settings while everything runs. Null removes an override."""
    edit = partial(control.edit, job=name, changes=body.root, load_market=load_market, who=principal.key_id)
    return EffectiveSettings.model_validate({"name": name, "settings": await change(gateway, edit)})


async def delete_job(gateway: Gateway, principal: Principal, name: Word) -> None:
    """Remove a job that no replica declares any more. Its unfinished runs are canceled, and its history stays."""
    await change(gateway, partial(remove, job=name, who=principal.key_id))


async def post_backfill(gateway: Gateway, principal: Principal, name: Word, body: Backfill) -> RunsQueued:
    """Queue a run for every slot of a period. The runs follow each other, the oldest slot first."""
    backfill = partial(
        control.backfill,
        job=name,
        begin=body.begin,
        end=body.end,
        load_market=load_market,
        parameters=body.parameters,
        who=principal.key_id,
    )
    run_ids = await change(gateway, backfill)
    return RunsQueued(runs=len(run_ids), run_ids=run_ids)


endpoints = (
    Endpoint("GET", "/api/jobs/status", get_status, OPERATE),
    Endpoint("GET", "/api/jobs/{name}", get_job, OPERATE),
    Endpoint("PATCH", "/api/jobs/{name}", patch_job, OPERATE),
    Endpoint("DELETE", "/api/jobs/{name}", delete_job, OPERATE, 204, refusals=(409,)),
    Endpoint("GET", "/api/jobs/{name}/figures", get_figures, OPERATE),
    Endpoint("POST", "/api/jobs/{name}/trigger", post_trigger, OPERATE, 202, refusals=(409,)),
    Endpoint("PUT", "/api/jobs/{name}/toggle", put_toggle, OPERATE),
    Endpoint("POST", "/api/jobs/{name}/backfill", post_backfill, OPERATE, 202, refusals=(409,)),
)
