"""periodiq as the tick: its Scheduler wakes up once a second, and the tick decides which jobs are due.

periodiq alone reads minutes, drifts over daylight saving, fires twice after a restart and forgets the slots that it
missed while it was down. It takes any spec object that has ``validate`` and ``next_valid_date``, and any actor that has
``options`` and ``send_with_options``. Ours read the jobs' rows and claim slots that are unique rows.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any

import pendulum
import structlog
from periodiq import Scheduler
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from shared.bus.notify import notify_relays
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.jobs.engine import claims
from shared.jobs.engine import dispatch as dispatching
from shared.jobs.engine.joins import settle
from shared.jobs.engine.parts import advance
from shared.jobs.schedule.calendar import Calendar
from shared.jobs.schedule.planning import plan
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

#: A tick that would come sooner than this waits for the next whole second: periodiq recurses when it is late.
SHORTEST_PAUSE_SECONDS = 0.02
#: The loop ticks at least this often, whatever became of its alarm.
LONGEST_PAUSE_SECONDS = 2.0
#: After this many ticks with no longer pause between two of them, a scheduler may judge others.
WATCHED_TICKS, GAP = 10, timedelta(seconds=5)


class LossWatch:
    """Tells when this scheduler has itself run for long enough without a gap to call the worker of a run dead.

    It counts ticks, and takes their time from PostgreSQL's clock. A machine that slept, processes that were stopped and
    a clock that was set forward or back all make a gap.
    """

    def __init__(self) -> None:
        self._ticks = 0
        self._last: datetime | None = None

    def may_judge(self, now: datetime) -> bool:
        """Count a tick at this time of PostgreSQL's clock."""
        if self._last is None or not timedelta(0) <= now - self._last <= GAP:
            self._ticks = 0
        self._ticks += 1
        self._last = now
        return self._ticks > WATCHED_TICKS

    def restart(self) -> None:
        """Count again from the next tick."""
        self._last = None


class Tick:
    """The periodiq actor and spec of one service: once a second it starts the jobs that are due.

    ``ticked`` is called after each tick, and is told whether the database answered.
    """

    def __init__(
        self, context: ServiceContext, calendar: Calendar, ticked: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._context = context
        self._calendar = calendar
        self._ticked = ticked
        #: Markets whose sessions have changed, until their jobs are due again.
        self._changed: set[str] = set()
        #: Grows with each step of the loop.
        self.progress = 0
        #: When the database last answered a tick, in seconds since 1970.
        self.answered_at = 0.0
        self._watch = LossWatch()
        self._outage = Outage("the database", service=context.service, part="scheduler")

    @property
    def options(self) -> dict[str, Any]:
        """The actor options that periodiq reads: this object is its own spec."""
        return {"periodic": self}

    def __str__(self) -> str:
        return f"the due jobs of {self._context.service}"

    def validate(self, _now: datetime) -> bool:
        """Tick at each wake-up: only the locked rows tell whether anything is due."""
        return True

    def next_valid_date(self, _now: datetime) -> pendulum.DateTime:
        """Tick again at the next whole second, so a change through the API takes effect with it."""
        soon = pendulum.now().add(microseconds=int(SHORTEST_PAUSE_SECONDS * 1e6))
        return soon.replace(microsecond=0).add(seconds=1)

    def send_with_options(self, **_: object) -> None:
        """Run one tick. A database error is logged once, and the next tick tries again."""
        try:
            self.run()
        except IntegrityError as error:  # another replica was first; the next tick sees its rows
            log.debug("another replica claimed a slot first", error=str(error.orig))
            self._end(answered=True)
        except DATABASE_ERRORS as error:
            self._outage.failed(error)
            self._watch.restart()
            self._end(answered=False)
        else:
            self._outage.passed()
            self._end(answered=True)

    def _end(self, *, answered: bool) -> None:
        self.progress += 1
        if answered:
            self.answered_at = self._context.clock().timestamp()
        self._ticked(answered)

    def run(self) -> None:
        """Retire jobs, claim due slots, rescue lost runs and messages, and dispatch the runs whose turn has come.

        Raises SQLAlchemyError if the database is down.
        """
        with self._transaction() as uow:
            claims.retire(uow.connection, self._context.service)
        self.claim_due()
        self._rescue()
        with self._transaction() as uow:
            dispatching.dispatch(uow, self._context.service)

    def claim_due(self) -> int:
        """Plan the due jobs, save the plans, and return the number of new runs.

        The jobs of a market whose sessions have changed are due.
        """
        self._changed.update(self._calendar.changed())
        with self._transaction() as uow:
            if self._changed:
                claims.plan_again(uow.connection, self._context.service, self._changed)
            due = claims.due_jobs(uow.connection, self._context.service, uow.now)
            plans = [(job, plan(job, self._calendar.market(job.settings.market), uow.now)) for job in due]
            added = claims.claim(uow, plans)
        self._changed.clear()
        return added

    def _rescue(self) -> None:
        """Rescue runs whose worker died, messages that were lost, and split runs that stopped advancing.

        Runs that wait for their parents in vain are skipped.

        While the database was down, or everything stood still, no worker could write a heartbeat. They have their time
        once more after that.
        """
        rescued: list[dispatching.RescuedRun] = []
        with self._transaction() as uow:
            if self._watch.may_judge(uow.connection.execute(_CLOCK).scalar_one()):
                rescued = dispatching.rescue(uow, self._context.service)
            dispatching.resend(uow, self._context.service)
            for parent in dispatching.split_runs(uow.connection, self._context.service):
                advance(uow, parent)
            if dispatching.has_open_joins(uow.connection, self._context.service):
                settle(uow, self._context.service)
        for run in rescued:
            again = run.state == "waiting"
            log.warning("a run's worker died", job=run.job, run_id=str(run.id), worker=run.worker, again=again)

    @contextmanager
    def _transaction(self) -> Iterator[UnitOfWork]:
        """Begin a unit of work whose messages are relayed at once: the relay is in another process."""
        self.progress += 1
        with self._context.unit_of_work() as uow:
            yield uow
            if uow.outgoing:
                notify_relays(uow)


_CLOCK = text("SELECT clock_timestamp() AS now")


class Alarms:
    """The queue between periodiq's handler of SIGALRM and its loop, in place of its ``queue.Queue``.

    The handler runs on the thread that takes the alarms, perhaps in the middle of that. After the process was stopped,
    the signal may go to another thread, and then wakes nobody. If the clock goes back while periodiq reads it, the next
    alarm is as far ahead as the jump. Therefore the loop goes on after a pause without an alarm.
    """

    def __init__(self) -> None:
        self._alarms: SimpleQueue[bool] = SimpleQueue()

    def put_nowait(self, alarm: bool) -> None:
        self._alarms.put(alarm)

    def get(self, *, block: bool) -> bool:
        """Wait for an alarm, for a limited time. True always, since the loop never ends."""
        with suppress(Empty):
            self._alarms.get(block, LONGEST_PAUSE_SECONDS)
        return True


def run_scheduler(ticks: Iterable[Tick]) -> None:
    """Tick until the process ends. Needs the main thread, since it uses SIGALRM."""
    scheduler = Scheduler(list(ticks))
    scheduler.alarm_q = Alarms()
    scheduler.schedule()
    scheduler.loop()
