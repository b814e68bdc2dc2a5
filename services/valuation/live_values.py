"""The thread that publishes live values when the pause between two publications is over."""

from services.valuation import values
from shared.bus.unit_of_work import ServiceContext
from shared.repeated import Repeated

#: Symbols that another process left behind are looked for at this pace.
POLL_SECONDS = 5.0


class LiveValues(Repeated):
    """Publishes the values that waited for the end of a pause."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__("live values")
        self._context = context

    def step(self) -> float:
        values.waiting.wait(POLL_SECONDS)
        self.stopping.wait(values.PAUSE.total_seconds())
        values.waiting.clear()
        with self._context.unit_of_work() as uow:
            if not values.publish_changed(uow):
                uow.after_commit.append(values.waiting.set)
        return 0.0

    def failed(self) -> None:
        values.waiting.set()

    def stop(self) -> None:
        self.stopping.set()
        values.waiting.set()
        super().stop()
