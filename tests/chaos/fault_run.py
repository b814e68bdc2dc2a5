"""A fault run: faults in an order that a seed decides, while people trade."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from random import Random
from threading import Event
from typing import Any

import psutil
from sqlalchemy import Engine

from shared.storage.engine import make_engine
from tests.chaos import deaths
from tests.chaos.audit import audit, calm, stuck, traded, unfinished
from tests.chaos.fleet import Fleet, Replica
from tests.chaos.market import hold_auctions, open_day
from tests.chaos.traders import SETTINGS, Account, Trader, close_account, open_account
from tests.chaos.ways import WayToPostgres
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import ALARMS
from tests.support import eventually, rows

#: Half of them with each kind of account.
TRADERS = 4
DEATHS = [f"death {point}" for point in deaths.POINTS]
RESTARTS = ("restart RabbitMQ", "restart PostgreSQL")
#: Every fault run has these, and some of all kinds again; together about a minute.
CERTAIN = (
    "cut",
    "repeat",
    "kill at work",
    "kill in a run",
    *DEATHS,
    "restart RabbitMQ",
    "restart PostgreSQL",
    "all sleep",
)
STANDSTILLS = ("a process stops", "a process sleeps", "a replica sleeps")
#: One of these besides, which takes longer.
VANISHING = ("PostgreSQL vanishes", "RabbitMQ vanishes", "PostgreSQL moves", *STANDSTILLS)
#: Two of these besides, so that a clock goes ahead and a clock goes back.
CLOCKS = (("a clock goes ahead", "all clocks go back"), ("a clock goes back", "all clocks go ahead"))
#: From less than what a client takes to give a server up to more than that.
VANISHED_SECONDS = (5.0, 20.0)
MORE = 4
#: A replica misses a process within 12 s, and drains for at most 28 s.
STOPPED_SECONDS = 45
#: Longer than a replica's processes miss one another, and than RabbitMQ keeps a silent connection.
ASLEEP_SECONDS = (15.0, 20.0)
#: Within this time after a sleep a replica that took it for a death would end itself.
JUDGED_SECONDS = 13
#: Clocks are wrong by this much, for so long.
WRONG_BY_SECONDS = (60.0, 300.0)
WRONG_FOR_SECONDS = (5.0, 10.0)
#: The log of a state change is a line for each part that depends on it; a start takes a dozen.
LINES_PER_FAULT_AND_REPLICA = 25


@dataclass
class FaultRun:
    """``log`` lists the faults for the reader of a failure. ``interrupted`` are runs whose workers were killed."""

    fleet: Fleet
    seed: int
    day: date
    random: Random = field(init=False)
    log: list[str] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def break_things(self) -> int:
        """Inject every fault in turn, and return their number."""
        long, clocks = self.random.choice(VANISHING), self.random.choice(CLOCKS)
        kinds = [*CERTAIN, long, *clocks, *self.random.choices(list(FAULTS), k=MORE)]
        self.random.shuffle(kinds)
        for number, kind in enumerate(kinds):
            if number == len(kinds) * 3 // 4:
                self.log.append("the auctions are held")
                hold_auctions(self.fleet, self.day)
            Event().wait(self.random.uniform(0.2, 2.0))  # the seeded moment: time itself is what is varied
            self.log.append(kind)
            FAULTS[kind](self)
            self.log += [f"  started {each}" for each in self.fleet.tend()]
        return len(kinds)

    def replica(self) -> Replica:
        """Choose a running replica, which the log names; orders is chosen more often than others."""
        running = [replica for replica in self.fleet.replicas if not replica.has_ended]
        chosen = self.random.choice(sorted(running, key=str) + [r for r in running if r.service == "orders"])
        self.log.append(f"  {chosen}")
        return chosen

    def while_away(self) -> None:
        """Perhaps inject another fault while a server is away."""
        Event().wait(self.random.uniform(0.2, 3.0))
        kind = self.random.choice(["nothing", "kill", "terminate", "freeze"])
        if kind != "nothing":
            self.log.append(f"  meanwhile {kind}")
            FAULTS[kind](self)

    def cut(self) -> None:
        self.fleet.node.server.close_connections(self.fleet.vhost)

    def repeat(self) -> None:
        self.log.append(f"  {self.fleet.recorder.repeat(self.random, 20)} commands sent once more")

    def kill(self) -> None:
        self.replica().kill()

    def kill_at_work(self) -> None:
        """Kill orders while it holds unacknowledged messages, which have to be delivered again."""
        self.fleet.wait_healthy()
        all_of_it = [replica for replica in self.fleet.replicas if replica.service == "orders"]
        for replica in all_of_it:
            replica.signal(signal.SIGSTOP)
        in_hand = eventually(self.unacknowledged, what="orders has messages in its hands")
        self.log.append(f"  all of orders, {in_hand} messages unacknowledged")
        for replica in all_of_it:
            replica.kill()

    def kill_in_a_run(self) -> None:
        """Kill a worker in the middle of process_orders, which waits for a lock until then."""
        self.fleet.wait_healthy()
        orders = make_engine(self.fleet.urls["orders"], name="fault-run")
        with orders.connect() as holding:
            holding.exec_driver_sql("LOCK TABLE orders.orders IN ACCESS EXCLUSIVE MODE")
            alive = partial(self._in_living_hands, orders)
            run = eventually(alive, seconds=30, what="process_orders is under way")[0]
            os.kill(_pid(run), signal.SIGKILL)
        orders.dispose()
        self.interrupted.append(str(run.id))
        self.log.append(f"  run {run.id} of {run.worker}")

    def _in_living_hands(self, orders: Engine) -> list[Any]:
        """The runs of living workers: a worker that was killed before may not be missed yet."""
        return [run for run in rows(orders, RUNNING) if psutil.pid_exists(_pid(run))]

    def die(self, point: str) -> None:
        """Kill a worker of orders when it comes to that point of its work on a command."""
        self.fleet.wait_healthy()
        deaths.ask_for(self.fleet.deaths, point)
        dead = eventually(partial(deaths.died, self.fleet.deaths, point), seconds=30, what=f"a death {point}")[0]
        self.log.append(f"  process {dead.pid}, with {dead.message_id} in its hands")

    def unacknowledged(self) -> int:
        depths = self.fleet.node.server.queues(self.fleet.vhost)
        return sum(depth.unacked for name, depth in depths.items() if name.startswith("orders."))

    def maim(self) -> None:
        self.log.append(f"  without {self.replica().maim(self.random)}")

    def terminate(self) -> None:
        self.replica().terminate()

    def freeze(self) -> None:
        replica = self.replica()
        replica.signal(signal.SIGSTOP)
        Event().wait(self.random.uniform(0.5, 4.0))
        replica.signal(signal.SIGCONT)

    def away(self, end: Callable[[], None], begin: Callable[[], object]) -> None:
        """Take a server away for a while."""
        end()
        self.while_away()
        begin()

    def vanish(self, way: WayToPostgres | Proxy) -> None:
        """Drop all packets from and to a server for a while. Nobody is told by a reset."""
        way.drop()
        Event().wait(self.random.uniform(*VANISHED_SECONDS))
        way.accept()

    def stop_a_process(self) -> None:
        """Stop one process of a service. The others end the replica."""
        self.fleet.wait_healthy()
        replica = self.random.choice([each for each in self.fleet.replicas if each.service != "gateway"])
        self.log.append(f"  {replica}: process {replica.stop_one(self.random).pid}")
        eventually(lambda: replica.has_ended, seconds=STOPPED_SECONDS, what=f"{replica} has ended")

    def suspend_a_process(self) -> None:
        """Suspend one process of a service for longer than the others wait for it. They may have killed it."""
        self.fleet.wait_healthy()
        replica = self.random.choice([each for each in self.fleet.replicas if each.service != "gateway"])
        process = replica.stop_one(self.random)
        Event().wait(self.random.uniform(*ASLEEP_SECONDS))
        with suppress(psutil.NoSuchProcess):
            process.resume()
        self.log.append(f"  {replica}: process {process.pid}")

    def suspend_all(self) -> None:
        """Suspend everything for a while, as a closed lid does."""
        self.fleet.wait_healthy()
        self._suspend(self.fleet.replicas)

    def suspend_a_replica(self) -> None:
        self.fleet.wait_healthy()
        self._suspend([self.replica()])

    def _suspend(self, replicas: Sequence[Replica]) -> None:
        """Suspend all processes of the replicas. None may take the sleep of the others for their death."""
        for replica in replicas:
            replica.signal(signal.SIGSTOP)
        Event().wait(self.random.uniform(*ASLEEP_SECONDS))
        for replica in replicas:
            replica.signal(signal.SIGCONT)
        Event().wait(JUDGED_SECONDS)  # nothing may happen in it
        ended = [str(replica) for replica in replicas if replica.has_ended]
        assert not ended, f"a sleep ended {ended}"

    def move_clocks(self, direction: int, *, together: bool) -> None:
        """Set clocks wrong by minutes, all by the same, and right again after some seconds."""
        replicas = self.fleet.replicas if together else [self.replica()]
        by = direction * self.random.uniform(*WRONG_BY_SECONDS)
        self.log.append(f"  by {by:+.0f} s")
        for replica in replicas:
            replica.move_clock(by)
        Event().wait(self.random.uniform(*WRONG_FOR_SECONDS))
        for replica in replicas:
            replica.move_clock(0)

    def alarm(self) -> None:
        name = self.random.choice(sorted(ALARMS))
        begin, end = ALARMS[name]
        self.log.append(f"  {name}")
        self.away(partial(self._control, *begin), partial(self._control, *end))

    def _control(self, *arguments: str) -> None:
        self.fleet.node.control(*arguments)


def _pid(run: Any) -> int:
    """The process of a run's worker, whose name is ``service:host:pid:…``."""
    return int(run.worker.split(":")[2])


