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
from tests.component.strategy_desk import NOON, RULES, STRATEGY, Desk
from tests.component.watching import Sent, outbox, unit_of
from tests.conftest import FakeClock
from tests.support import account, broken_invariants, eventually, order, send, statuses, value

RISING, FALLING, LEVEL = (10, 11, 12, 13), (13, 12, 11, 10), (10, 10, 10, 10)


@pytest.fixture
def desk(urls: dict[str, str], clock: FakeClock) -> Iterator[Desk]:
    with (
        unit_of("strategy", urls, clock) as strategy,
        unit_of("marketdata", urls, clock) as marketdata,
        unit_of("orders", urls, clock) as orders,
    ):
        made = Desk(strategy, marketdata, orders)
        made.add_strategy()
        yield made


def test_it_buys_while_the_fast_average_is_above_the_slow_one(desk: Desk) -> None:
    """One trade is a decision, a signal row, a SignalGenerated and a SubmitOrder, all of the same bar."""
    desk.add_bars(RISING)
    assert desk.run() == {"decisions": 1, "signals": 1}
    assert desk.decided() == ("buy", 10, "fast average 12.5 above slow 11.5")
    (signal,) = desk.signals()
    assert (signal.action, signal.price, signal.bar_at) == ("buy", 13, NOON + timedelta(minutes=3))
    said, sent = outbox(desk.strategy)
    assert said.name == "SignalGenerated.v1"
    assert (said.body["signal_id"], said.body["action"], said.body["reason"]) == (str(signal.id), "buy", signal.reason)
    assert_order(sent, signal, "buy", "10")
    assert desk.decisions()[0].order_id == UUID(sent.body["order_id"])


def assert_order(sent: Sent, signal: Any, side: str, qty: str) -> None:
    """A market order of the strategy, on its account; its id is the signal's, so a second one is the same."""
    assert sent.name == "SubmitOrder.v1"
    assert sent.id == UUID(sent.body["order_id"]) == signal.id
    assert (sent.body["side"], sent.body["qty"], sent.body["type"]) == (side, qty, "market")
    assert sent.body["strategy_id"] == str(STRATEGY.id)
    assert sent.body["account_id"] == str(STRATEGY.account_id)


def test_it_sells_its_own_shares_while_the_fast_average_is_below_the_slow_one(desk: Desk) -> None:
    """All that its own orders bought and have not sold yet."""
    desk.add_bars(FALLING)
    desk.add_order(30)
    desk.add_order(5, side=Side.SELL)
    desk.run()
    assert desk.decided() == ("sell", 25, "fast average 10.5 below slow 11.5")
    (signal,), (sent,) = desk.signals(), desk.submitted()
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
def test_it_holds_otherwise_and_says_why(desk: Desk, closes: Sequence[int], bought: int, reason: str) -> None:
    """Doing nothing is a decision with a reason, and sends nothing."""
    desk.add_bars(closes)
    if bought:
        desk.add_order(bought)
    assert desk.run() == {"decisions": 1, "signals": 0}
    assert desk.decided() == ("hold", 0, reason)
    assert (desk.signals(), outbox(desk.strategy)) == ([], [])


@pytest.mark.parametrize(
    ("closes", "side", "reason"),
    [
        (RISING, Side.BUY, "fast average 12.5 above slow 11.5, an order for 10 is open"),
        (FALLING, Side.SELL, "fast average 10.5 below slow 11.5, an order to sell is open"),
    ],
)
def test_it_waits_for_its_open_order(desk: Desk, closes: Sequence[int], side: Side, reason: str) -> None:
    """What it has ordered and not got yet counts."""
    desk.add_bars(closes)
    if side is Side.SELL:
        desk.add_order(10)
    desk.add_order(10, side=side, filled=False)
    desk.run()
    assert desk.decided() == ("hold", 0, reason)


def test_it_looks_at_the_bars_of_its_own_interval_and_symbol(desk: Desk) -> None:
    """Rising bars of another interval and of another symbol do not make it buy."""
    desk.add_bars(FALLING)
    desk.add_bars(RISING, interval="1m")
    desk.add_bars(RISING, symbol="IBM")
    desk.run()
    assert desk.decided()[0] == "hold"


