"""periodiq as the tick. Its Scheduler wakes us once a second; what is due, we decide.

periodiq reads minutes, drifts over daylight saving, fires twice after a restart and forgets what it missed
while it was down. It takes any spec object that has ``validate`` and ``next_valid_date``, and any actor that
has ``options`` and ``send_with_options``: ours look into the live tables and claim slots that are unique rows.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pendulum
import structlog
from periodiq import Scheduler
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from shared.bus.notify import notify_relays
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.jobs.engine import claims
from shared.jobs.engine import dispatch as dispatching
from shared.jobs.engine.parts import advance
from shared.jobs.markets import Calendar
from shared.jobs.schedule.planning import plan
from shared.outage import Outage

log = structlog.get_logger(__name__)

#: A tick that would come sooner than this waits for the next whole second: periodiq recurses when it is late.
SHORTEST_PAUSE_SECONDS = 0.02


class Tick:
    """What periodiq takes for an actor, and for its spec: once a second it moves the jobs of one service on.

    ``woke`` is called with each wake-up and whether the database answered it.
    """

    def __init__(self, context: ServiceContext, woke: Callable[[bool], None] = lambda _: None) -> None:
        self._context = context
        self._woke = woke
        self._calendar = Calendar(context.engine, context.clock)
        self._answered_since = context.clock()
        self._outage = Outage("the database", service=context.service, part="scheduler")

    @property
    def options(self) -> dict[str, Any]:
        return {"periodic": self}

    def __str__(self) -> str:
        return f"the due jobs of {self._context.service}"

    def validate(self, _now: datetime) -> bool:
        """Each wake-up is one: whether anything is due, only the locked rows can tell."""
        return True

    def next_valid_date(self, _now: datetime) -> pendulum.DateTime:
        """The next whole second: we look again then, so a change made through the API acts with it."""
        soon = pendulum.now().add(microseconds=int(SHORTEST_PAUSE_SECONDS * 1e6))
        return soon.replace(microsecond=0).add(seconds=1)

    def send_with_options(self, **_: object) -> None:
        """Move on; an error of the database is noted once and the next tick tries again."""
        try:
            self.move_on()
        except IntegrityError as error:  # another replica was first; its rows are seen by the next tick
            log.debug("a slot was taken meanwhile", error=str(error.orig))
            self._woke(True)
        except SQLAlchemyError as error:
            self._outage.failed(error)
            self._answered_since = self._context.clock()
            self._woke(False)
        else:
            self._outage.passed()
            self._woke(True)

    def move_on(self) -> None:
        """Claim what is due, send what waits for its turn, and take back what was lost."""
        self.claim_due()
        self._mend()
        with self._transaction() as uow:
            dispatching.dispatch(uow, self._context.service)

    def claim_due(self) -> int:
        """The number of runs."""
        with self._transaction() as uow:
            due = claims.due_jobs(uow.connection, self._context.service, uow.now)
            plans = [(job, plan(job, self._calendar.market(job.settings.market), uow.now)) for job in due]
            return claims.claim(uow, plans)

    @contextmanager
    def _transaction(self) -> Iterator[UnitOfWork]:
        """What it sends goes out at once: the relay is in another process."""
        with self._context.unit_of_work() as uow:
            yield uow
            if uow.outgoing:
                notify_relays(uow)

    def _mend(self) -> None:
        with self._transaction() as uow:
            lost = self._lost(uow)
            dispatching.send_again(uow, self._context.service)
            for parent in dispatching.joining_runs(uow.connection, self._context.service):
                advance(uow, parent)
        for run in lost:
            log.warning(
                "a run's worker died", job=run.job, run_id=str(run.id), worker=run.worker, again=run.state == "waiting"
            )

    def _lost(self, uow: UnitOfWork) -> list[dispatching.Lost]:
        """While the database was away nobody could say that a run lives: then they have their time once more."""
        if uow.now - self._answered_since < dispatching.LOST_AFTER:
            return []
        return dispatching.rescue_lost(uow, self._context.service)


def run_scheduler(ticks: Iterable[Tick]) -> None:
    """Tick until the process ends; owns SIGALRM, so it needs the main thread."""
    scheduler = Scheduler(list(ticks))
    scheduler.schedule()
    scheduler.loop()
