"""The real orders service on PostgreSQL, behind a simulated bus: step by step, and its workers may die in each."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from services.marketdata.domain.official import Official
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.usecases import official_prices
from services.orders.actors import actors
from services.orders.usecases.catch_up import catch_up, sweep
from services.orders.usecases.expire import expire
from services.orders.usecases.margin import check_margins
from shared.bus.actors import Actors
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.accounts import OfAccount
from shared.contracts.base import Message, routing_key
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied
from shared.contracts.official_prices import AuctionKind
from shared.contracts.orders import OrderFilled
from shared.contracts.prices import Price
from shared.contracts.routing import LIVE
from shared.service import make_middleware
from shared.storage.engine import make_engine
from tests.component.auction_days import WEDNESDAY, sessions_in_new_york, utc
from tests.component.crashes import NO_CRASH, Crash, CrashInjector, CrashPoint, ProcessCrashed, UnacknowledgedAfterCrash
from tests.component.foreign_market import ABROAD
from tests.component.replicas import together
from tests.component.watching import context_of
from tests.simulation import Faults, SimulatedClock, Simulation
from tests.support import rows

#: Half an hour before the open in New York. No try again takes as long as a step, nor goes over a full minute.
START, STEP = utc(WEDNESDAY, "14:00") + timedelta(seconds=7), timedelta(seconds=30)
QUEUES = ("orders.commands", "orders.prices", "valuation.fills")
#: AAPL and SAP, which is in euros, are traded at all hours; IBM has sessions and auctions.
INSTRUMENTS = (Instrument("AAPL", "Apple"), Instrument("IBM", "IBM"), *ABROAD)
#: Messages are lost and come twice. None is late or out of order: who then comes first would be another market.
LYING = Faults(drop=0.05, unsure=0.05, duplicate=0.1)
#: What marketdata told, of its tables.
TOLD = ("instruments", "official_prices", "outbox", "outbox_heads")
#: One dies, one finds out that its connection is gone.
TRIES = 3
Told = dict[UUID, dict[int, set[tuple[str, str]]]]

nobody = Actors()


@nobody.on(OrderFilled, queue="valuation.fills")
def look_away(_event: OrderFilled, _uow: UnitOfWork) -> None:
    """Nobody values accounts here."""


@dataclass(frozen=True)
class Said:
    """A message that the gateway or marketdata sends."""

    sender: str
    message: Message


@dataclass(frozen=True)
class Priced:
    """Prices that marketdata shows in its view."""

    prices: tuple[Price, ...]


@dataclass(frozen=True)
class Auctioned:
    """IBM's official price becomes known. Orders may hear of it, or not."""

    kind: AuctionKind
    day: date
    price: Decimal
    held_at: datetime
    told: bool


@dataclass(frozen=True)
class Worked:
    """A job of orders."""

    job: str


Event = Said | Priced | Auctioned | Worked


