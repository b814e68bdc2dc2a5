"""Notify the relays of other processes, so that they send a scheduler's messages at once and not at their next poll.

A commit notifies the relay of its own process by an event. The scheduler's process has no relay, and the relay that
owns the outbox may be in another replica, so PostgreSQL notifies it. Only the tick does so, at most once a second,
because a NOTIFY makes commits wait for each other.
"""

from sqlalchemy import text

from shared.background import Background
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

LOOK_SECONDS = 0.5


def notify_relays(uow: UnitOfWork) -> None:
    """Notify the relays of the service with the commit."""
    uow.connection.execute(_NOTIFY, {"channel": _channel(uow.schema)})


class NotificationListener(Background):
    """Listens in a worker process. After a lost notification, the relay finds the rows at its next poll."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__(f"notifications-{context.service}")
        self._context = context
        self._outage = Outage("the database", service=context.service, part="notifications")

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._listen()
            except DATABASE_ERRORS as error:
                self.stopping.wait(self._outage.failed(error))

    def _listen(self) -> None:
        with self._context.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"LISTEN {_channel(self._context.service)}")
            self._outage.passed()
            driver = connection.connection.driver_connection
            try:
                while driver is not None and not self.stopping.is_set():
                    for _ in driver.notifies(timeout=LOOK_SECONDS, stop_after=1):
                        self._context.committed.set()
            finally:
                connection.invalidate()  # a listening session must not go back to the pool


def _channel(service: str) -> str:
    return f"paperprofit_{service}_outbox"


_NOTIFY = text("SELECT pg_notify(:channel, '')")
