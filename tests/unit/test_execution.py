"""The effect of a batch of prices on the open orders, with an example of each rule."""

from copy import deepcopy
from datetime import timedelta
from decimal import Decimal

import pytest

from shared.contracts.orders import OrderStatus
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.ledger import Kind
from shared.exchange.lots import Lot, held
from shared.exchange.matching.book import Book, Canceled, Execution, position_of
from shared.exchange.matching.fills import Fill
from shared.exchange.refusal import Refusal
from shared.money import ZERO
from tests.unit.execution_examples import HOLDING, book_of, executed
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, QUOTED, account, facts, order, quote


def test_a_market_order_without_a_price_waits() -> None:
    """Prices of other symbols change nothing."""
    book = book_of("1000")
    before = deepcopy(book)
    assert executed([order("buy 1 AAPL market")], book, "IBM 99/101 100") == Execution()
    assert executed([order("buy 1 AAPL market")], book) == Execution()
    assert (book.accounts, book.lots) == (before.accounts, before.lots)


def test_a_market_order_waits_while_its_only_price_is_as_old_as_itself() -> None:
    """The first newer quote fills it."""
    waiting, book = order("buy 1 AAPL market"), book_of("1000")
    assert executed([waiting], book, "AAPL 99/101 100", at=ACCEPTED) == Execution()
    (fill,) = executed([waiting], book, "AAPL 99/101 100").fills
    assert fill.price == 101


def test_an_order_by_a_share_of_the_volume_slips_by_all_that_was_taken_of_the_bar() -> None:
    """The second order pays for what the first one took. A limit order takes its part, and never slips itself."""
    fills = {"slippage": {"kind": "volume_share", "rate": "0.1"}}
    book, on = book_of("100000", fills=fills), quote("AAPL 99/100 100", volume=Decimal(100))
    buying = [order(f"buy {qty} AAPL market", number) for number, qty in ((1, "10"), (2, "20"))]
    execution = executed([*buying, order("buy 20 AAPL limit 101", 3), order("buy 50 AAPL market", 4)], book, on)
    assert [fill.price for fill in execution.fills] == [
        Decimal("100.1"),  # a tenth of the volume: 0.1 x 0.1²
        Decimal("100.9"),  # three tenths
        Decimal("106.4"),  # eight tenths; market orders come first
        Decimal(100),
    ]


def test_an_order_by_a_share_of_the_volume_waits_where_nothing_was_traded() -> None:
    """Its slippage would be unknown. An ioc order ends, and a limit order, which never slips, fills."""
    book = book_of("100000", fills={"slippage": {"kind": "volume_share", "rate": "0.1"}})
    orders = [order("buy 1 AAPL market"), order("buy 1 AAPL market ioc", 2), order("buy 1 AAPL limit 101", 3)]
    execution = executed(orders, book, quote("AAPL 99/100 100", volume=ZERO, ask_size=Decimal(100)))
    assert [(fill.order.id.int, fill.price) for fill in execution.fills] == [(3, Decimal(100))]
    assert [ended.id.int for ended, why in execution.outcomes if isinstance(why, Canceled)] == [2]


@pytest.mark.parametrize("tif", ["ioc", "fok"])
def test_an_order_that_must_fill_at_once_waits_for_a_quote_that_it_can_fill_on(tif: str) -> None:
    """It ends with the first one, or with one that comes too late."""
    asked = order(f"buy 1 AAPL market {tif}", expires_at=QUOTED + timedelta(minutes=2))
    book = book_of("1000")
    for unusable in ("AAPL 99/ 100", "AAPL 101/100 100", quote("AAPL 99/101 100", ask_size=ZERO)):
        assert executed([asked], book, unusable) == Execution()
    late = executed([asked], book, "AAPL 99/101 100", at=QUOTED + timedelta(minutes=2))
    assert [why for _, why in late.outcomes] == [Canceled(CancelReason(tif))]
    (fill,) = executed([asked], book_of("1000"), "AAPL 99/101 100").fills
    assert fill.price == 101


