"""The gateway's own old rows. It has no jobs, so they are removed beside its requests, once an hour."""

from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.maintenance import Keep, OldRows, engine_rows, remove
from shared.outage import Outage

EVERY_SECONDS = 3600.0
#: Browser sessions that have expired, and orders that were handed in and answered long ago.
OWN = (
    OldRows("gateway.sessions", "expires_at < :before", timedelta(0)),
    OldRows("gateway.submissions", "answered_at < :before", timedelta(days=30)),
)


class Housekeeping(Background):
    def __init__(self, context: ServiceContext) -> None:
        super().__init__("housekeeping")
        self._context = context
        self._database = Outage("the database", part="housekeeping")

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.remove_old_rows()
                self._database.passed()
                pause = EVERY_SECONDS
            except SQLAlchemyError as error:
                pause = self._database.failed(error)
            self.stopping.wait(pause)

    def remove_old_rows(self) -> dict[str, int]:
        return remove(self._context, [*engine_rows(self._context.service, Keep()), *OWN])
