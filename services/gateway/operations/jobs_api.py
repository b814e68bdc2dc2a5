"""``/api/jobs``: seeing and steering the background jobs."""

from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

from sqlalchemy import Connection
from starlette.responses import Response

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.operations.job_control import steer, unknown_job
from services.gateway.operations.requests import Backfill, FiguresQuery, SettingChanges, Toggle, Trigger
from services.gateway.operations.schemas import (
    EffectiveSettings,
    JobDetail,
    JobFigures,
    JobStatuses,
    JobToggled,
    RunQueued,
    RunsQueued,
)
from shared.jobs.admin import control, run_queries
from shared.markets import load_market, open_markets

NEXT_SLOTS = 5


async def get_status(gateway: Gateway) -> Annotated[Response, JobStatuses]:
    """Every job with its settings, its next slot, its latest run, and the one that is under way."""
    return Response(await status_json(gateway), media_type="application/json")


async def status_json(gateway: Gateway) -> str:
    """The status of all jobs as JSON; the page's stream sends it too."""
    return f'{{"jobs": {await read(gateway, _statuses, gateway.context.clock())}}}'


def _statuses(connection: Connection, now: datetime) -> str:
    return run_queries.statuses(connection, open_markets(connection, now))


async def get_job(gateway: Gateway, name: str) -> JobDetail:
    """One job: what is declared and what operators set over it, its next five slots, and how it stands."""
    detail = await read(gateway, _detail, name, gateway.context.clock())
    if detail is None:
        raise unknown_job(name)
    return detail


def _detail(connection: Connection, name: str, now: datetime) -> JobDetail | None:
    found = run_queries.job(connection, name, open_markets(connection, now))
    if found is None:
        return None
    slots = run_queries.next_slots(connection, found["settings"], now, NEXT_SLOTS, load_market=load_market)
    return JobDetail.model_validate({**found, "next_slots": slots})


async def get_figures(gateway: Gateway, name: str, query: FiguresQuery) -> JobFigures:
    """What became of a job's runs in the last hours."""
    now = gateway.context.clock()
    since = now - timedelta(hours=query.hours)
    if not await read(gateway, run_queries.exists, name):
        raise unknown_job(name)
    found = await read(gateway, run_queries.figures, name, since=since, now=now)
    return JobFigures.model_validate({**found, "job": name, "hours": query.hours})


async def post_trigger(gateway: Gateway, principal: Principal, name: str, body: Trigger | None) -> RunQueued:
    """Run the job now, also where it is disabled or its market closed."""
    parameters = body.parameters if body else {}
    change = partial(control.trigger, job=name, parameters=parameters, who=principal.key_id)
    return RunQueued(run_id=await steer(gateway, change))


async def put_toggle(gateway: Gateway, principal: Principal, name: str, query: Toggle) -> JobToggled:
    """Enable or disable the job from now on."""
    await steer(gateway, partial(control.set_enabled, job=name, enabled=query.enabled, who=principal.key_id))
    return JobToggled(name=name, enabled=query.enabled)


async def patch_job(gateway: Gateway, principal: Principal, name: str, body: SettingChanges) -> EffectiveSettings:
    """Change settings while everything runs; null takes back what an operator set."""
    change = partial(control.edit, job=name, changes=body.root, who=principal.key_id)
    return EffectiveSettings.model_validate({"name": name, "settings": await steer(gateway, change)})


async def post_backfill(gateway: Gateway, principal: Principal, name: str, body: Backfill) -> RunsQueued:
    """Run the job for every slot of a time, one after another."""
    change = partial(
        control.backfill,
        job=name,
        begin=body.begin,
        end=body.end,
        load_market=load_market,
        parameters=body.parameters,
        who=principal.key_id,
    )
    run_ids = await steer(gateway, change)
    return RunsQueued(runs=len(run_ids), run_ids=run_ids)


endpoints = (
    Endpoint("GET", "/api/jobs/status", get_status, OPERATE),
    Endpoint("GET", "/api/jobs/{name}", get_job, OPERATE),
    Endpoint("PATCH", "/api/jobs/{name}", patch_job, OPERATE),
    Endpoint("GET", "/api/jobs/{name}/figures", get_figures, OPERATE),
    Endpoint("POST", "/api/jobs/{name}/trigger", post_trigger, OPERATE, 202),
    Endpoint("PUT", "/api/jobs/{name}/toggle", put_toggle, OPERATE),
    Endpoint("POST", "/api/jobs/{name}/backfill", post_backfill, OPERATE, 202),
)
