"""Replacing an open order: a new order continues with its rest."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.orders import OrderClass, OrderStatus, ReplaceOrder
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure, Halt, Instrument
from shared.exchange.acceptance.replace import Replaced, admit_replacement
from shared.exchange.order import Account, Leg, Order
from shared.exchange.refusal import Refusal
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, INSTRUMENT, MARGIN, account, facts, order, submission

NOW = ACCEPTED + timedelta(minutes=1)
CLOSE = ACCEPTED + timedelta(hours=6)
OPEN = Instrument(True, INSTRUMENT.ask, INSTRUMENT.bid, INSTRUMENT.last, session_end=CLOSE)
NEW = UUID(int=99)


def begun(text: str = "buy 10 AAPL limit 100", filled: str = "4", **fields: Any) -> Order:
    """A partly filled order. The rest of a buy has 600 reserved, the rest of a sell has its shares held."""
    given = {"filled_qty": Decimal(filled), "status": OrderStatus.PARTIALLY_FILLED}
    kept = {"reserved": Decimal(600)} if text.startswith("buy") else {"held_for_orders": Decimal(6)}
    return order(text, **{**given, **kept, **fields})


def answer_to(
    old: Order,
    order_group: list[Order] | None = None,
    *,
    owner: Account | None = None,
    held: str = "0",
    held_for_orders: str = "0",
    instrument: Instrument = OPEN,
    **changes: Any,
) -> Replaced | Refusal:
    command = ReplaceOrder(account_id=ACCOUNT, order_id=old.id, new_order_id=NEW, requested_at=NOW, **changes)
    exposure = Exposure(Decimal(held), Decimal(held_for_orders))
    return admit_replacement(order_group or [old], command, instrument, owner or account("5000", "600"), exposure, NOW)


def replaced(old: Order, order_group: list[Order] | None = None, **changes: Any) -> Replaced:
    found = answer_to(old, order_group, **changes)
    assert isinstance(found, Replaced)
    return found


def test_the_new_order_has_only_the_rest() -> None:
    """Four of ten have filled. With a new quantity of twelve, eight are open."""
    found = replaced(begun(), qty="12", limit_price="102")
    assert facts(found.ended.status, found.ended.filled_qty, found.ended.reserved) == (OrderStatus.REPLACED, 4, 0)
    new = found.order
    assert facts(new.id, new.qty, new.filled_qty, new.carried, new.limit_price) == (NEW, 8, 0, 4, 102)
    assert (new.status, new.accepted_at, new.active_at) == (OrderStatus.ACCEPTED, NOW, NOW)
    assert facts(new.reserved, found.account.reserved) == (816, 816)


def test_terms_that_are_not_changed_stay() -> None:
    """Side, type, prices, strategy, trace and open quantity are those of the old order."""
    old = begun("sell 10 AAPL stop_limit 95 94", strategy_id=UUID(int=5), trace="journey")
    new = replaced(old, held="6", held_for_orders="6").order
    kept = ("symbol", "side", "type", "time_in_force", "limit_price", "stop_price", "strategy_id", "trace")
    assert [getattr(new, name) for name in kept] == [getattr(old, name) for name in kept]
    assert new.qty == 6


def test_a_chain_of_replaces_remembers_all_fills() -> None:
    """Four and then three have filled, so the exits of the entry get seven."""
    assert replaced(begun(filled="3", carried=Decimal(4))).order.carried == 7


@pytest.mark.parametrize(
    ("text", "changes", "field", "value"),
    [
        ("buy 10 AAPL limit 100", {"limit_price": "90"}, "limit_price", "90"),
        ("buy 10 AAPL stop 100", {"stop_price": "110"}, "stop_price", "110"),
        ("sell 10 AAPL trailing_stop 5", {"trail": "3"}, "trail_price", "3"),
        ("sell 10 AAPL trailing_stop 5%", {"trail": "3"}, "trail_percent", "3"),
    ],
)
def test_each_price_may_change(text: str, changes: dict[str, Any], field: str, value: str) -> None:
    """A trail stays an amount or a percentage."""
    old = begun(text)
    assert getattr(replaced(old, held="6", held_for_orders="6", **changes).order, field) == Decimal(value)


def test_a_new_time_in_force_has_its_own_end() -> None:
    """A day order ends at the close, a gtc order ninety days after the change."""
    assert replaced(begun(), time_in_force="day").order.expires_at == CLOSE
    assert replaced(begun(expires_at=CLOSE)).order.expires_at == NOW + timedelta(days=90)


def test_a_replaced_trailing_stop_keeps_its_best_price() -> None:
    """It has followed the market since the old order was accepted."""
    old = begun("sell 10 AAPL trailing_stop 5", hwm=Decimal(130))
    assert replaced(old, held="6", held_for_orders="6", trail="3").order.hwm == 130


@pytest.mark.parametrize(
    ("changes", "triggered"), [({"limit_price": "101"}, True), ({"stop_price": "105"}, False), ({"qty": "9"}, True)]
)
def test_a_triggered_stop_stays_triggered_unless_it_is_moved(changes: dict[str, Any], *, triggered: bool) -> None:
    """A new stop must be reached again."""
    old = begun("buy 10 AAPL stop_limit 99 100", triggered=True)
    assert replaced(old, **changes).order.triggered is triggered


@pytest.mark.parametrize(
    ("old", "changes", "reason"),
    [
        (begun(status=OrderStatus.FILLED), {}, "not_replaceable"),
        (order("buy $1000 AAPL market"), {}, "notional"),
        (begun(), {"qty": "4"}, "qty"),
        (begun(), {"trail": "1"}, "trail"),
        (begun(), {"stop_price": "90"}, "invalid"),
        (begun(), {"qty": "10.5"}, "invalid"),
        (begun("buy 10 AAPL stop 100"), {"time_in_force": "ioc"}, "invalid"),
        (begun("sell 10 AAPL trailing_stop 5%"), {"trail": "100"}, "invalid"),
        (begun(), {"limit_price": "1000"}, "insufficient_buying_power"),
        (begun("sell 10 AAPL limit 110"), {"qty": "20"}, "insufficient_shares"),
        (begun(order_class=OrderClass.OCO, leg=Leg.STOP_LOSS), {"qty": "20"}, "qty"),
        (begun(order_class=OrderClass.BRACKET), {"time_in_force": "fok"}, "time_in_force"),
        (begun(order_class=OrderClass.BRACKET), {"qty": "10.5", "time_in_force": "day"}, "qty"),
    ],
)
def test_an_impossible_replace_is_refused_with_its_reason(old: Order, changes: dict[str, Any], reason: str) -> None:
    """The order and the account do not change."""
    found = answer_to(old, held="6", held_for_orders="6", **changes)
    assert isinstance(found, Refusal)
    assert found.reason == reason


def test_invalid_terms_are_refused_in_one_sentence() -> None:
    """It begins with the field and has none of the library's words."""
    found = answer_to(begun(), stop_price="90")
    assert found == Refusal(RejectReason.INVALID, "stop_price cannot be set on a limit order")
    found = answer_to(begun("sell 10 AAPL trailing_stop 5%"), trail="100")
    assert found == Refusal(RejectReason.INVALID, "trail_percent: Input should be less than 100")


