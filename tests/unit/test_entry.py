"""Accepting an order: the orders that it becomes, with their reservations."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.orders import NewOrder, OrderStatus
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.entry import Admitted, admit, refused
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.order import TERMS, Account, Order
from shared.exchange.refusal import Refusal
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, INSTRUMENT, MARGIN, account, facts, submission

CLOSE = ACCEPTED + timedelta(hours=6)
OPEN = Instrument(True, INSTRUMENT.ask, INSTRUMENT.bid, INSTRUMENT.last, session_end=CLOSE)
RICH = account("100000", **MARGIN)


def admitted(
    text: str,
    owner: Account = RICH,
    *,
    held: str = "0",
    held_for_orders: str = "0",
    instrument: Instrument = OPEN,
    **fields: Any,
) -> Admitted:
    exposure = Exposure(held=Decimal(held), held_for_orders=Decimal(held_for_orders))
    found = admit(submission(text, **fields), instrument, owner, exposure, ACCEPTED, "journey")
    assert isinstance(found, Admitted)
    return found


def first(text: str, owner: Account = RICH, **known: Any) -> Order:
    return admitted(text, owner, **known).orders[0]


@pytest.mark.parametrize(
    ("text", "held", "reserved", "held_for_orders"),
    [
        ("buy 10 AAPL limit 99.50", "0", "995", "0"),
        ("buy 10 AAPL market", "0", "1011.01", "0"),
        ("sell 10 AAPL market", "10", "0", "10"),
        ("sell 10 AAPL market", "0", "1031.03", "0"),  # three percent above the ask
        ("sell 10 AAPL limit 120", "0", "1200", "0"),
        ("sell 10 AAPL market", "4", "618.62", "4"),
        ("buy 10 AAPL market", "-10", "0", "10"),
        ("buy 10 AAPL limit 99.50", "-4", "597", "4"),
        ("buy $1000 AAPL market", "0", "1000", "0"),
        ("sell $1000 AAPL market", "20", "0", "10.110110110"),  # one percent more shares than at the bid
        ("sell $1000 AAPL market", "10.05", "0", "10.05"),
    ],
)
def test_opening_reserves_cash_and_closing_holds_shares(
    text: str, held: str, reserved: str, held_for_orders: str
) -> None:
    """This holds on both sides and in parts, and the account and its exposure include it."""
    found = admitted(text, held=held)
    assert (found.orders[0].reserved, found.orders[0].held_for_orders) == (Decimal(reserved), Decimal(held_for_orders))
    assert found.account.reserved == Decimal(reserved)
    assert (found.exposure.held_for_orders, found.exposure.recent) == (Decimal(held_for_orders), 1)


@pytest.mark.parametrize(("side", "held"), [("sell", "10"), ("buy", "-10")])
def test_shares_held_for_other_orders_cannot_be_closed_again(side: str, held: str) -> None:
    """Six of ten are held for other orders: four may close, and no more, although the account may sell short."""
    assert first(f"{side} 4 AAPL limit 100", held=held, held_for_orders="6").held_for_orders == 4
    exposure = Exposure(held=Decimal(held), held_for_orders=Decimal(6))
    found = admit(submission(f"{side} 5 AAPL limit 100"), OPEN, RICH, exposure, ACCEPTED)
    assert found == Refusal(
        RejectReason.INSUFFICIENT_SHARES,
        "insufficient qty available for order (requested: 5, available: 4)",
        {"available": "4", "existing_qty": "10", "held_for_orders": "6", "symbol": "AAPL"},
    )


@pytest.mark.parametrize(("side", "held", "closing"), [("sell", "7", 7), ("buy", "-7", 7)])
def test_one_order_may_cross_from_long_to_short_and_back(side: str, held: str, closing: int) -> None:
    """No share is held for another order, so nothing is promised twice."""
    assert first(f"{side} 10 AAPL limit 100", held=held).held_for_orders == closing


def test_the_commission_is_reserved_with_the_price() -> None:
    """A fill at the limit must not fail for its fee."""
    owner = account("1000", fills={"commission": {"kind": "percent", "rate": "0.5"}})
    assert first("buy 10 AAPL limit 99.50", owner).reserved == Decimal("999.98")
    poor = account("999.97", fills={"commission": {"kind": "percent", "rate": "0.5"}})
    refusal = admit(submission("buy 10 AAPL limit 99.50"), OPEN, poor, Exposure(), ACCEPTED)
    assert isinstance(refusal, Refusal)


AT_ONCE = ACCEPTED + OPEN.max_quote_age


@pytest.mark.parametrize(
    ("tif", "expires"),
    [("day", CLOSE), ("gtc", ACCEPTED + timedelta(days=90)), ("ioc", AT_ONCE), ("fok", AT_ONCE)],
)
def test_an_order_ends_with_its_time_in_force(tif: str, expires: object) -> None:
    """A gtc order ends after ninety days. One that must fill at once waits no longer than a quote stays fresh."""
    assert first(f"buy 10 AAPL limit 99 {tif}").expires_at == expires


def test_an_order_with_extended_hours_ends_with_them() -> None:
    """A gtc order ends by its age, whatever its hours are."""
    late = replace(OPEN, extended_end=CLOSE + timedelta(hours=4))
    day = first("buy 10 AAPL limit 99 day", instrument=late, extended_hours=True)
    assert day.expires_at == CLOSE + timedelta(hours=4)
    lasting = first("buy 10 AAPL limit 99 gtc", instrument=late, extended_hours=True)
    assert lasting.expires_at == ACCEPTED + timedelta(days=90)


@pytest.mark.parametrize(
    ("terms", "quoted", "rests"),
    [
        ("buy 1 AAPL limit 100.10", {}, False),
        ("buy 1 AAPL limit 100.09", {}, True),
        ("sell 1 AAPL limit 99.90", {}, False),
        ("sell 1 AAPL limit 99.91", {}, True),
        ("buy 1 AAPL limit 150", {"ask": None}, True),  # nobody sells
        ("buy 1 AAPL limit 100", {"ask": None, "bid": None}, False),  # no quote: the last price
        ("buy 1 AAPL limit 99.99", {"ask": None, "bid": None}, True),
        ("buy 1 AAPL limit 1", {"ask": None, "bid": None, "last": None}, None),  # nothing is known
        ("buy 1 AAPL market", {}, None),
    ],
)
def test_a_limit_order_rests_that_the_quote_does_not_reach_when_it_comes(
    terms: str, quoted: dict[str, Any], *, rests: bool | None
) -> None:
    """It then fills at its limit, and another one at the first quote after it."""
    assert first(terms, held="10", instrument=replace(OPEN, **quoted)).rests == rests


def test_the_exits_of_an_entry_rest() -> None:
    """They were on the market before the price that fills them."""
    orders = admitted("buy 1 AAPL limit 150 gtc bracket 160/90").orders
    assert [order.rests for order in orders] == [False, True, True]


def test_latency_is_the_time_until_an_order_reaches_the_market() -> None:
    """It is exact to the microsecond. Acceptance itself is immediate."""
    slow = first("buy 1 AAPL market", account("1000", fills={"latency": "0.250001"}))
    assert (slow.accepted_at, slow.active_at) == (ACCEPTED, ACCEPTED + timedelta(microseconds=250_001))


def test_a_trailing_stop_begins_at_the_last_price() -> None:
    """It does so where a last price is known. No other order has a best price."""
    assert first("sell 1 AAPL trailing_stop 5", held="1").hwm == 100
    assert first("sell 1 AAPL trailing_stop 5", held="1", instrument=Instrument(tradable=True)).hwm is None
    assert first("sell 1 AAPL stop 95", held="1").hwm is None


def shapes(orders: tuple[Order, ...]) -> list[tuple[str, ...]]:
    """The side, type, prices, leg and status of each order, in words."""
    return [tuple(str(each) for each in (o.side, o.type, o.limit_price, o.stop_price, o.leg, o.status)) for o in orders]


@pytest.mark.parametrize(
    ("text", "held", "rows"),
    [
        ("buy 10 AAPL market", "0", [("buy", "market", "None", "None", "None", "accepted")]),
        (
            "buy 10 AAPL limit 99 bracket 110/95",
            "0",
            [
                ("buy", "limit", "99", "None", "None", "accepted"),
                ("sell", "limit", "110", "None", "take_profit", "held"),
                ("sell", "stop", "None", "95", "stop_loss", "held"),
            ],
        ),
        (
            "sell 10 AAPL market oto /105:106",
            "0",
            [
                ("sell", "market", "None", "None", "None", "accepted"),
                ("buy", "stop_limit", "106", "105", "stop_loss", "held"),
            ],
        ),
        (
            "sell 10 AAPL limit 110 oco 110/95",
            "10",
            [
                ("sell", "limit", "110", "None", "take_profit", "accepted"),
                ("sell", "stop", "None", "95", "stop_loss", "accepted"),
            ],
        ),
    ],
)
def test_the_orders_of_each_class(text: str, held: str, rows: list[tuple[str, ...]]) -> None:
    """The exits of an entry are on the other side, those of an oco order on its own. They form one group."""
    orders = admitted(text, held=held).orders
    assert shapes(orders) == rows
    simple = len(orders) == 1
    assert {each.order_group for each in orders} == {None if simple else UUID(int=1)}
    assert {facts(each.qty, each.order_class, each.trace) for each in orders} == {
        (10, orders[0].order_class, "journey")
    }
    assert len({each.id for each in orders}) == len(orders)


def test_exits_reserve_and_hold_nothing_yet() -> None:
    """Their shares have not been bought. The exits of an oco order hold the same shares once."""
    assert {
        facts(leg.reserved, leg.held_for_orders) for leg in admitted("buy 10 AAPL market bracket 110/95").orders[1:]
    } == {(0, 0)}
    oco = admitted("sell 10 AAPL limit 110 oco 110/95", held="10").orders
    assert [each.held_for_orders for each in oco] == [10, 0]


def test_a_strategy_s_limits_bind_in_addition_to_those_of_the_account() -> None:
    """They bind only the orders of that strategy."""
    careful = UUID(int=9)
    owner = account("100000", strategies={str(careful): {"max_order_qty": "5"}}, limits={"max_order_qty": "20"})
    for strategy, qty, reason in ((careful, 6, "order_too_large"), (None, 6, None), (careful, 21, "order_too_large")):
        asked = submission(f"buy {qty} AAPL limit 1", strategy_id=strategy)
        found = admit(asked, OPEN, owner, Exposure(), ACCEPTED)
        assert getattr(found, "reason", None) == reason


def test_a_rejected_order_is_kept_without_a_reservation() -> None:
    """It shows the terms that were asked for."""
    row = refused(submission("sell 10 AAPL trailing_stop 2%"), account("0"), "USD", ACCEPTED)
    assert facts(row.status, row.reserved, row.held_for_orders, row.trail_percent) == (OrderStatus.REJECTED, 0, 0, 2)
    assert (row.account_id, row.is_open) == (ACCOUNT, False)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("buy 10 AAPL limit 99 day", {"extended_hours": True, "strategy_id": UUID(int=7)}),
        ("sell 10 AAPL stop_limit 95 94 gtc bracket 90/99", {}),
        ("buy 10 AAPL trailing_stop 2% day", {}),
        ("buy 10 AAPL trailing_stop 2 gtc", {}),
        ("buy $1000 AAPL market", {}),
    ],
)
def test_an_accepted_order_has_every_term_of_its_command(text: str, fields: dict[str, Any]) -> None:
    """The terms are copied by the names of their fields, so a new term needs no list here."""
    accepted, asked = first(text, **fields), submission(text, **fields)
    assert [getattr(accepted, name) for name in TERMS] == [getattr(asked, name) for name in TERMS]


def test_every_field_of_a_new_order_is_a_term_or_known_to_entry() -> None:
    """A field that is added to the command alone would be lost."""
    others = {"order_id", "client_order_id", "submitted_at", "take_profit", "stop_loss"}
    assert set(NewOrder.model_fields) == {*TERMS} | others
