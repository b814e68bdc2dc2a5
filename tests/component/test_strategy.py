"""The trading bot on made-up bars and a real PostgreSQL: what it sees, what it decides, what it sends, each once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from embedded.system import System
from shared.bus.inprocess import wait_until_idle
from shared.contracts.orders import Side
from tests.component.scripted_prices import push
from tests.component.strategy_scenario import NOON, RULES, STRATEGY, Scenario
from tests.component.watching import Sent, outbox, unit_of
from tests.conftest import FakeClock
from tests.support import account, broken_invariants, eventually, order, send, statuses, value

RISING, FALLING, LEVEL = (10, 11, 12, 13), (13, 12, 11, 10), (10, 10, 10, 10)


@pytest.fixture
def scenario(urls: dict[str, str], clock: FakeClock) -> Iterator[Scenario]:
    with (
        unit_of("strategy", urls, clock) as strategy,
        unit_of("marketdata", urls, clock) as marketdata,
        unit_of("orders", urls, clock) as orders,
    ):
        made = Scenario(strategy, marketdata, orders)
        made.add_strategy()
        yield made


def test_it_buys_while_the_fast_average_is_above_the_slow_one(scenario: Scenario) -> None:
    """One trade is a decision, a signal row, a SignalGenerated and a SubmitOrder, all of the same bar."""
    scenario.add_bars(RISING)
    assert scenario.run() == {"decisions": 1, "signals": 1}
    assert scenario.decided() == ("buy", 10, "fast average 12.5 above slow 11.5")
    (signal,) = scenario.signals()
    assert (signal.action, signal.price, signal.bar_at) == ("buy", 13, NOON + timedelta(minutes=3))
    said, sent = outbox(scenario.strategy)
    assert said.name == "SignalGenerated.v1"
    assert (said.body["signal_id"], said.body["action"], said.body["reason"]) == (str(signal.id), "buy", signal.reason)
    assert_order(sent, signal, "buy", "10")
    assert scenario.decisions()[0].order_id == UUID(sent.body["order_id"])


def assert_order(sent: Sent, signal: Any, side: str, qty: str) -> None:
    """A market order of the strategy, on its account; its id is the signal's, so a second one is the same."""
    assert sent.name == "SubmitOrder.v1"
    assert sent.id == UUID(sent.body["order_id"]) == signal.id
    assert (sent.body["side"], sent.body["qty"], sent.body["type"]) == (side, qty, "market")
    assert sent.body["strategy_id"] == str(STRATEGY.id)
    assert sent.body["account_id"] == str(STRATEGY.account_id)


def test_it_sells_its_own_shares_while_the_fast_average_is_below_the_slow_one(scenario: Scenario) -> None:
    """All that its own orders bought and have not sold yet."""
    scenario.add_bars(FALLING)
    scenario.add_order(30)
    scenario.add_order(5, side=Side.SELL)
    scenario.run()
    assert scenario.decided() == ("sell", 25, "fast average 10.5 below slow 11.5")
    (signal,), (sent,) = scenario.signals(), scenario.submitted()
    assert_order(sent, signal, "sell", "25")


@pytest.mark.parametrize(
    ("closes", "bought", "reason"),
    [
        ((), 0, "0 of 4 bars so far"),
        (RISING[:3], 0, "3 of 4 bars so far"),
        (LEVEL, 0, "the averages are equal at 10"),
        (RISING, 10, "fast average 12.5 above slow 11.5, already long 10"),
        (FALLING, 0, "fast average 10.5 below slow 11.5, nothing to sell"),
    ],
)
def test_it_holds_otherwise_and_says_why(scenario: Scenario, closes: Sequence[int], bought: int, reason: str) -> None:
    """Doing nothing is a decision with a reason, and sends nothing."""
    scenario.add_bars(closes)
    if bought:
        scenario.add_order(bought)
    assert scenario.run() == {"decisions": 1, "signals": 0}
    assert scenario.decided() == ("hold", 0, reason)
    assert (scenario.signals(), outbox(scenario.strategy)) == ([], [])


@pytest.mark.parametrize(
    ("closes", "side", "reason"),
    [
        (RISING, Side.BUY, "fast average 12.5 above slow 11.5, an order for 10 is open"),
        (FALLING, Side.SELL, "fast average 10.5 below slow 11.5, an order to sell is open"),
    ],
)
def test_it_waits_for_its_open_order(scenario: Scenario, closes: Sequence[int], side: Side, reason: str) -> None:
    """What it has ordered and not got yet counts."""
    scenario.add_bars(closes)
    if side is Side.SELL:
        scenario.add_order(10)
    scenario.add_order(10, side=side, filled=False)
    scenario.run()
    assert scenario.decided() == ("hold", 0, reason)


def test_it_looks_at_the_bars_of_its_own_interval_and_symbol(scenario: Scenario) -> None:
    """Rising bars of another interval and of another symbol do not make it buy."""
    scenario.add_bars(FALLING)
    scenario.add_bars(RISING, interval="1m")
    scenario.add_bars(RISING, symbol="IBM")
    scenario.run()
    assert scenario.decided()[0] == "hold"


