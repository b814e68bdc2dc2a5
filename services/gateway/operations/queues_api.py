"""``/api/queues``: the depth and rates of each queue, and pausing its workers."""

from functools import partial

from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Word
from services.gateway.operations.job_control import change
from services.gateway.operations.monitoring_schemas import Figures, Queue, QueuePaused, Queues
from shared.bus.amqp.management import ManagementRefused
from shared.bus.amqp.queue_stats import QueueStats
from shared.contracts.routing import QUEUES
from shared.jobs.admin import control, log_queries
from shared.storage.keyset import Record

NO_FIGURES = "PAPERPROFIT_RABBITMQ_MANAGEMENT_URL is not set; set it to see the queues' figures"


async def get_queues(gateway: Gateway) -> Queues:
    """List every queue: paused or not, and its depth, rates, consumers and oldest message if RabbitMQ answers."""
    figures: dict[str, QueueStats] = {}
    why = None
    if gateway.queue_figures is None:
        why = NO_FIGURES
    else:
        try:
            figures = {each.queue: each for each in await run_in_threadpool(gateway.queue_figures)}
        except (ManagementRefused, OSError) as error:
            why = f"RabbitMQ's management API did not answer: {error}"
    pauses = await read(gateway, log_queries.paused_queues)
    names = sorted({*QUEUES, *figures})
    return Queues(items=[_queue(name, figures.get(name), pauses.get(name)) for name in names], why=why)


def _queue(name: str, figures: QueueStats | None, pause: Record | None) -> Queue:
    return Queue(
        queue=name,
        pausable=name in QUEUES,
        paused=bool(pause and pause["paused"]),
        changed_at=pause["changed_at"] if pause else None,
        changed_by=pause["changed_by"] if pause else None,
        figures=None if figures is None else Figures.model_validate(figures, from_attributes=True),
    )


async def post_pause(gateway: Gateway, principal: Principal, name: Word) -> QueuePaused:
    """Pause a queue: its workers finish the messages that they have, and take no more."""
    await change(gateway, partial(control.set_queue_paused, queue=name, paused=True, who=principal.key_id))
    return QueuePaused(queue=name, paused=True)


async def post_resume(gateway: Gateway, principal: Principal, name: Word) -> QueuePaused:
    """Resume a paused queue."""
    await change(gateway, partial(control.set_queue_paused, queue=name, paused=False, who=principal.key_id))
    return QueuePaused(queue=name, paused=False)


endpoints = (
    Endpoint("GET", "/api/queues", get_queues, OPERATE),
    Endpoint("POST", "/api/queues/{name}/pause", post_pause, OPERATE),
    Endpoint("POST", "/api/queues/{name}/resume", post_resume, OPERATE),
)
