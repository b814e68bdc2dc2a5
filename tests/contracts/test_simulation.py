"""A whole market on the simulated bus: the same seed gives the same steps, and no fault breaks the books."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest

from embedded.system import System
from services.gateway.settings import Settings
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.contracts.base import routing_key
from shared.contracts.orders import CancelOrder, OrderType, ReplaceOrder, Side, TimeInForce
from shared.contracts.prices import Price
from shared.contracts.routing import LIVE
from shared.service import make_middleware
from tests.conftest import database
from tests.simulation import Faults, SimulatedClock, Simulation
from tests.support import account, broken_invariants, order, price, prices, rows, send, value

LYING = Faults(drop=0.05, unsure=0.05, duplicate=0.15, delay=0.3, reorder=0.3)
ACCOUNTS = [UUID(int=n) for n in (1, 2)]
#: One account fills on quotes. The other fills inside of bars, in parts and with costs, and may sell short.
KINDS: list[dict[str, Any]] = [
    {},
    {
        "multiplier": 2,
        "shorting": True,
        "fills": {
            "fills_on": "bar",
            "participation": "0.2",
            "commission": {"kind": "per_share", "rate": "0.01", "minimum": "1"},
            "slippage": {"kind": "fixed", "rate": "5"},
        },
    },
]
SECONDS = 15


@dataclass
class Market:
    """Simulated traders, who trade for some seconds as the seed decides."""

    system: System
    simulation: Simulation
    random: Random
    answers: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    sequences: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    canceled: list[UUID] = field(default_factory=list)
    replaced: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.simulation.listen([routing_key(message, message.service) for message in LIVE], self._record)

    @property
    def orders(self) -> ServiceContext:
        return self.system.contexts["orders"]

    def _record(self, name: str, body: dict[str, Any]) -> None:
        if "sequence" in body:
            self.sequences[body["account_id"]].add(body["sequence"])
        if name == "CancelRejected.v1" or (name == "OrderCanceled.v1" and body["reason"] == "requested"):
            self.answers[body["order_id"]].add(body["sequence"])
        if name in {"OrderReplaced.v1", "ReplaceRejected.v1"}:
            self.answers[body["new_order_id"]].add(body["sequence"])

    def trade(self) -> None:
        send(
            self.system.contexts["gateway"],
            *(account(each, **kind) for each, kind in zip(ACCOUNTS, KINDS, strict=True)),
        )
        for second in range(1, SECONDS):
            self._quote(second)
            for _ in range(self.random.randint(1, 4)):
                self._submit()
            self.simulation.run(until=self.simulation.clock.now + timedelta(seconds=1))
        self.simulation.run()

    def _quote(self, second: int) -> None:
        quotes = [self._bar(symbol, second) for symbol in ("AAPL", "IBM")]
        send(self.system.contexts["marketdata"], prices(*quotes))

    def _bar(self, symbol: str, second: int) -> Price:
        """A quote, with the range of the second before it."""
        now, last = self.simulation.clock.now, self.random.randint(90, 110)
        low, high = last - self.random.randint(0, 5), last + self.random.randint(0, 5)
        bar = {"low": Decimal(low), "high": Decimal(high), "since": now - timedelta(seconds=1)}
        return price(symbol, last, at=now, sequence=second).model_copy(update=bar)

    def _submit(self) -> None:
        order_id, now = self._id(), self.simulation.clock.now
        submitted = order(
            self.random.choice(ACCOUNTS),
            order_id=order_id,
            symbol=self.random.choice(["AAPL", "IBM"]),
            **{
                "side": self.random.choices(list(Side), weights=[7, 3])[0],
                "qty": Decimal(self.random.randint(1, 20)),
                "submitted_at": now,
                **self._terms(),
            },
        )
        gateway = self.system.contexts["gateway"]
        send(gateway, submitted)
        if self.random.random() < 0.3:
            self.replaced.append(self._id())
            change = {"order_id": order_id, "new_order_id": self.replaced[-1], "qty": self.random.randint(1, 30)}
            send(gateway, ReplaceOrder(account_id=submitted.account_id, requested_at=now, **change))
        if self.random.random() < 0.4:
            self.canceled.append(order_id)
            send(gateway, CancelOrder(account_id=submitted.account_id, order_id=order_id, requested_at=now))

    def _id(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def _terms(self) -> dict[str, Any]:
        """The terms of an order of a random type and class."""
        low, high = self.random.randint(80, 99), self.random.randint(101, 120)
        kinds: list[dict[str, Any]] = [
            {"type": OrderType.MARKET},
            {"type": OrderType.MARKET, "time_in_force": TimeInForce.FOK},
            {"type": OrderType.LIMIT, "limit_price": self.random.randint(80, 120)},
            {"type": OrderType.LIMIT, "limit_price": 100, "time_in_force": TimeInForce.IOC},
            {"type": OrderType.STOP, "stop_price": self.random.randint(80, 120)},
            {"type": OrderType.STOP_LIMIT, "stop_price": high, "limit_price": high + 1},
            {"type": OrderType.TRAILING_STOP, "trail_price": self.random.randint(2, 10)},
        ]
        exits = {"take_profit": {"limit_price": high}, "stop_loss": {"stop_price": low}, "side": Side.BUY}
        if self.random.random() < 0.2:
            return {"type": OrderType.MARKET, "order_class": "bracket", **exits}
        return self.random.choice(kinds)

    def wrong(self) -> dict[str, Any]:
        """The invariants that do not hold after the trading."""
        found: dict[str, Any] = dict(broken_invariants(self.orders.engine))
        asked = [*self.canceled, *self.replaced]
        told = {str(order_id): len(self.answers[str(order_id)]) for order_id in asked}
        outboxes = {
            name: value(context.engine, f"SELECT count(*) FROM {name}.outbox")
            for name, context in self.system.contexts.items()
        }
        checks = {
            "events without a gap": {a: n for a, n in self.sequences.items() if n != set(range(1, max(n) + 1))},
            "one answer to each cancel and replace": {
                order_id: count for order_id, count in told.items() if count != 1
            },
            "no dead letters": rows(self.orders.engine, "SELECT reason, error FROM orders.dead_letters"),
            "nothing parked": rows(self.orders.engine, "SELECT * FROM orders.parked"),
            "all is sent": {name: count for name, count in outboxes.items() if count},
        }
        return found | {name: wrong for name, wrong in checks.items() if wrong}


@contextmanager
def market(urls: dict[str, str], seed: int, faults: Faults) -> Iterator[Market]:
    random, clock = Random(seed), SimulatedClock(utc_now())
    settings = Settings(demo=True, pool_size=3, api_key_id="TESTKEY", api_secret_key="test-secret-key")

    def simulate(contexts: dict[str, ServiceContext]) -> Simulation:
        return Simulation(make_middleware(contexts, random), clock=clock, random=random, faults=faults)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERPROFIT_DEMO", "true")
        system = System(urls, settings, clock, simulate)
        system.prepare()
        simulation = system.broker
        assert isinstance(simulation, Simulation)
        simulation.relay(system.contexts.values())
        try:
            yield Market(system, simulation, random)
        finally:
            simulation.close()
            for context in system.contexts.values():
                context.engine.dispose()


@pytest.mark.parametrize("seed", range(5))
def test_a_lying_network_breaks_nothing(urls: dict[str, str], seed: int) -> None:
    """Messages are lost, duplicated, delayed and reordered for thousands of steps."""
    with market(urls, seed, LYING) as made:
        made.trade()
        assert all(made.simulation.counts[fault] for fault in ("drop", "unsure", "duplicate", "delay", "reorder"))
        assert value(made.orders.engine, "SELECT count(*) FROM orders.fills") > 0
        assert made.canceled
        assert made.wrong() == {}


def test_the_same_seed_gives_the_same_steps(postgres: str, template: dict[str, str]) -> None:
    traces = []
    for seed in (7, 7, 8):
        with database(postgres, template) as urls, market(urls, seed, LYING) as made:
            made.trade()
            traces.append(made.simulation.trace)
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]


def test_without_the_inbox_duplicates_are_noticed(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the tests above: they can fail."""
    monkeypatch.setattr("shared.bus.inbox.check_new", lambda *_: None)
    with market(urls, 1, LYING) as made:
        made.trade()
        assert "one answer to each cancel and replace" in made.wrong()


def test_a_message_is_delivered_again_on_demand(urls: dict[str, str]) -> None:
    """Its acknowledgement is lost, so it is handled twice and has its effect once."""
    with market(urls, 1, Faults()) as made:
        made.simulation.redeliver()
        send(made.system.contexts["gateway"], account(ACCOUNTS[0]))
        made.simulation.run()
        assert sum("OpenAccount.v1 #1 " in step for step in made.simulation.trace) == 2
        assert value(made.orders.engine, "SELECT count(*) FROM orders.ledger WHERE account_id = :a", a=ACCOUNTS[0]) == 1
