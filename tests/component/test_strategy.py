"""The trading bot on made-up bars and a real PostgreSQL: its decisions, signals and orders, each once."""

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
from tests.component.watching import Sent, context_of, outbox
from tests.conftest import FakeClock
from tests.support import account, broken_invariants, eventually, order, send, statuses, value

RISING, FALLING, LEVEL = (10, 11, 12, 13), (13, 12, 11, 10), (10, 10, 10, 10)


@pytest.fixture
def scenario(urls: dict[str, str], clock: FakeClock) -> Iterator[Scenario]:
    with (
        context_of("strategy", urls, clock) as strategy,
        context_of("marketdata", urls, clock) as marketdata,
        context_of("orders", urls, clock) as orders,
    ):
        made = Scenario(strategy, marketdata, orders)
        made.add_strategy()
        yield made


def test_it_buys_while_the_fast_average_is_above_the_slow_one(scenario: Scenario) -> None:
    """One trade is a decision, a signal row, a SignalGenerated and a SubmitOrder, all for the same bar."""
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
    """Assert that the command is a market order of the strategy on its account, with the signal's id."""
    assert sent.name == "SubmitOrder.v1"
    assert sent.id == UUID(sent.body["order_id"]) == signal.id
    assert (sent.body["side"], sent.body["qty"], sent.body["type"]) == (side, qty, "market")
    assert sent.body["strategy_id"] == str(STRATEGY.id)
    assert sent.body["account_id"] == str(STRATEGY.account_id)


def test_it_sells_its_own_shares_while_the_fast_average_is_below_the_slow_one(scenario: Scenario) -> None:
    """It sells all shares that its own orders bought and have not sold yet."""
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
def test_it_holds_otherwise_and_gives_the_reason(
    scenario: Scenario, closes: Sequence[int], bought: int, reason: str
) -> None:
    """To hold is a decision with a reason, and sends nothing."""
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
    """An open order counts like shares that it holds."""
    scenario.add_bars(closes)
    if side is Side.SELL:
        scenario.add_order(10)
    scenario.add_order(10, side=side, filled=False)
    scenario.run()
    assert scenario.decided() == ("hold", 0, reason)


def test_it_reads_the_bars_of_its_own_interval_and_symbol(scenario: Scenario) -> None:
    """Rising bars of another interval and of another symbol do not make it buy."""
    scenario.add_bars(FALLING)
    scenario.add_bars(RISING, interval="1m")
    scenario.add_bars(RISING, symbol="IBM")
    scenario.run()
    assert scenario.decided()[0] == "hold"


def test_every_strategy_decides_on_each_of_its_symbols(scenario: Scenario) -> None:
    """Two more strategies on two symbols each make five decisions in a run. A disabled strategy makes none."""
    for name in ("second", "third", "disabled"):
        scenario.add_strategy(replace(STRATEGY, id=uuid4(), name=name, symbols=("AAPL", "IBM")))
    with scenario.strategy.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE strategy.strategies SET enabled = false WHERE name = 'disabled'")
    scenario.add_bars(RISING)
    assert scenario.run() == {"decisions": 5, "signals": 3}
    assert len({(decision.strategy_id, decision.symbol) for decision in scenario.decisions()}) == 5
    assert all(decision.reason for decision in scenario.decisions())
    assert len({sent.body["strategy_id"] for sent in scenario.submitted()}) == 3


def test_a_bar_is_traded_on_once(scenario: Scenario) -> None:
    """A second run logs another decision, but sends no second order."""
    scenario.add_bars(RISING)
    assert [scenario.run()["signals"] for _ in range(2)] == [1, 0]
    assert (len(scenario.decisions()), len(scenario.signals()), len(scenario.submitted())) == (2, 1, 1)


def test_a_repeated_run_adds_nothing(scenario: Scenario) -> None:
    """It adds no decision, no signal and no message."""
    scenario.add_strategy(replace(STRATEGY, id=uuid4(), name="second", symbols=("IBM", "MSFT")))
    scenario.add_bars(RISING)
    scenario.add_bars(FALLING, symbol="IBM")
    run_id = uuid4()
    scenario.run(run_id)
    before = (scenario.decisions(), scenario.signals(), outbox(scenario.strategy))
    scenario.run(run_id)
    assert (scenario.decisions(), scenario.signals(), outbox(scenario.strategy)) == before


def test_it_never_orders_beyond_its_position_size(scenario: Scenario) -> None:
    """An order larger than the position limit is reduced to it."""
    small = replace(RULES, order_qty=Decimal(10), max_position_qty=Decimal(4))
    scenario.add_strategy(replace(STRATEGY, id=uuid4(), name="small", symbols=("IBM",), rules=small))
    scenario.add_bars(RISING, symbol="IBM")
    scenario.run()
    assert [sent.body["qty"] for sent in scenario.submitted()] == ["4"]


def test_its_position_limit_holds_while_orders_is_down(scenario: Scenario) -> None:
    """Its first order is not in the books of orders yet, and the next bar must not send a second one."""
    limited = replace(RULES, max_position_qty=RULES.order_qty)
    scenario.add_strategy(replace(STRATEGY, id=uuid4(), name="limited", symbols=("IBM",), rules=limited))
    for closes in (RISING, (14,), (15,)):
        scenario.add_bars(closes, symbol="IBM")
        scenario.run()
    ordered = [Decimal(sent.body["qty"]) for sent in scenario.submitted()]
    assert sum(ordered) <= limited.max_position_qty


@pytest.mark.parametrize(("own", "decided"), [(0, ("hold", 0)), (4, ("sell", 4))])
def test_it_does_not_sell_shares_bought_manually(scenario: Scenario, own: int, decided: tuple[str, int]) -> None:
    """Ten shares that somebody else bought on its account stay there."""
    scenario.add_bars(FALLING)
    scenario.add_order(10, by=None)
    if own:
        scenario.add_order(own)
    scenario.run()
    assert scenario.decided()[:2] == decided


def test_it_sells_no_more_than_the_account_still_holds(scenario: Scenario) -> None:
    """It bought ten shares, and somebody sold seven of them."""
    scenario.add_bars(FALLING)
    scenario.add_order(10)
    scenario.add_order(7, by=None, side=Side.SELL)
    scenario.run()
    assert scenario.decided()[:2] == ("sell", 3)


def test_its_orders_fill_like_any_other(system: System) -> None:
    """Rising bars make it buy. Falling bars make it sell those shares, but not three bought manually."""
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
    """Wait until every message has been handled."""

    def drained() -> bool:
        wait_until_idle(system.broker, seconds=10)
        return not any(
            value(context.engine, f"SELECT count(*) FROM {name}.outbox") for name, context in system.contexts.items()
        )

    eventually(drained, what="the outboxes drained")
