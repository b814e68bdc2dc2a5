"""Work with the database that a thread of its own repeats. It waits while the database is away."""

from abc import abstractmethod

from shared.background import Background
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS


class Repeated(Background):
    """A subclass implements ``step``. ``facts`` are fields of each log line about an outage, beside the ``part``."""

    def __init__(self, name: str, *, part: str | None = None, **facts: object) -> None:
        super().__init__(name)
        self._database = Outage("the database", part=part or name, **facts)

    @abstractmethod
    def step(self) -> float:
        """Do the work once, and return the seconds until the next time. Raises DATABASE_ERRORS."""

    def failed(self) -> None:
        """React to a step that ended by an error of the database."""

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                pause = self.step()
                self._database.passed()
            except DATABASE_ERRORS as error:
                self.failed()
                pause = self._database.failed(error)
            self.stopping.wait(pause)