@dataclass
class Exchange:
    """Two replicas of orders, of which the first dies. ``told`` are the events of each account, by sequence.

    One relay sends what either says, on connections that stay.
    """

    contexts: dict[str, ServiceContext]
    other: ServiceContext
    relayed: ServiceContext
    clock: SimulatedClock
    injector: CrashInjector
    faults: Faults
    simulation: Simulation = field(init=False)
    second: Simulation = field(init=False)
    told: Told = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))

    def open(self, seed: int) -> None:
        """Begin anew, with nothing in the books."""
        self.clock.now = START
        self.told.clear()
        self._wipe()
        self.simulation = self._simulate(self.contexts["orders"], seed, self.faults)
        self.simulation.relay(
            [self.relayed if name == "orders" else context for name, context in self.contexts.items()]
        )
        self.simulation.listen(
            [routing_key(each, "orders") for each in LIVE if issubclass(each, OfAccount)], self._note
        )
        self.second = self._simulate(self.other, seed, Faults())

    def close(self) -> None:
        self.simulation.close()
        self.second.close()

    def _simulate(self, orders: ServiceContext, seed: int, faults: Faults) -> Simulation:
        contexts = {**self.contexts, "orders": orders}
        random = Random(seed)
        middleware = [*make_middleware(contexts, random)[:-1], UnacknowledgedAfterCrash(contexts, self.injector)]
        made = Simulation(middleware, clock=self.clock, random=random, faults=faults, queues=QUEUES)
        actors.attach(made, orders)
        nobody.attach(made, self.contexts["valuation"])
        return made

    def _wipe(self) -> None:
        for service, context in self.contexts.items():
            with context.engine.begin() as connection:
                tables = connection.exec_driver_sql(_TABLES, {"schema": service}).scalars().all()
                wiped = [table for table in tables if service != "marketdata" or table in TOLD]
                connection.exec_driver_sql(f"TRUNCATE {', '.join(f'{service}.{table}' for table in wiped)} CASCADE")
        with self.contexts["marketdata"].engine.begin() as connection:
            add_instruments(connection, INSTRUMENTS)
            sessions_in_new_york(connection, "IBM")

    def _note(self, name: str, body: dict[str, Any]) -> None:
        event = (name.partition(".")[0], json.dumps(body, sort_keys=True))
        self.told[UUID(body["account_id"])][body["sequence"]].add(event)

    @property
    def books(self) -> Engine:
        """For who looks at the books from outside: none of these connections is ever cut."""
        return self.injector.killer

    def take(self, event: Event, until: datetime, crash: Crash = NO_CRASH) -> None:
        """Let the event happen, with all that comes of it until then."""
        match event:
            case Said(sender, message):
                with self.contexts[sender].unit_of_work() as uow:
                    uow.publish(message)
                if isinstance(message, CorporateActionApplied) and message.kind is ActionKind.SPLIT:
                    self._marketdata(_ADJUST, {"symbol": message.symbol, "split_count": message.split_count})
            case Priced(prices):
                for price in prices:
                    self._marketdata(_SHOW, price.model_dump())
            case Auctioned():
                self._auction(event)
            case Worked(job):
                self._work(job, crash)
        self._deliver(NO_CRASH if isinstance(event, Worked) else crash, until)
        if crash.point is not CrashPoint.NONE:
            self._recover(until)

    def _marketdata(self, statement: str, values: dict[str, Any]) -> None:
        with self.contexts["marketdata"].engine.begin() as connection:
            connection.exec_driver_sql(statement, values)

    def _auction(self, event: Auctioned) -> None:
        official = Official("IBM", event.kind, event.day, event.price, event.held_at, "test")
        with self.contexts["marketdata"].unit_of_work() as uow:
            official_prices.record(uow, [official])
            if not event.told:
                uow.outgoing.clear()

    def _deliver(self, crash: Crash, until: datetime) -> None:
        """The crash is that of the first message."""
        copy = self.simulation.take()
        if copy is not None and crash.point is CrashPoint.TWICE:
            self.injector.counts[CrashPoint.TWICE] += 1
            replicas = (self.simulation, self.second)
            together(lambda number: replicas[number].handle(copy), threads=2)
        elif copy is not None:
            with self.injector.over(crash):
                self.simulation.handle(copy)
        self.simulation.run(until=until)

    def _recover(self, until: datetime) -> None:
        """A crashed replica woke no relay: the next poll finds its messages. The other replica has its tries, too."""
        for simulation in (self.simulation, self.second, self.simulation):
            self.contexts["orders"].committed.set()
            simulation.run(until=until)

    def _work(self, name: str, crash: Crash) -> None:
        job, contexts = JOBS[name], (self.contexts["orders"], self.other)
        if crash.point is CrashPoint.TWICE:
            self.injector.counts[CrashPoint.TWICE] += 1
            together(lambda number: job(contexts[number]), threads=2)
            return
        with self.injector.over(crash):
            for _ in range(TRIES):
                with suppress(ProcessCrashed, psycopg.OperationalError, OperationalError):
                    job(contexts[0])
                    return
        raise AssertionError(f"{name} did not end in {TRIES} tries")


def _catch_up(context: ServiceContext) -> None:
    catch_up(context, lambda _done, _of: None)
    sweep(context)


def _expire(context: ServiceContext) -> None:
    with context.unit_of_work() as uow:
        expire(uow)


def _check_margins(context: ServiceContext) -> None:
    with context.unit_of_work() as uow:
        check_margins(uow)


JOBS: dict[str, Callable[[ServiceContext], object]] = {
    "process_orders": _catch_up,
    "expire_orders": _expire,
    "check_margins": _check_margins,
}


@contextmanager
def exchange(urls: dict[str, str], faults: Faults) -> Iterator[Exchange]:
    """On databases of its own. Every transaction ends within a step, so the locks of a step are gone after it."""
    clock = SimulatedClock(START)
    with ExitStack() as stack:
        names = ("orders", "marketdata", "gateway", "valuation")
        contexts = {name: stack.enter_context(context_of(name, urls, clock)) for name in names}
        other, relayed = (stack.enter_context(context_of("orders", urls, clock)) for _ in range(2))
        other.committed = relayed.committed = contexts["orders"].committed
        killer = make_engine(urls["orders"], name="killer", pool_size=1)
        stack.callback(killer.dispose)
        yield Exchange(contexts, other, relayed, clock, CrashInjector(killer, contexts["orders"].engine), faults)


def column(exchange: Exchange, statement: str, **values: Any) -> Sequence[Any]:
    return [tuple(row) for row in rows(exchange.books, statement, **values)]


_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = %(schema)s AND tablename <> 'alembic_version'"
_SHOW = """
UPDATE marketdata.instruments SET last_price = %(last)s, bid = %(bid)s, ask = %(ask)s, bid_size = %(bid_size)s,
  ask_size = %(ask_size)s, sequence = %(sequence)s, quoted_at = %(quoted_at)s, provider = 'test'
WHERE symbol = %(symbol)s
"""
_ADJUST = "UPDATE marketdata.instruments SET split_count = %(split_count)s WHERE symbol = %(symbol)s"
