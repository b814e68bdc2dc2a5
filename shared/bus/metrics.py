"""Counters and times of the bus, for Prometheus. ``shared.observability.metrics`` adds up a replica's processes."""

import threading
import time
from typing import Any

import dramatiq
from dramatiq.broker import MessageProxy
from prometheus_client import Counter, Histogram

PUBLISHED = Counter("paperprofit_messages_published", "Messages that RabbitMQ has confirmed", ["service", "message"])
CONSUMED = Counter(
    "paperprofit_messages_consumed",
    "Messages whose handling ended: done, retried or dead",
    ["queue", "message", "outcome"],
)
RETRIED = Counter("paperprofit_messages_retried", "Tries that failed and are retried", ["queue", "message", "why"])
DEAD = Counter("paperprofit_messages_dead", "Messages that became a dead letter", ["queue", "message", "reason"])
DUPLICATES = Counter("paperprofit_inbox_duplicates", "Messages that were handled before", ["queue", "message"])
REDELIVERED = Counter("paperprofit_messages_redelivered", "Messages that RabbitMQ delivered again", ["queue"])
STALE = Counter("paperprofit_updates_stale", "Updates dropped because a newer one was applied", ["consumer"])
EARLY = Counter("paperprofit_updates_early", "Updates dropped because they are far ahead", ["consumer"])
REFUSED_PRICES = Counter(
    "paperprofit_prices_refused", "Prices that failed a check and changed nothing", ["provider", "reason"]
)
PARKED = Counter("paperprofit_messages_parked", "Messages that arrived before their turn and were parked", ["queue"])
UNORDERED = Counter(
    "paperprofit_messages_unordered", "Messages handled although their predecessor never came", ["queue"]
)
RECONNECTS = Counter("paperprofit_reconnects", "Connections that were lost and restored", ["service", "to"])

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WAIT = Histogram(
    "paperprofit_message_wait_seconds",
    "Time from the making of a message to a try to handle it, with the pauses before retries",
    ["queue"],
    buckets=_SECONDS,
)
HANDLING = Histogram(
    "paperprofit_message_handling_seconds", "Time of one try to handle a message", ["queue"], buckets=_SECONDS
)


class Times(dramatiq.Middleware):
    """Measures how long messages wait and how long they are handled. A thread handles one at a time."""

    def __init__(self) -> None:
        self._handled = threading.local()

    def before_process_message(self, _broker: dramatiq.Broker, message: MessageProxy) -> None:
        made_at = message.message_timestamp
        if isinstance(made_at, int):
            WAIT.labels(_queue(message)).observe(max(0.0, time.time() - made_at / 1000))
        self._handled.began = time.perf_counter()

    def after_process_message(
        self,
        _broker: dramatiq.Broker,
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002 - dramatiq's signature
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        HANDLING.labels(_queue(message)).observe(time.perf_counter() - self._handled.began)


def _queue(message: MessageProxy) -> str:
    return str(message.queue_name).removesuffix(".DQ")