RUNNING = """
SELECT id, worker FROM jobs.job_runs r WHERE job = 'process_orders' AND state = 'running' AND EXISTS (
  SELECT FROM pg_stat_activity WHERE application_name = 'paperprofit-orders' AND wait_event_type = 'Lock')
"""
FAULTS: dict[str, Callable[[FaultRun], None]] = {
    "cut": FaultRun.cut,
    "repeat": FaultRun.repeat,
    "kill": FaultRun.kill,
    "kill at work": FaultRun.kill_at_work,
    "kill in a run": FaultRun.kill_in_a_run,
    **{f"death {point}": partial(FaultRun.die, point=point) for point in deaths.POINTS},
    "maim": FaultRun.maim,
    "terminate": FaultRun.terminate,
    "freeze": FaultRun.freeze,
    "restart RabbitMQ": lambda run: run.away(run.fleet.node.stop, run.fleet.node.start),
    "kill RabbitMQ": lambda run: run.away(run.fleet.node.kill, run.fleet.node.start),
    "restart PostgreSQL": lambda fault_run: fault_run.away(
        fault_run.fleet.postgres.stop, fault_run.fleet.postgres.start
    ),
    "crash PostgreSQL": lambda fault_run: fault_run.away(
        fault_run.fleet.postgres.crash, fault_run.fleet.postgres.start
    ),
    "alarm": FaultRun.alarm,
    "PostgreSQL vanishes": lambda run: run.vanish(run.fleet.way_to_postgres),
    "RabbitMQ vanishes": lambda run: run.vanish(run.fleet.way_to_rabbitmq),
    "PostgreSQL moves": lambda run: run.fleet.way_to_postgres.move(),
    "a process stops": FaultRun.stop_a_process,
    "a process sleeps": FaultRun.suspend_a_process,
    "a replica sleeps": FaultRun.suspend_a_replica,
    "all sleep": FaultRun.suspend_all,
    "a clock goes ahead": partial(FaultRun.move_clocks, direction=1, together=False),
    "a clock goes back": partial(FaultRun.move_clocks, direction=-1, together=False),
    "all clocks go ahead": partial(FaultRun.move_clocks, direction=1, together=True),
    "all clocks go back": partial(FaultRun.move_clocks, direction=-1, together=True),
}


