"""``/api/jobs``: seeing and steering the background jobs."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway.errors import Invalid, NotFound
from services.gateway.keys import OPERATE, Principal
from services.gateway.requests import Gateway, guarded, read
from services.gateway.shapes import moment
from shared.jobs import store
from shared.jobs.interval import format_interval
from shared.jobs.schedule import slot_at

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


async def get_status(gateway: Gateway, _request: Request, _principal: Principal) -> Response:
    return JSONResponse({"jobs": await read(gateway, statuses, gateway.unit.clock())})


async def post_trigger(gateway: Gateway, request: Request, principal: Principal) -> Response:
    """Queue a run; it is accepted with its id, under which its outcome can be seen."""
    run_id = await run_in_threadpool(_trigger, gateway, request.path_params["name"], principal)
    return JSONResponse({"run_id": str(run_id)}, 202)


async def put_toggle(gateway: Gateway, request: Request, principal: Principal) -> Response:
    name = request.path_params["name"]
    enabled = _BOOLEANS.get(request.query_params.get("enabled", "").lower())
    if enabled is None:
        raise Invalid("enabled: must be true or false", field="enabled")
    await run_in_threadpool(_toggle, gateway, name, enabled, principal)
    return JSONResponse({"name": name, "enabled": enabled})


def _trigger(gateway: Gateway, name: str, principal: Principal) -> UUID:
    try:
        with gateway.unit.transaction() as tx:
            return store.trigger(tx, name, parameters={}, who=principal.key_id)
    except store.UnknownJob:
        raise _unknown(name) from None


def _toggle(gateway: Gateway, name: str, enabled: bool, principal: Principal) -> None:
    try:
        with gateway.unit.transaction() as tx:
            store.set_enabled(tx, name, enabled=enabled, who=principal.key_id)
    except store.UnknownJob:
        raise _unknown(name) from None


def _unknown(name: str) -> NotFound:
    return NotFound(f"name: there is no job named {name[:100]!r}; GET /api/jobs/status lists them", field="name")


def statuses(connection: Connection, now: datetime) -> list[dict[str, Any]]:
    """Every job with its settings, its next slot and its latest run, as JSON."""
    return [_status_json(row._mapping, now) for row in store.status(connection, now)]  # noqa: SLF001


def _status_json(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    interval = timedelta(seconds=row["interval_seconds"])
    runs = row["enabled"] and (row["market_open"] or not row["market_hours_only"])
    return {
        "name": row["name"],
        "service": row["service"],
        "description": row["description"],
        "enabled": row["enabled"],
        "interval": format_interval(interval),
        "market": row["market"],
        "market_hours_only": row["market_hours_only"],
        "market_open": row["market_open"],
        "next_slot": moment(slot_at(now, interval) + interval) if runs else None,
        "last_run": None if row["run_id"] is None else _run_json(row),
    }


def _run_json(row: Mapping[str, Any]) -> dict[str, Any]:
    error = row["error"]
    return {
        "id": str(row["run_id"]),
        "trigger": row["trigger"],
        "scheduled_for": moment(row["scheduled_for"]),
        "queued_at": moment(row["queued_at"]),
        "started_at": moment(row["started_at"]),
        "finished_at": moment(row["finished_at"]),
        "attempt": row["attempt"],
        "worker": row["worker"],
        "outcome": row["outcome"],
        "error": error.strip().splitlines()[-1] if error else None,
        "counts": row["counts"],
    }


routes = [
    Route("/api/jobs/status", guarded(get_status, OPERATE), methods=["GET"]),
    Route("/api/jobs/{name}/trigger", guarded(post_trigger, OPERATE), methods=["POST"]),
    Route("/api/jobs/{name}/toggle", guarded(put_toggle, OPERATE), methods=["PUT"]),
]