def test_a_buy_turns_cash_into_a_lot() -> None:
    """It fills completely at the ask, and its reservation is freed."""
    book = book_of("2000", reserved="1111.11")
    buying = order("buy 10.5 AAPL limit 105.82", reserved=Decimal("1111.11"))
    execution = executed([buying], book, "AAPL 99.90/100.13 100")
    ((filled, fill),) = execution.outcomes
    assert isinstance(fill, Fill)
    assert (fill.qty, fill.price, fill.amount, fill.cash) == (
        Decimal("10.5"),
        Decimal("100.13"),
        Decimal("1051.37"),
        Decimal("-1051.37"),
    )
    assert (filled.status, filled.filled_qty, filled.filled_avg_price, filled.fills, filled.reserved) == (
        OrderStatus.FILLED,
        Decimal("10.5"),
        Decimal("100.13"),
        1,
        ZERO,
    )
    assert book.accounts[ACCOUNT] == account("948.63", "0.00")
    assert book.lots[HOLDING] == (Lot(fill.id, QUOTED, Decimal("10.5"), Decimal("1051.37")),)
    assert execution.round_trips == []
    (entry,) = execution.entries
    assert (entry.kind, entry.reference, entry.qty, entry.cost, entry.cash) == (
        Kind.FILL,
        fill.id,
        Decimal("10.5"),
        Decimal("1051.37"),
        Decimal("-1051.37"),
    )


def test_a_sell_closes_the_oldest_lots_with_their_profit() -> None:
    """It makes two round trips, one for each lot."""
    book = book_of("0", "10 for 900", "10 for 1100")
    execution = executed([order("sell 15 AAPL market")], book, "AAPL 100/100.20 100.10")
    trips = execution.round_trips
    assert [(trip.closed.lot.fill_id.int, trip.closed.proceeds - trip.closed.cost) for trip in trips] == [
        (1, Decimal(100)),
        (2, Decimal(-50)),
    ]
    assert {trip.exit.id for trip in trips} == {execution.fills[0].id}
    assert book.accounts[ACCOUNT].cash == 1500
    assert position_of(book.lots[HOLDING]) == (Decimal(5), Decimal(550))
    (entry,) = execution.entries
    assert entry.balances
    assert facts(entry.cash, entry.qty, entry.cost, entry.realized) == (1500, -15, -1450, 50)


def test_a_buy_that_the_account_can_no_longer_pay_is_rejected() -> None:
    """It was accepted at a lower price. Its reservation is freed, and nothing else changes."""
    book = book_of("1010", reserved="1010")
    buying = order("buy 10 AAPL stop 100", reserved=Decimal(1010))
    execution = executed([buying], book, "AAPL 101.90/102 102")
    ((ended, refusal),) = execution.outcomes
    assert refusal == Refusal(
        RejectReason.INSUFFICIENT_BUYING_POWER,
        "insufficient buying power when it would have filled (needed: 1020, available: 1010)",
    )
    assert (ended.status, ended.reserved, ended.filled_qty, ended.fills) == (OrderStatus.REJECTED, ZERO, ZERO, 0)
    assert not execution.fills
    assert not execution.round_trips
    assert (book.accounts, book.lots) == (book_of("1010").accounts, book_of("1010").lots)


def test_a_buy_may_spend_its_reservation_and_free_cash() -> None:
    """It may not spend a cent of other orders' reservations."""
    buying = order("buy 10 AAPL market", reserved=Decimal(900))
    exact = book_of("1500", reserved="1400")
    assert len(executed([buying], exact, "AAPL 99/100 100").fills) == 1
    assert exact.accounts[ACCOUNT] == account("500", "500")
    assert executed([buying], book_of("1500", reserved="1400.01"), "AAPL 99/100 100").fills == []


