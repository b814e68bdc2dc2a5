"""Messages that are handled in order: each names the one before it, and waits until that has been handled.

Most often that one is in the hands of another thread and done within milliseconds. If not, the message comes back
later. One whose predecessor never comes (its queue was wiped) goes ahead in the end, and is counted.
"""

import time

import structlog
from dramatiq.common import current_millis

from shared.bus.envelope import actor_name
from shared.bus.metrics import UNORDERED
from shared.bus.retries import TryAgainLater
from shared.bus.transaction import Unit
from shared.contracts.routing import QUEUES

log = structlog.get_logger(__name__)

#: Looks that a thread takes before it gives the message back, and the time between them.
LOOKS = 8
LOOK_SECONDS = 0.002
FIRST_PAUSE_MS = 10
#: Longer than all tries of a predecessor that fails take together.
PATIENCE_MS = 45_000


def wait_for(message_id: str, queue: str, unit: Unit, *, since: int | None) -> None:
    """Return when the message has been handled by the queue's actors, or is dead; raises TryAgainLater before that.

    ``since`` is when this was waited for the first time, in milliseconds since 1970.
    """
    consumers = [actor_name(queue, message.wire_name()) for message in QUEUES[queue].messages]
    for look in range(LOOKS):
        if look:
            time.sleep(LOOK_SECONDS)
        with unit.transaction() as tx:
            if tx.is_settled(consumers, message_id):
                return
    waited = 0 if since is None else current_millis() - since
    if waited < PATIENCE_MS:
        raise TryAgainLater(
            f"message {message_id} comes first",
            pause_ms=FIRST_PAUSE_MS + waited // 4,
            options={"waits_since": current_millis() if since is None else since},
        )
    log.warning("the message before this one never came", queue=queue, missing=message_id)
    UNORDERED.labels(queue).inc()
