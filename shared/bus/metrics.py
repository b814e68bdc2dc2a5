"""Counters of the bus, for Prometheus. ``shared.observability.metrics`` adds up the processes of a replica."""

from prometheus_client import Counter

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
PARKED = Counter("paperprofit_messages_parked", "Messages that arrived before their turn and were parked", ["queue"])
UNORDERED = Counter(
    "paperprofit_messages_unordered", "Messages handled although their predecessor never came", ["queue"]
)
RECONNECTS = Counter("paperprofit_reconnects", "Connections that were lost and restored", ["service", "to"])