@dataclass(frozen=True)
class Effects:
    """The effects of a fault run on messages and orders."""

    orders: int
    redeliveries: int
    duplicates: int
    reconnects: int
    lines: int
    traded: Counter[str]


def run_faults(fleet: Fleet, seed: int) -> tuple[FaultRun, Effects, dict[str, Any]]:
    """Break things while people trade, wait until all is quiet, and audit: the run, its effects, and what is wrong."""
    recorder = fleet.recorder
    before, lines, copies = fleet.counted(), fleet.log_lines(), recorder.duplicates
    fault_run = FaultRun(fleet, seed, open_day(fleet, seed))
    print(f"seed {seed}")
    accounts = [open_account(fleet.gateway, settings) for settings in SETTINGS]
    with trading(fleet, seed, accounts) as traders:
        try:
            faults = fault_run.break_things()
        except AssertionError:
            print("\n".join(fault_run.log))
            raise
    orders = make_engine(fleet.urls["orders"], name="orders")
    calm(fleet, orders, traders)
    recorder.listen()
    counts = fleet.counted() - before
    effects = Effects(
        orders=sum(len(trader.answered) for trader in traders),
        redeliveries=counts["paperprofit_messages_redelivered"],
        duplicates=counts["paperprofit_inbox_duplicates"] + recorder.duplicates - copies,
        reconnects=counts["paperprofit_reconnects"],
        lines=fleet.log_lines() - lines,
        traded=traded(orders, traders),
    )
    wrong = audit(fleet, orders, traders) | unfinished(orders, fault_run.interrupted) | stuck(orders)
    if counts["paperprofit_messages_unordered"]:
        wrong["no message went ahead of its turn"] = counts["paperprofit_messages_unordered"]
    if effects.lines > faults * len(fleet.replicas) * LINES_PER_FAULT_AND_REPLICA:
        wrong["the logs do not repeat themselves"] = effects.lines
    orders.dispose()
    for account in accounts:
        close_account(fleet.gateway, account)
    return fault_run, effects, wrong


@contextmanager
def trading(fleet: Fleet, seed: int, accounts: Sequence[Account]) -> Iterator[list[Trader]]:
    """Traders at work until the end of the block; each ends with its last order answered."""
    traders = [
        Trader(fleet.gateway, accounts[n % len(accounts)], f"{seed}-{n}", Random(seed * 100 + n))
        for n in range(TRADERS)
    ]
    with ThreadPoolExecutor(TRADERS) as pool:
        running = [pool.submit(trader.run) for trader in traders]
        try:
            yield traders
            fleet.wait_healthy()
        finally:
            for trader in traders:
                trader.stopping.set()
        for future in running:
            future.result(timeout=60)
