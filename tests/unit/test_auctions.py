"""The fills of an auction: one price for all, better orders first, and nothing left open afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.official_prices import AuctionKind, OfficialPricePublished
from shared.contracts.orders import OrderStatus
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.auctions import execute_auction
from shared.exchange.matching.book import Book, Canceled, Execution
from shared.exchange.matching.execution import execute
from shared.exchange.matching.matching import Stage
from shared.exchange.order import Order
from shared.exchange.refusal import Refusal
from shared.money import ZERO
from tests.unit.execution_examples import book_of, executed
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, account, facts, order, quote

HELD_AT = ACCEPTED + timedelta(minutes=5)


def held(price: str, **fields: Any) -> OfficialPricePublished:
    """The opening auction of AAPL. Its volume is unknown by default."""
    given = {"symbol": "AAPL", "kind": AuctionKind.OPEN, "day": date(2026, 11, 23), "held_at": HELD_AT}
    return OfficialPricePublished(**{**given, "price": price, "sequence": 7, "provider": "test", **fields})


def auctioned(orders: Sequence[Order], book: Book, price: str, **fields: Any) -> Execution:
    return execute_auction(orders, held(price, **fields), book, HELD_AT + timedelta(seconds=1))


def outcome(text: str, price: str, **fields: Any) -> str:
    """The price of the order's fill, or the reason why it has none."""
    (found,) = auctioned([order(text, **fields)], book_of("100000", "100 for 10000"), price).outcomes
    what = found[1]
    return what.reason if isinstance(what, Canceled | Refusal) else str(what.price)


@pytest.mark.parametrize(
    ("text", "price", "expected"),
    [
        ("buy 10 AAPL market opg", "101.37", "101.37"),
        ("sell 10 AAPL market opg", "101.37", "101.37"),
        ("buy 10 AAPL limit 102 opg", "101.37", "101.37"),  # at the official price, not at its limit
        ("buy 10 AAPL limit 101.37 opg", "101.37", "101.37"),
        ("buy 10 AAPL limit 101.36 opg", "101.37", "opg"),
        ("sell 10 AAPL limit 101.37 cls", "101.37", "101.37"),
        ("sell 10 AAPL limit 101.38 cls", "101.37", "cls"),
    ],
)
def test_all_trade_at_the_official_price_or_not_at_all(text: str, price: str, expected: str) -> None:
    """Market orders pay no half spread. A limit order whose limit excludes the price ends."""
    assert outcome(text, price) == expected


def test_an_auction_has_no_slippage_and_the_usual_commission() -> None:
    """All others got the official price as well, and the broker is paid as always."""
    costs = {"slippage": {"kind": "fixed", "rate": "50"}, "commission": {"kind": "per_share", "rate": "0.01"}}
    book = book_of("100000", fills=costs)
    (fill,) = auctioned([order("buy 10 AAPL market opg")], book, "100").fills
    assert facts(fill.price, fill.slippage, fill.fee) == (100, 0, Decimal("0.10"))
    assert book.accounts[ACCOUNT].cash == Decimal("98999.90")


def test_a_fill_carries_the_price_of_its_auction() -> None:
    """The price is a bar of one price at the time of the trade, newer than the order."""
    (fill,) = auctioned([order("buy 10 AAPL market opg")], book_of("100000"), "100").fills
    named = fill.quote
    assert {named.last, named.open, named.high, named.low} == {Decimal(100)}
    assert (fill.stage, named.quoted_at, named.sequence, named.bid) == (Stage.AUCTION, HELD_AT, 7, None)
    assert fill.at == HELD_AT + timedelta(seconds=1)


@pytest.mark.parametrize(("late", "expected"), [(-1, "100"), (0, "opg"), (1, "opg")])
def test_an_order_must_reach_the_market_before_the_auction(late: int, expected: str) -> None:
    """The account is slow, or the auction was held early."""
    assert outcome("buy 10 AAPL market opg", "100", active_at=HELD_AT + timedelta(seconds=late)) == expected


def numbered(*texts: str, each: timedelta = timedelta(seconds=1)) -> list[Order]:
    """The orders of these texts, numbered from 1."""
    return [order(text, number, accepted_at=ACCEPTED + each * number) for number, text in enumerate(texts, start=1)]


