"""Statistics of the queues: depth, rates, consumers and the age of the oldest message.

A deployment reads them from RabbitMQ's management API, the embedded run from its broker.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.bus.amqp.management import Management, quoted
from shared.bus.amqp.topology import logical_name

_LAST_MINUTE = "msg_rates_age=60&msg_rates_incr=5"


@dataclass(frozen=True)
class QueueStats:
    """Statistics of one queue. Rates are per second, averaged over the last minute at most.

    ``oldest_age`` is the age of the oldest waiting message in seconds. It is None where no message waits, and for
    replicated queues, for which RabbitMQ does not report it.
    """

    queue: str
    ready: int
    unacknowledged: int
    consumers: int
    rate_in: float
    rate_out: float
    oldest_age: float | None


def queue_stats(management: Management, vhost: str, now: datetime) -> list[QueueStats]:
    """Statistics of all queues of the virtual host, by logical name and sorted, a few seconds old.

    Raises ManagementRefused or OSError where the management API does not answer.
    """
    stats = []
    for queue in management.call("GET", f"queues/{quoted(vhost)}?{_LAST_MINUTE}"):
        ready, rates = queue.get("messages_ready", 0), queue.get("message_stats", {})
        head = queue.get("head_message_timestamp")  # seconds since 1970
        waits = ready and isinstance(head, int)
        stats.append(
            QueueStats(
                queue=logical_name(queue["name"]),
                ready=ready,
                unacknowledged=queue.get("messages_unacknowledged", 0),
                consumers=queue.get("consumers", 0),
                rate_in=_rate(rates, "publish"),
                rate_out=_rate(rates, "ack"),
                oldest_age=max(0.0, (now - datetime.fromtimestamp(head, UTC)).total_seconds()) if waits else None,
            )
        )
    return sorted(stats, key=lambda each: each.queue)


def _rate(rates: dict[str, Any], event: str) -> float:
    return float(rates.get(f"{event}_details", {}).get("avg_rate", 0.0))
