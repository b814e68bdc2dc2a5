"""What a batch of prices does to the open orders: each rule by example."""

from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from services.orders.domain.lots import Lot, held
from services.orders.domain.matching import MarketRules
from services.orders.domain.order import Account, Order
from services.orders.domain.risk import Refusal
from services.orders.domain.settlement import Book, Fill, Settlement, position_of, settle
from shared.contracts.orders import OrderStatus
from shared.money import ZERO
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, QUOTED, order, quote

RULES = MarketRules()
HOLDING = (ACCOUNT, "AAPL")


def book_of(cash: str, *, reserved: str = "0", lots: tuple[Lot, ...] = ()) -> Book:
    """One account, and what it holds of AAPL."""
    return Book({ACCOUNT: Account(ACCOUNT, Decimal(cash), Decimal(reserved), sequence=1)}, {HOLDING: lots})


def lot(text: str, number: int = 1) -> Lot:
    """``"10 for 1000"``: ten shares that cost a thousand."""
    qty, _, cost = text.split()
    return Lot(UUID(int=number), ACCEPTED - timedelta(days=9 - number), Decimal(qty), Decimal(cost))


def settled(orders: Sequence[Order], book: Book, *quotes: str, at: datetime = QUOTED) -> Settlement:
    prices = [quote(text, at=at) for text in quotes]
    return settle(orders, {price.symbol: price for price in prices}, book, at, RULES)


def test_a_market_order_without_a_price_waits() -> None:
    """Prices of other symbols do not concern it, and nothing changes."""
    book = book_of("1000")
    before = deepcopy(book)
    assert settled([order("buy 1 AAPL market")], book, "IBM 99/101 100") == Settlement()
    assert settled([order("buy 1 AAPL market")], book) == Settlement()
    assert book == before


def test_a_market_order_waits_while_its_only_price_is_as_old_as_itself() -> None:
    """The first newer quote fills it."""
    waiting, book = order("buy 1 AAPL market"), book_of("1000")
    assert settled([waiting], book, "AAPL 99/101 100", at=ACCEPTED) == Settlement()
    (fill,) = settled([waiting], book, "AAPL 99/101 100").fills
    assert fill.price == 101


def test_a_buy_turns_cash_into_a_lot() -> None:
    """Whole, at the ask, with its reserve given back."""
    book = book_of("2000", reserved="1111.11")
    buying = order("buy 10.5 AAPL limit 105.82", reserved=Decimal("1111.11"))
    settlement = settled([buying], book, "AAPL 99.90/100.13 100")
    ((filled, fill),) = settlement.outcomes
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
    assert book.accounts[ACCOUNT] == Account(ACCOUNT, Decimal("948.63"), ZERO, sequence=1)
    assert book.lots[HOLDING] == (Lot(fill.id, QUOTED, Decimal("10.5"), Decimal("1051.37")),)
    assert settlement.round_trips == []


def test_a_sell_closes_the_oldest_lots_with_their_profit() -> None:
    """Two round trips, one for each lot that it touched."""
    book = book_of("0", lots=(lot("10 for 900", 1), lot("10 for 1100", 2)))
    settlement = settled([order("sell 15 AAPL market")], book, "AAPL 100/100.20 100.10")
    trips = settlement.round_trips
    assert [(trip.closed.lot.fill_id.int, trip.closed.proceeds - trip.closed.cost) for trip in trips] == [
        (1, Decimal(100)),
        (2, Decimal(-50)),
    ]
    assert {trip.exit.id for trip in trips} == {settlement.fills[0].id}
    assert book.accounts[ACCOUNT].cash == 1500
    assert position_of(book.lots[HOLDING]) == (Decimal(5), Decimal(550))


def test_a_buy_that_the_account_can_no_longer_pay_is_refused() -> None:
    """It was accepted at a lower price; it ends rejected, its reserve comes back, nothing else moves."""
    book = book_of("1010", reserved="1010")
    buying = order("buy 10 AAPL stop 100", reserved=Decimal(1010))
    settlement = settled([buying], book, "AAPL 101.90/102 102")
    ((ended, refusal),) = settlement.outcomes
    assert refusal == Refusal(
        "insufficient_buying_power",
        "insufficient buying power when it would have filled (needed: 1020, available: 1010)",
    )
    assert (ended.status, ended.reserved, ended.filled_qty, ended.fills) == (OrderStatus.REJECTED, ZERO, ZERO, 0)
    assert not settlement.fills
    assert not settlement.round_trips
    assert book == book_of("1010")


