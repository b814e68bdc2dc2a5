"""The relay: sends what stands in a service's outbox, and removes it once it is confirmed.

Each relay owns shards of the outbox by advisory locks of its session, so several replicas run one at once and
never send the same row twice at a time; the locks of a dead one are free at once. Rows of one key are sent in
the order of their ids. Confirms are awaited in windows, not one by one.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from uuid import UUID
from zlib import crc32

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.bus.envelope import Outgoing
from shared.bus.outbox import SHARDS
from shared.bus.publisher import Unroutable

log = structlog.get_logger(__name__)

WINDOW = 1000
PAUSE_AFTER_FAILURE_SECONDS = 0.5
Send = Callable[[Outgoing], "Future[None]"]


class Relay(Background):
    """``wake`` is set by whoever commits messages; rows of other processes are found within ``poll`` seconds."""

    def __init__(self, engine: Engine, schema: str, send: Send, wake: threading.Event, *, poll: float) -> None:
        super().__init__(f"relay-{schema}")
        self._engine = engine
        self._schema = schema
        self._send = send
        self._wake = wake
        self._poll = poll
        self._shards: list[int] = []
        self._sent: dict[int, Future[None]] = {}
        self._healthy: bool | None = None

    def stop(self) -> None:
        self.stopping.set()
        self._wake.set()
        super().stop()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    self._relay_on(connection)
            except SQLAlchemyError as error:
                self._note(healthy=False, error=error)
                self.stopping.wait(PAUSE_AFTER_FAILURE_SECONDS)

    def _relay_on(self, connection: Connection) -> None:
        self._shards, self._sent = [], {}
        try:
            while not self.stopping.is_set():
                self._wake.clear()
                self._lock_shards(connection)
                more = self._send_window(connection)
                if self._remove_confirmed(connection):
                    self._note(healthy=True)
                if not more and not any(future.done() for future in self._sent.values()):
                    self._wake.wait(self._poll)
        finally:
            connection.invalidate()  # its advisory locks must not go back to the pool

    def _lock_shards(self, connection: Connection) -> None:
        if len(self._shards) == SHARDS:
            return
        wanted = [shard for shard in range(SHARDS) if shard not in self._shards]
        rows = connection.execute(_LOCK, {"namespace": _namespace(self._schema), "shards": wanted})
        self._shards += [row.shard for row in rows if row.locked]

    def _send_window(self, connection: Connection) -> bool:
        """Send what is not under way yet; whether there may be more."""
        room = WINDOW - len(self._sent)
        if not self._shards or room <= 0:
            return False
        rows = connection.execute(
            text(_NEXT.format(schema=self._schema)),
            {"shards": self._shards, "under_way": list(self._sent), "room": room},
        ).all()
        for row in rows:
            future = self._send(
                Outgoing(UUID(str(row.message_id)), row.exchange, row.routing_key, row.key, row.body, row.mandatory)
            )
            self._sent[row.id] = future
            future.add_done_callback(lambda _: self._wake.set())
        return len(rows) == room

    def _remove_confirmed(self, connection: Connection) -> bool:
        """Remove what was confirmed; False when something failed, which is then sent again."""
        done = {id_: future for id_, future in self._sent.items() if future.done()}
        confirmed = [id_ for id_, future in done.items() if future.exception() is None]
        if confirmed:
            connection.execute(text(f"DELETE FROM {self._schema}.outbox WHERE id = ANY(:ids)"), {"ids": confirmed})
        failed = [future.exception() for future in done.values() if future.exception() is not None]
        for id_ in done:
            del self._sent[id_]
        if failed:
            self._note(healthy=False, error=failed[0])
            self.stopping.wait(PAUSE_AFTER_FAILURE_SECONDS)
        return not failed

    def _note(self, *, healthy: bool, error: BaseException | None = None) -> None:
        """One log line per change of state, not one per attempt."""
        if healthy == self._healthy or (healthy and self._sent):
            return
        self._healthy = healthy
        if healthy:
            log.info("relay sends", service=self._schema, shards=len(self._shards))
        else:
            kind = "a consumer is missing" if isinstance(error, Unroutable) else "waiting"
            log.warning("relay cannot send", service=self._schema, why=kind, error=str(error).splitlines()[0])


def _namespace(schema: str) -> int:
    """The first key of the advisory locks, a signed 32-bit number."""
    return crc32(f"outbox:{schema}".encode()) - 2**31


_LOCK = text("""
SELECT shard, pg_try_advisory_lock(:namespace, shard) AS locked FROM unnest(CAST(:shards AS int[])) AS shard
""")
_NEXT = """
SELECT id, message_id, exchange, routing_key, key, mandatory, body FROM {schema}.outbox
WHERE shard = ANY(:shards) AND NOT id = ANY(CAST(:under_way AS bigint[])) ORDER BY id LIMIT :room
"""
