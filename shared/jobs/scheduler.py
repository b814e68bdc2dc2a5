"""periodiq as the tick. Its Scheduler wakes us once a second; what is due, we decide.

periodiq reads minutes, drifts over daylight saving, fires twice after a restart and forgets what it missed
while it was down. It takes any spec object that has ``validate`` and ``next_valid_date``, and any actor that
has ``options`` and ``send_with_options``: ours look into the live table and claim slots that are unique rows.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import pendulum
import structlog
from periodiq import Scheduler
from sqlalchemy.exc import SQLAlchemyError

from shared.bus.transaction import Unit
from shared.jobs import store
from shared.jobs.schedule import due_slot

log = structlog.get_logger(__name__)

#: A tick that would come sooner than this waits for the next whole second: periodiq recurses when it is late.
SHORTEST_PAUSE_SECONDS = 0.02


class Timetable:
    """The spec object of one service: due when one of its jobs has a slot that nobody has claimed."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self.due: list[store.Slot] = []

    def validate(self, _now: datetime) -> bool:
        now = self._unit.clock()
        with self._unit.engine.begin() as connection:
            jobs = store.live_jobs(connection, self._unit.service, now)
        slots = ((job, due_slot(job, now)) for job in jobs)
        self.due = [store.Slot(job.name, job.service, slot) for job, slot in slots if slot is not None]
        return bool(self.due)

    def next_valid_date(self, _now: datetime) -> pendulum.DateTime:
        """The next whole second: we look again then, so a change made through the API acts with it."""
        soon = pendulum.now().add(microseconds=int(SHORTEST_PAUSE_SECONDS * 1e6))
        return soon.replace(microsecond=0).add(seconds=1)


class Tick:
    """What periodiq takes for an actor: it claims the due slots of one service, all in one statement.

    ``woke`` is called with each wake-up and whether the database answered it.
    """

    def __init__(self, unit: Unit, woke: Callable[[bool], None] = lambda _: None) -> None:
        self._unit = unit
        self._woke = woke
        self.timetable = Timetable(unit)
        self._healthy = True

    @property
    def options(self) -> dict[str, Any]:
        return {"periodic": self}

    def __str__(self) -> str:
        return f"the due jobs of {self._unit.service}"

    def validate(self, now: datetime) -> bool:
        """Look for due slots; an error of the database is noted once and the next tick looks again."""
        try:
            due = self.timetable.validate(now)
        except SQLAlchemyError as error:
            self._note(healthy=False, error=error)
            self._woke(False)
            return False
        self._note(healthy=True)
        self._woke(True)
        return due

    def next_valid_date(self, now: datetime) -> pendulum.DateTime:
        return self.timetable.next_valid_date(now)

    def send_with_options(self, **_: object) -> None:
        try:
            with self._unit.transaction() as tx:
                store.claim(tx, self.timetable.due)
        except SQLAlchemyError as error:
            self._note(healthy=False, error=error)

    def _note(self, *, healthy: bool, error: Exception | None = None) -> None:
        if healthy != self._healthy:
            self._healthy = healthy
            report = log.info if healthy else log.warning
            report("scheduler", service=self._unit.service, healthy=healthy, error=str(error or ""))


def run_scheduler(ticks: Iterable[Tick]) -> None:
    """Tick until the process ends; owns SIGALRM, so it needs the main thread."""
    scheduler = Scheduler(list(ticks))
    scheduler.schedule()
    scheduler.loop()