def test_a_buy_may_spend_what_it_has_reserved_and_what_is_free() -> None:
    """But not a cent of what other orders have reserved."""
    buying = order("buy 10 AAPL market", reserved=Decimal(900))
    exact = book_of("1500", reserved="1400")
    assert len(settled([buying], exact, "AAPL 99/100 100").fills) == 1
    assert exact.accounts[ACCOUNT] == Account(ACCOUNT, Decimal(500), Decimal(500), sequence=1)
    assert settled([buying], book_of("1500", reserved="1400.01"), "AAPL 99/100 100").fills == []


def test_orders_settle_in_the_order_of_their_acceptance() -> None:
    """Where the cash suffices for one, the earlier gets it, however they are handed in."""
    late = order("buy 10 AAPL market", 1, accepted_at=ACCEPTED + timedelta(milliseconds=1))
    early = order("buy 10 AAPL market", 2)
    settlement = settled([late, early], book_of("1500"), "AAPL 99/100 100")
    assert [(each.id, each.status) for each in settlement.orders] == [
        (early.id, OrderStatus.FILLED),
        (late.id, OrderStatus.REJECTED),
    ]


def test_a_sell_pays_for_the_buy_after_it() -> None:
    """Within one batch the cash of an earlier fill is there for a later one."""
    book = book_of("0", lots=(lot("10 for 900"),))
    orders = [order("sell 10 AAPL market", 1), order("buy 5 IBM market", 2)]
    assert len(settled(orders, book, "AAPL 100/101 100", "IBM 199/200 200").fills) == 2
    assert book.accounts[ACCOUNT].cash == 0
    assert held(book.lots[ACCOUNT, "IBM"]) == 5


def test_shares_that_are_gone_cannot_be_sold() -> None:
    """Two sells of the same shares: the second is refused, and no short position arises."""
    book = book_of("0", lots=(lot("10 for 900"),))
    orders = [order("sell 10 AAPL market", 1), order("sell 1 AAPL market", 2)]
    (_, first), (ended, second) = settled(orders, book, "AAPL 100/101 100").outcomes
    assert isinstance(first, Fill)
    assert second == Refusal("insufficient_shares", "only 0 shares are left to sell")
    assert ended.status is OrderStatus.REJECTED
    assert book.accounts[ACCOUNT].cash == 1000


def test_a_sell_of_what_was_never_held_is_refused() -> None:
    """There is not even an empty list of lots."""
    book = Book({ACCOUNT: Account(ACCOUNT, ZERO, ZERO, sequence=1)}, {})
    ((_, refusal),) = settled([order("sell 1 AAPL market")], book, "AAPL 100/101 100").outcomes
    assert refusal == Refusal("insufficient_shares", "only 0 shares are left to sell")


def test_what_was_filled_in_part_fills_with_its_rest() -> None:
    """The average price is by quantity, and the fill is the order's second."""
    begun = order(
        "buy 10 AAPL limit 110",
        filled_qty=Decimal(4),
        filled_avg_price=Decimal(100),
        fills=1,
        status=OrderStatus.PARTIALLY_FILLED,
    )
    ((filled, fill),) = settled([begun], book_of("1000"), "AAPL 99/105 105").outcomes
    assert isinstance(fill, Fill)
    assert (fill.number, fill.qty, fill.amount) == (2, Decimal(6), Decimal(630))
    assert (filled.status, filled.filled_qty, filled.filled_avg_price) == (
        OrderStatus.FILLED,
        Decimal(10),
        Decimal(103),
    )


def test_the_same_fill_has_the_same_id() -> None:
    """Settled again after a crash, it is the same row and the same message."""
    buying = order("buy 10 AAPL market")
    (first,) = settled([buying], book_of("9999"), "AAPL 99/100 100").fills
    (again,) = settled([buying], book_of("9999"), "AAPL 99/100 100").fills
    (other,) = settled([order("buy 10 AAPL market", 2)], book_of("9999"), "AAPL 99/100 100").fills
    assert first.id == again.id != other.id


def test_no_orders_are_no_work() -> None:
    """An empty batch, and one with nothing open."""
    assert settled([], book_of("1"), "AAPL 100") == Settlement()