def test_every_strategy_decides_on_each_of_its_symbols(scenario: Scenario) -> None:
    """Two strategies on two symbols each: with the first one's, five decisions in a run; a disabled one has none."""
    for name in ("second", "third", "disabled"):
        scenario.add_strategy(replace(STRATEGY, id=uuid4(), name=name, symbols=("AAPL", "IBM")))
    with scenario.strategy.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE strategy.strategies SET enabled = false WHERE name = 'disabled'")
    scenario.add_bars(RISING)
    assert scenario.run() == {"decisions": 5, "signals": 3}
    assert len({(decision.strategy_id, decision.symbol) for decision in scenario.decisions()}) == 5
    assert all(decision.reason for decision in scenario.decisions())
    assert len({sent.body["strategy_id"] for sent in scenario.submitted()}) == 3


def test_a_bar_is_acted_on_once(scenario: Scenario) -> None:
    """A second look at it is decided and logged, but sends no second order."""
    scenario.add_bars(RISING)
    assert [scenario.run()["signals"] for _ in range(2)] == [1, 0]
    assert (len(scenario.decisions()), len(scenario.signals()), len(scenario.submitted())) == (2, 1, 1)


def test_a_run_that_comes_twice_adds_nothing(scenario: Scenario) -> None:
    """Neither decision nor signal nor message."""
    scenario.add_strategy(replace(STRATEGY, id=uuid4(), name="second", symbols=("IBM", "MSFT")))
    scenario.add_bars(RISING)
    scenario.add_bars(FALLING, symbol="IBM")
    run_id = uuid4()
    scenario.run(run_id)
    before = (scenario.decisions(), scenario.signals(), outbox(scenario.strategy))
    scenario.run(run_id)
    assert (scenario.decisions(), scenario.signals(), outbox(scenario.strategy)) == before


def test_it_never_orders_beyond_its_position_size(scenario: Scenario) -> None:
    """An order larger than the largest position is cut to it."""
    small = replace(RULES, order_qty=Decimal(10), max_position_qty=Decimal(4))
    scenario.add_strategy(replace(STRATEGY, id=uuid4(), name="small", symbols=("IBM",), rules=small))
    scenario.add_bars(RISING, symbol="IBM")
    scenario.run()
    assert [sent.body["qty"] for sent in scenario.submitted()] == ["4"]


def test_its_position_size_holds_while_orders_does_not_answer(scenario: Scenario) -> None:
    """With orders away its first order is not in the books yet; the next bar must not bring a second one."""
    limited = replace(RULES, max_position_qty=RULES.order_qty)
    scenario.add_strategy(replace(STRATEGY, id=uuid4(), name="limited", symbols=("IBM",), rules=limited))
    for closes in (RISING, (14,), (15,)):
        scenario.add_bars(closes, symbol="IBM")
        scenario.run()
    ordered = [Decimal(sent.body["qty"]) for sent in scenario.submitted()]
    assert sum(ordered) <= limited.max_position_qty


@pytest.mark.parametrize(("own", "decided"), [(0, ("hold", 0)), (4, ("sell", 4))])
def test_shares_bought_by_hand_are_not_its_to_sell(scenario: Scenario, own: int, decided: tuple[str, int]) -> None:
    """Ten shares that somebody bought on its account stay there."""
    scenario.add_bars(FALLING)
    scenario.add_order(10, by=None)
    if own:
        scenario.add_order(own)
    scenario.run()
    assert scenario.decided()[:2] == decided


def test_it_sells_no_more_than_the_account_still_holds(scenario: Scenario) -> None:
    """Of the ten it bought somebody sold seven by hand."""
    scenario.add_bars(FALLING)
    scenario.add_order(10)
    scenario.add_order(7, by=None, side=Side.SELL)
    scenario.run()
    assert scenario.decided()[:2] == ("sell", 3)


def test_its_orders_fill_as_any_other(system: System) -> None:
    """Bars up, a buy; bars down, a sell of those shares and not of the three bought by hand."""
    scenario = Scenario(system.contexts["strategy"], system.contexts["marketdata"], system.contexts["orders"])
    engine, by_hand = system.contexts["orders"].engine, order(STRATEGY.account_id, qty=Decimal(3))
    send(system.contexts["gateway"], account(STRATEGY.account_id))
    settled(system)
    send(system.contexts["gateway"], by_hand)
    scenario.add_strategy()
    for closes, action, position in ((RISING, "buy", 13), ((9, 8), "sell", 3)):
        scenario.add_bars(closes)
        scenario.run()
        settled(system)
        push(system.contexts["marketdata"], {"AAPL": Decimal(closes[-1])})
        settled(system)
        (made,) = [each for each in scenario.decisions() if each.strategy_id == STRATEGY.id and each.action == action]
        assert statuses(engine, STRATEGY.account_id)[made.order_id] == "filled"
        held = value(engine, "SELECT qty FROM orders.positions WHERE account_id = :a", a=STRATEGY.account_id)
        assert held == position
    assert broken_invariants(engine) == {}


def settled(system: System) -> None:
    """Everything sent has been handled."""

    def drained() -> bool:
        wait_until_idle(system.broker, seconds=10)
        return not any(
            value(context.engine, f"SELECT count(*) FROM {name}.outbox") for name, context in system.contexts.items()
        )

    eventually(drained, what="the outboxes drained")