def test_orders_execute_in_the_sequence_of_their_acceptance() -> None:
    """If the cash is enough for one, the earlier gets it, in whatever sequence they are passed."""
    late = order("buy 10 AAPL market", 1, accepted_at=ACCEPTED + timedelta(milliseconds=1))
    early = order("buy 10 AAPL market", 2)
    execution = executed([late, early], book_of("1500"), "AAPL 99/100 100")
    assert [(each.id, each.status) for each in execution.orders] == [
        (early.id, OrderStatus.FILLED),
        (late.id, OrderStatus.REJECTED),
    ]


def test_a_sell_pays_for_the_buy_after_it() -> None:
    """A later fill of a batch may spend the cash of an earlier one."""
    book = book_of("0", "10 for 900")
    orders = [order("sell 10 AAPL market", 1), order("buy 5 IBM market", 2)]
    assert len(executed(orders, book, "AAPL 100/101 100", "IBM 199/200 200").fills) == 2
    assert book.accounts[ACCOUNT].cash == 0
    assert held(book.lots[ACCOUNT, "IBM"]) == 5


def test_shares_that_are_gone_cannot_be_sold() -> None:
    """The second of two sells of the same shares is rejected, and no short position arises."""
    book = book_of("0", "10 for 900")
    orders = [order("sell 10 AAPL market", 1), order("sell 1 AAPL market", 2)]
    (_, first), (ended, second) = executed(orders, book, "AAPL 100/101 100").outcomes
    assert isinstance(first, Fill)
    assert second == Refusal(RejectReason.INSUFFICIENT_SHARES, "only 0 shares are left to sell")
    assert ended.status is OrderStatus.REJECTED
    assert book.accounts[ACCOUNT].cash == 1000


def test_a_sell_without_a_position_is_rejected() -> None:
    """There is not even an empty list of lots."""
    book = Book({ACCOUNT: account("0")}, {})
    ((_, refusal),) = executed([order("sell 1 AAPL market")], book, "AAPL 100/101 100").outcomes
    assert refusal == Refusal(RejectReason.INSUFFICIENT_SHARES, "only 0 shares are left to sell")


def test_a_partly_filled_order_fills_with_its_rest() -> None:
    """The average price is weighted by quantity, and the fill is the order's second."""
    begun = order(
        "buy 10 AAPL limit 110",
        filled_qty=Decimal(4),
        filled_avg_price=Decimal(100),
        fills=1,
        status=OrderStatus.PARTIALLY_FILLED,
    )
    ((filled, fill),) = executed([begun], book_of("1000"), "AAPL 99/105 105").outcomes
    assert isinstance(fill, Fill)
    assert (fill.number, fill.qty, fill.amount) == (2, Decimal(6), Decimal(630))
    assert (filled.status, filled.filled_qty, filled.filled_avg_price) == (
        OrderStatus.FILLED,
        Decimal(10),
        Decimal(103),
    )


def test_the_same_fill_has_the_same_id() -> None:
    """Executed again after a crash, it is the same row and the same message."""
    buying = order("buy 10 AAPL market")
    (first,) = executed([buying], book_of("9999"), "AAPL 99/100 100").fills
    (again,) = executed([buying], book_of("9999"), "AAPL 99/100 100").fills
    (other,) = executed([order("buy 10 AAPL market", 2)], book_of("9999"), "AAPL 99/100 100").fills
    assert first.id == again.id != other.id


def test_a_batch_without_orders_changes_nothing() -> None:
    """The batch is empty, or no order is open."""
    assert executed([], book_of("1"), "AAPL 100") == Execution()


@pytest.mark.parametrize("tif", ["ioc", "fok"])
def test_an_order_that_must_fill_at_once_ends_with_its_first_quote(tif: str) -> None:
    """Away from the market it is canceled, and its reservation is freed."""
    book = book_of("1000", reserved="500")
    waiting = order(f"buy 10 AAPL limit 50 {tif}", reserved=Decimal(500))
    ((ended, why),) = executed([waiting], book, "AAPL 99/101 100").outcomes
    assert (ended.status, why) == (OrderStatus.CANCELED, Canceled(CancelReason(tif)))
    assert book.accounts[ACCOUNT].reserved == 0
    assert executed([order(f"buy 10 AAPL limit 101 {tif}")], book_of("2000"), "AAPL 99/101 100").orders[0].fills == 1


