"""What the bus counts, for Prometheus. ``shared.observability.metrics`` adds up the processes of a replica."""

from prometheus_client import Counter

PUBLISHED = Counter("paperprofit_messages_published", "Messages that RabbitMQ has confirmed", ["service", "message"])
CONSUMED = Counter(
    "paperprofit_messages_consumed",
    "Messages whose handling ended: done, duplicate, retried, dead, or left to be delivered again",
    ["queue", "message", "outcome"],
)
RETRIED = Counter("paperprofit_messages_retried", "Tries that failed and come again", ["queue", "message", "why"])
DEAD = Counter("paperprofit_messages_dead", "Messages that became a dead letter", ["queue", "message", "reason"])
DUPLICATES = Counter(
    "paperprofit_inbox_duplicates", "Messages whose effect was in the database already", ["queue", "message"]
)
REDELIVERED = Counter("paperprofit_messages_redelivered", "Messages that RabbitMQ delivered again", ["queue"])
STALE = Counter("paperprofit_updates_stale", "Updates dropped because a newer one was applied before", ["consumer"])
PARKED = Counter("paperprofit_messages_parked", "Messages that came before their turn and wait for it", ["queue"])
UNORDERED = Counter(
    "paperprofit_messages_unordered", "Messages handled though the one before them never came", ["queue"]
)
RECONNECTS = Counter("paperprofit_reconnects", "Connections that were lost and made again", ["service", "to"])