def test_the_new_order_is_checked_against_the_account_without_the_old_one() -> None:
    """It may use the old order's reservation and shares, and not a cent more."""
    exact = account("612", "600")
    assert replaced(begun(), owner=exact, limit_price="102").account.reserved == 612
    refused = answer_to(begun(), owner=account("611.99", "600"), limit_price="102")
    assert isinstance(refused, Refusal)
    selling = begun("sell 10 AAPL limit 110")
    assert replaced(selling, held="9", held_for_orders="8", qty="11").order.held_for_orders == 7
    assert isinstance(answer_to(selling, held="9", held_for_orders="8", qty="12"), Refusal)


def order_group(text: str, *, held: str = "0") -> list[Order]:
    exposure = Exposure(Decimal(held))
    entered = admit(submission(text), OPEN, account("5000", **MARGIN), exposure, ACCEPTED)
    assert isinstance(entered, Admitted)
    return list(entered.orders)


def test_a_replaced_entry_keeps_its_exits() -> None:
    """The shares bought so far stay held for them."""
    entry, *exits = order_group("buy 10 AAPL limit 100 bracket 110/95")
    entry = replace(entry, filled_qty=Decimal(4), held_for_orders=Decimal(4), reserved=Decimal(600))
    new = replaced(entry, [entry, *exits], held="4", held_for_orders="4", limit_price="101").order
    assert (new.order_group, new.order_class, new.leg) == (entry.order_group, OrderClass.BRACKET, None)
    assert facts(new.qty, new.carried, new.held_for_orders, new.reserved) == (6, 4, 4, 606)


