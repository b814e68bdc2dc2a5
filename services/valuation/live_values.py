"""The thread that publishes live values when the pause between two publications is over."""

from services.valuation import values
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

#: Symbols that another process left behind are looked for at this pace.
POLL_SECONDS = 5.0


class LiveValues(Background):
    """Publishes the values that waited for the end of a pause."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__("live values")
        self._context = context
        self._database = Outage("the database", part="live values")

    def run(self) -> None:
        pause = 0.0
        while not self.stopping.is_set():
            values.waiting.wait(POLL_SECONDS)
            self.stopping.wait(max(pause, values.PAUSE.total_seconds()))
            try:
                values.waiting.clear()
                with self._context.unit_of_work() as uow:
                    if not values.publish_changed(uow):
                        uow.after_commit.append(values.waiting.set)
                self._database.passed()
                pause = 0.0
            except DATABASE_ERRORS as error:
                pause = self._database.failed(error)
                values.waiting.set()

    def stop(self) -> None:
        self.stopping.set()
        values.waiting.set()
        super().stop()