def test_every_strategy_decides_on_each_of_its_symbols(desk: Desk) -> None:
    """Two strategies on two symbols each: with the first one's, five decisions in a run; a disabled one has none."""
    for name in ("second", "third", "disabled"):
        desk.add_strategy(replace(STRATEGY, id=uuid4(), name=name, symbols=("AAPL", "IBM")))
    with desk.strategy.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE strategy.strategies SET enabled = false WHERE name = 'disabled'")
    desk.add_bars(RISING)
    assert desk.run() == {"decisions": 5, "signals": 3}
    assert len({(decision.strategy_id, decision.symbol) for decision in desk.decisions()}) == 5
    assert all(decision.reason for decision in desk.decisions())
    assert len({sent.body["strategy_id"] for sent in desk.submitted()}) == 3


def test_a_bar_is_acted_on_once(desk: Desk) -> None:
    """A second look at it is decided and logged, but sends no second order."""
    desk.add_bars(RISING)
    assert [desk.run()["signals"] for _ in range(2)] == [1, 0]
    assert (len(desk.decisions()), len(desk.signals()), len(desk.submitted())) == (2, 1, 1)


def test_a_run_that_comes_twice_adds_nothing(desk: Desk) -> None:
    """Neither decision nor signal nor message."""
    desk.add_strategy(replace(STRATEGY, id=uuid4(), name="second", symbols=("IBM", "MSFT")))
    desk.add_bars(RISING)
    desk.add_bars(FALLING, symbol="IBM")
    run_id = uuid4()
    desk.run(run_id)
    before = (desk.decisions(), desk.signals(), outbox(desk.strategy))
    desk.run(run_id)
    assert (desk.decisions(), desk.signals(), outbox(desk.strategy)) == before


def test_it_never_orders_beyond_its_position_size(desk: Desk) -> None:
    """An order larger than the largest position is cut to it."""
    small = replace(RULES, order_qty=Decimal(10), max_position_qty=Decimal(4))
    desk.add_strategy(replace(STRATEGY, id=uuid4(), name="small", symbols=("IBM",), rules=small))
    desk.add_bars(RISING, symbol="IBM")
    desk.run()
    assert [sent.body["qty"] for sent in desk.submitted()] == ["4"]


def test_its_position_size_holds_while_orders_does_not_answer(desk: Desk) -> None:
    """With orders away its first order is not in the books yet; the next bar must not bring a second one."""
    limited = replace(RULES, max_position_qty=RULES.order_qty)
    desk.add_strategy(replace(STRATEGY, id=uuid4(), name="limited", symbols=("IBM",), rules=limited))
    for closes in (RISING, (14,), (15,)):
        desk.add_bars(closes, symbol="IBM")
        desk.run()
    ordered = [Decimal(sent.body["qty"]) for sent in desk.submitted()]
    assert sum(ordered) <= limited.max_position_qty


@pytest.mark.parametrize(("own", "decided"), [(0, ("hold", 0)), (4, ("sell", 4))])
def test_shares_bought_by_hand_are_not_its_to_sell(desk: Desk, own: int, decided: tuple[str, int]) -> None:
    """Ten shares that somebody bought on its account stay there."""
    desk.add_bars(FALLING)
    desk.add_order(10, by=None)
    if own:
        desk.add_order(own)
    desk.run()
    assert desk.decided()[:2] == decided


def test_it_sells_no_more_than_the_account_still_holds(desk: Desk) -> None:
    """Of the ten it bought somebody sold seven by hand."""
    desk.add_bars(FALLING)
    desk.add_order(10)
    desk.add_order(7, by=None, side=Side.SELL)
    desk.run()
    assert desk.decided()[:2] == ("sell", 3)


def test_its_orders_fill_as_any_other(system: System) -> None:
    """Bars up, a buy; bars down, a sell of those shares and not of the three bought by hand."""
    desk = Desk(system.contexts["strategy"], system.contexts["marketdata"], system.contexts["orders"])
    engine, by_hand = system.contexts["orders"].engine, order(STRATEGY.account_id, qty=Decimal(3))
    send(system.contexts["gateway"], account(STRATEGY.account_id))
    settled(system)
    send(system.contexts["gateway"], by_hand)
    desk.add_strategy()
    for closes, action, position in ((RISING, "buy", 13), ((9, 8), "sell", 3)):
        desk.add_bars(closes)
        desk.run()
        settled(system)
        push(system.contexts["marketdata"], {"AAPL": Decimal(closes[-1])})
        settled(system)
        (made,) = [each for each in desk.decisions() if each.strategy_id == STRATEGY.id and each.action == action]
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