def test_a_held_exit_stays_held() -> None:
    """It needs no buying power and no shares yet."""
    entry, gain, loss = order_group("buy 10 AAPL limit 100 bracket 110/95:94")
    found = replaced(loss, [entry, gain, loss], stop_price="96", limit_price="95")
    new = found.order
    assert facts(new.status, new.leg, new.order_group, new.qty) == (
        OrderStatus.HELD,
        Leg.STOP_LOSS,
        entry.order_group,
        10,
    )
    assert facts(new.stop_price, new.limit_price, new.held_for_orders) == (96, 95, 0)
    assert new.expires_at == new.active_at + timedelta(days=90)
    assert found.account == account("5000", "600")


@pytest.mark.parametrize("place", range(3))
def test_the_orders_of_a_group_change_their_time_in_force_together(place: int) -> None:
    """An exit that ends at the close would take a gtc entry along."""
    orders = order_group("buy 10 AAPL limit 100 bracket 110/95")
    found = replaced(orders[place], orders, time_in_force="day")
    assert {each.id for each in found.others} == {each.id for each in orders} - {orders[place].id}
    assert {(each.time_in_force, each.expires_at) for each in (found.order, *found.others)} == {("day", CLOSE)}
    assert replaced(orders[place], orders, time_in_force="gtc").others == ()


@pytest.mark.parametrize("place", range(3))
def test_no_order_is_replaced_while_its_symbol_is_halted(place: int) -> None:
    """Neither an entry nor its held exits are, whatever changes."""
    orders = order_group("buy 10 AAPL limit 100 bracket 110/95")
    halted = replace(OPEN, halt=Halt(ACCEPTED, "news pending"))
    found = answer_to(orders[place], orders, instrument=halted, time_in_force="day")
    assert isinstance(found, Refusal)
    assert (found.reason, "since 2026-11-23 15:00:00 UTC: news" in found.message) == ("symbol_halted", True)


@pytest.mark.parametrize(("place", "change", "held_for_orders"), [(0, "limit_price", 10), (1, "stop_price", 0)])
def test_the_shares_of_two_exits_are_held_once_after_a_replace(place: int, change: str, held_for_orders: int) -> None:
    """This holds whichever of them is replaced."""
    exits = order_group("sell 10 AAPL limit 110 oco 110/95", held="10")
    new = replaced(exits[place], exits, held="10", held_for_orders="10", **{change: "99"}).order
    assert facts(new.held_for_orders, new.order_group, new.leg, new.qty) == (
        held_for_orders,
        exits[0].order_group,
        exits[place].leg,
        10,
    )
    assert getattr(new, change) == 99


def test_latency_applies_to_a_replaced_order_again() -> None:
    """The new order needs its time to the market, as any other."""
    slow = account("5000", "600", fills={"latency": "2"})
    assert replaced(begun(), owner=slow).order.active_at == NOW + timedelta(seconds=2)