@pytest.mark.parametrize(
    ("texts", "filled"),
    [
        # fifty of a hundred are available: to market orders, then the better limit, then the earlier order
        (("limit 105", "limit 106", "market"), {3: 30, 2: 20}),
        (("limit 105", "market", "market"), {2: 30, 3: 20}),
        (("limit 105", "limit 105", "limit 104"), {1: 30, 2: 20}),
    ],
)
def test_better_orders_precede(texts: tuple[str, ...], filled: dict[int, int]) -> None:
    """The rest of the others is canceled."""
    orders = numbered(*(f"buy 30 AAPL {text} opg" for text in texts))
    book = book_of("100000", fills={"participation": "0.5"})
    execution = auctioned(orders, book, "100", volume=Decimal(100))
    assert {fill.order.id.int: fill.qty for fill in execution.fills} == filled
    assert [order.status for order in execution.orders if order.filled_qty < 30] == ["canceled", "canceled"]
    ends = [what.reason for _, what in execution.outcomes if isinstance(what, Canceled)]
    assert ends == ["opg", "opg"]
    assert book.accounts[ACCOUNT].reserved == 0


def test_an_unknown_volume_limits_no_order() -> None:
    """No volume is made up."""
    (fill,) = auctioned(
        [order("buy 3000 AAPL market opg")], book_of("1000000", fills={"participation": "0.01"}), "100"
    ).fills
    assert fill.qty == 3000


def test_accounts_share_the_liquidity_of_an_auction() -> None:
    """Each may consume half of the hundred, in price-time priority."""
    other = UUID(int=2)
    half: dict[str, Any] = {"fills": {"participation": "0.5"}}
    book = book_of("100000", **half)
    book.accounts[other] = replace(account("100000", **half), id=other)
    first, second = order("buy 40 AAPL market cls"), order("buy 40 AAPL market cls", 2, account_id=other)
    execution = auctioned([second, first], book, "100", volume=Decimal(100))
    assert [facts(fill.order.account_id, fill.qty) for fill in execution.fills] == [(ACCOUNT, 40), (other, 10)]


def test_a_fill_that_the_account_cannot_pay_is_rejected() -> None:
    """The open jumped far above the reserved price."""
    buying = order("buy 10 AAPL market opg", reserved=Decimal(1010))
    ((ended, why),) = auctioned([buying], book_of("1010", reserved="1010"), "150").outcomes
    assert isinstance(why, Refusal)
    assert (ended.status, why.reason) == ("rejected", "insufficient_buying_power")


@pytest.mark.parametrize("text", ["buy 10 AAPL market opg", "buy 10 AAPL limit 200 cls"])
def test_no_other_price_fills_an_order_for_an_auction(text: str) -> None:
    """Neither a quote nor a bar fills it, even if asked to."""
    waiting = order(text)
    on_bar = book_of("100000", fills={"fills_on": "bar"})
    for book in (book_of("100000"), on_bar):
        assert executed([waiting], book, "AAPL 99/101 100 of 100 101 99") == Execution()
    price = quote("AAPL 99/101 100")
    assert execute([waiting], {"AAPL": price}, on_bar, price.quoted_at, MarketRules()) == Execution()


limits = st.none() | st.integers(min_value=9_900, max_value=10_100).map(lambda cents: Decimal(cents) / 100)
asked = st.lists(st.tuples(st.sampled_from(["buy", "sell"]), st.integers(1, 60), limits), min_size=1, max_size=8)


@given(asked, st.none() | st.integers(0, 300), st.sampled_from([None, "0.1", "1"]))
def test_every_order_ends_with_its_auction(
    terms: list[tuple[str, int, Decimal | None]], volume: int | None, share: str | None
) -> None:
    """All fill at one price within their limits and the available liquidity, the better orders first."""
    texts = [f"{side} {qty} AAPL {'market' if limit is None else f'limit {limit}'} cls" for side, qty, limit in terms]
    book = book_of("1000000", "500 for 50000", fills={"participation": share} if share else {})
    execution = auctioned(numbered(*texts), book, "100", volume=None if volume is None else Decimal(volume))
    assert {order.is_open for order in execution.orders} == {False}
    assert len(execution.orders) == len(terms)
    assert {fill.price for fill in execution.fills} <= {Decimal(100)}
    within = [order for order in execution.orders if order.limit_price is None or _reaches(order, Decimal(100))]
    assert all(fill.order.id in {order.id for order in within} for fill in execution.fills)
    if share is None or volume is None:
        assert {order.status for order in within} <= {OrderStatus.FILLED}
        return
    taken = sum((fill.qty for fill in execution.fills), ZERO)
    assert taken <= volume * Decimal(share)
    cut = [order for order in within if order.status is OrderStatus.CANCELED]
    if cut:  # some order was cut, so all available shares are consumed
        assert taken == volume * Decimal(share) // 1


def _reaches(order: Order, price: Decimal) -> bool:
    assert order.limit_price is not None
    return price <= order.limit_price if order.buys else price >= order.limit_price
