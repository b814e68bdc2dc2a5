"""What an operator wants to know of each queue: how much waits, how fast it moves, how old the oldest is, who works.

From RabbitMQ's management API for a deployment, from the broker itself for the embedded run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.bus.amqp.management import Management, quoted
from shared.bus.amqp.topology import logical_name

_LAST_MINUTE = "msg_rates_age=60&msg_rates_incr=5"


@dataclass(frozen=True)
class QueueFigures:
    """Of one queue. Rates are per second, averaged over the last minute at most.

    ``oldest_age`` is that of the oldest message that waits, in seconds; None where nothing waits, or where RabbitMQ
    does not tell (replicated queues).
    """

    queue: str
    ready: int
    unacknowledged: int
    consumers: int
    rate_in: float
    rate_out: float
    oldest_age: float | None


def queue_figures(management: Management, vhost: str, now: datetime) -> list[QueueFigures]:
    """All queues of the virtual host under the names that the services use, sorted; as of a few seconds ago.

    Raises ManagementRefused or OSError where the management API does not answer.
    """
    listed: Iterable[dict[str, Any]] = management.call("GET", f"queues/{quoted(vhost)}?{_LAST_MINUTE}")
    return sorted((_figures(queue, now) for queue in listed), key=lambda figures: figures.queue)


def _figures(queue: dict[str, Any], now: datetime) -> QueueFigures:
    rates: dict[str, Any] = queue.get("message_stats", {})
    head = queue.get("head_message_timestamp")
    return QueueFigures(
        queue=logical_name(queue["name"]),
        ready=queue.get("messages_ready", 0),
        unacknowledged=queue.get("messages_unacknowledged", 0),
        consumers=queue.get("consumers", 0),
        rate_in=_rate(rates, "publish"),
        rate_out=_rate(rates, "ack"),
        oldest_age=_age(head, now) if isinstance(head, int) and queue.get("messages_ready") else None,
    )


def _rate(stats: dict[str, Any], what: str) -> float:
    return float(stats.get(f"{what}_details", {}).get("avg_rate", 0.0))


def _age(timestamp: int, now: datetime) -> float:
    return max(0.0, (now - datetime.fromtimestamp(timestamp, UTC)).total_seconds())