@pytest.mark.parametrize(("tif", "filled", "left"), [("ioc", 6, 0), ("fok", 0, 6)])
def test_fok_fills_completely_or_not_and_ioc_as_far_as_it_can(tif: str, filled: int, left: int) -> None:
    """Six of the twelve at the ask are available. The quantity that fok leaves is available to others."""
    book = book_of("9999", fills={"participation": "0.5"})
    thin = quote("AAPL 99/100 100", ask_size=Decimal(12))
    (ended,) = executed([order(f"buy 10 AAPL market {tif}")], book, thin).orders
    assert facts(ended.status, ended.filled_qty) == (OrderStatus.CANCELED, filled)
    later = executed([order("buy 10 AAPL market", 2)], book, thin).fills
    assert [fill.qty for fill in later] == [left] * bool(left)


def test_a_rejected_order_consumes_no_liquidity() -> None:
    """It is available to the next order."""
    book = book_of("100", fills={"participation": "1"})
    orders = [order("buy 5 AAPL market", 1), order("buy 1 AAPL market", 2)]
    fills = executed(orders, book, quote("AAPL 99/100 100", ask_size=Decimal(5))).fills
    assert [fill.order.id.int for fill in fills] == [2]


def test_a_partly_filled_order_that_can_no_longer_be_paid_is_canceled() -> None:
    """The four filled shares stay, so the order is not rejected."""
    begun = order("buy 10 AAPL market", filled_qty=Decimal(4), filled_avg_price=Decimal(100), fills=1)
    ((ended, why),) = executed([begun], book_of("100"), "AAPL 99/101 100").outcomes
    assert facts(ended.status, ended.filled_qty) == (OrderStatus.CANCELED, 4)
    assert why == Canceled(RejectReason.INSUFFICIENT_BUYING_POWER)


def test_earlier_stages_execute_first() -> None:
    """The open precedes the range and the range the quote, whenever the orders came."""
    book = book_of("9999", fills={"fills_on": "bar"})
    orders = [order("buy 1 AAPL market", 1), order("buy 1 AAPL limit 97", 2), order("buy 1 AAPL stop 100", 3)]
    fills = executed(orders, book, "AAPL 99/101 100 of 100 105 96").fills
    assert [facts(fill.order.id.int, fill.stage.name, fill.price) for fill in fills] == [
        (3, "OPEN", 100),
        (2, "RANGE", 97),
        (1, "QUOTE", 101),
    ]


def test_at_one_stage_price_precedes_time() -> None:
    """Market orders precede, then the better limit, then the earlier order."""
    soon, later = (ACCEPTED + timedelta(milliseconds=ms) for ms in (1, 2))
    orders = [
        order("buy 1 AAPL limit 101", 1),
        order("buy 1 AAPL limit 102", 2, accepted_at=soon),
        order("buy 1 AAPL limit 102", 3),
        order("buy 1 AAPL market", 4, accepted_at=later),
    ]
    fills = executed(orders, book_of("9999"), "AAPL 99/101 100").fills
    assert [fill.order.id.int for fill in fills] == [4, 3, 2, 1]


def test_a_trailing_stop_that_only_followed_is_a_change_without_an_outcome() -> None:
    """Its new best price must be saved."""
    trailing = order("sell 10 AAPL trailing_stop 5", hwm=Decimal(100))
    execution = executed([trailing], book_of("0", "10 for 900"), "AAPL 119/121 120")
    assert execution.outcomes == []
    assert [facts(each.hwm, each.is_working) for each in execution.orders] == [(120, True)]


def test_a_fill_is_not_earlier_than_its_quote() -> None:
    """The provider's clock may be ahead of ours."""
    ahead = quote("AAPL 99/101 100", at=QUOTED + timedelta(seconds=2))
    (fill,) = executed([order("buy 1 AAPL market")], book_of("9999"), ahead).fills
    assert fill.at == ahead.quoted_at
