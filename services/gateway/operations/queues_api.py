"""``/api/queues``: what waits in each queue, and holding its workers back."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.operations.job_control import steer
from services.gateway.operations.monitoring_schemas import Figures, Queue, QueuePaused, Queues
from shared.bus.amqp.management import ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats
from shared.contracts.routing import QUEUES
from shared.jobs.admin import control, log_queries
from shared.storage.keyset import Record

NO_FIGURES = "PAPERPROFIT_RABBITMQ_MANAGEMENT_URL is not set, so RabbitMQ cannot be asked"


async def get_queues(gateway: Gateway) -> Queues:
    """Every queue: whether it is paused, and where they can be had, its depth, rates, consumers and oldest message."""
    figures, why = await _figures(gateway)
    pauses = await read(gateway, log_queries.paused_queues)
    names = sorted({*QUEUES, *figures})
    return Queues(items=[_queue(name, figures, pauses.get(name)) for name in names], why=why)


async def _figures(gateway: Gateway) -> tuple[Mapping[str, QueueStats], str | None]:
    """The figures by queue, or why there are none."""
    if gateway.queue_figures is None:
        return {}, NO_FIGURES
    try:
        found = await run_in_threadpool(gateway.queue_figures)
    except (ManagementRefused, OSError) as error:
        return {}, f"RabbitMQ's management API did not answer: {error}"
    return {each.queue: each for each in found}, None


def _queue(name: str, figures: Mapping[str, QueueStats], pause: Record | None) -> Queue:
    told = asdict(figures[name]) if name in figures else {}
    return Queue(
        queue=name,
        pausable=name in QUEUES,
        paused=bool(pause and pause["paused"]),
        changed_at=pause["changed_at"] if pause else None,
        changed_by=pause["changed_by"] if pause else None,
        figures=Figures.model_validate({field: told[field] for field in Figures.model_fields}) if told else None,
    )


async def post_pause(gateway: Gateway, principal: Principal, name: str) -> QueuePaused:
    """Let the queue's workers take nothing more from it; what they have begun, they finish."""
    return await _set_paused(gateway, principal, name, paused=True)


async def post_resume(gateway: Gateway, principal: Principal, name: str) -> QueuePaused:
    """Let the queue's workers go on."""
    return await _set_paused(gateway, principal, name, paused=False)


async def _set_paused(gateway: Gateway, principal: Principal, name: str, *, paused: bool) -> QueuePaused:
    await steer(gateway, partial(control.set_queue_paused, queue=name, paused=paused, who=principal.key_id))
    return QueuePaused(queue=name, paused=paused)


endpoints = (
    Endpoint("GET", "/api/queues", get_queues, OPERATE),
    Endpoint("POST", "/api/queues/{name}/pause", post_pause, OPERATE),
    Endpoint("POST", "/api/queues/{name}/resume", post_resume, OPERATE),
)
