"""Waking the relays of other processes: what a scheduler has committed goes out at once, not with the next poll.

A commit of its own process wakes a relay by an event. The scheduler's process has no relay, and the one that holds the
outbox may be in another replica: PostgreSQL tells it. Only the tick does so, once a second at the most, since a NOTIFY
makes commits wait for each other.
"""

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.outage import Outage

LOOK_SECONDS = 0.5


def notify_relays(uow: UnitOfWork) -> None:
    """With the commit, the relays of the service look into its outbox."""
    uow.connection.execute(_NOTIFY, {"channel": _channel(uow.schema)})


class NotificationListener(Background):
    """Listens in a worker process; a notice that is lost costs what the relay's poll takes."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__(f"wake-{context.service}")
        self._context = context
        self._outage = Outage("the database", service=context.service, part="wake")

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._listen()
            except (SQLAlchemyError, psycopg.Error) as error:
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
                connection.invalidate()  # what it listens to must not go back to the pool


def _channel(service: str) -> str:
    return f"paperprofit_{service}_outbox"


_NOTIFY = text("SELECT pg_notify(:channel, '')")
