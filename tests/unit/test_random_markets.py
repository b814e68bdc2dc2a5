"""The books of orders are right after any market, to the cent and to the share."""

from collections import Counter
from decimal import Decimal
from itertools import groupby
from random import Random
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.orders import OPEN_STATUSES, OrderClass, OrderStatus, Side
from shared.exchange.fx import SAME
from shared.exchange.lots import cost_of, held
from shared.exchange.matching.book import Book
from shared.exchange.matching.execution import execute
from shared.exchange.matching.fills import Fill
from shared.exchange.matching.matching import Stage
from shared.exchange.order import Key, Order
from shared.money import CENT, ZERO, cents_down, cents_up
from tests.unit.in_memory_exchange import RULES, InMemoryExchange, after
from tests.unit.random_market import ABROAD, KINDS, OWNERS, SYMBOLS, Step, markets, starts
from tests.unit.trading_examples import quote

Start = dict[UUID, Decimal]

#: The progress of an order, which never goes back.
COME = {OrderStatus.HELD: 0, OrderStatus.ACCEPTED: 1, OrderStatus.PARTIALLY_FILLED: 2}


def books(exchange: InMemoryExchange) -> None:
    """Every entry balances. Cash, shares and their cost are the sums of the entries, the lots and the fills."""
    assert all(entry.balances for entry in exchange.entries)
    for owner in OWNERS:
        own = [entry for entry in exchange.entries if entry.account_id == owner]
        assert exchange.book.accounts[owner].cash == sum(entry.cash for entry in own)
        trips = [
            trip for each in exchange.executions for trip in each.round_trips if trip.exit.order.account_id == owner
        ]
        assert sum(entry.realized for entry in own) == sum((trip.closed.realized for trip in trips), ZERO)
    for (owner, symbol), lots in exchange.book.lots.items():
        of = [entry for entry in exchange.entries if (entry.account_id, entry.symbol) == (owner, symbol)]
        assert (held(lots), cost_of(lots)) == (sum(entry.qty for entry in of), sum(entry.cost for entry in of))
        fills = [fill for fill in exchange.fills if (fill.order.account_id, fill.order.symbol) == (owner, symbol)]
        assert held(lots) == sum((fill.qty if fill.order.buys else -fill.qty for fill in fills), ZERO)


def reservations(exchange: InMemoryExchange) -> None:
    """The reserved cash of an account is the sum over its open orders. An ended order reserves nothing."""
    for owner, account in exchange.book.accounts.items():
        own = [order for order in exchange.orders.values() if order.account_id == owner]
        assert account.reserved == sum((order.reserved for order in own), ZERO)
        for order in own:
            assert order.reserved >= 0
            assert order.held_for_orders >= 0
            assert order.is_open or not (order.reserved or order.held_for_orders)


def held_shares(exchange: InMemoryExchange) -> None:
    """What orders hold to close it is at most the position. No cash is owed without short sales, except for fees."""
    for owner in OWNERS:
        for symbol in SYMBOLS:
            own = [order for order in exchange.open_orders if (order.account_id, order.symbol) == (owner, symbol)]
            position = held(exchange.book.lots[owner, symbol])
            for side, most in ((Side.SELL, position), (Side.BUY, -position)):
                closing = [order.held_for_orders for order in own if (order.side is side) is not order.is_entry]
                assert sum(closing, ZERO) <= max(most, ZERO)
    for owner in (owner for owner in OWNERS if not KINDS[owner].shorting):
        fees = sum(
            (fill.fee for fill in exchange.fills if fill.order.account_id == owner and not fill.order.buys), ZERO
        )
        assert exchange.book.accounts[owner].cash + fees >= 0
        assert exchange.book.accounts[owner].buying_power + fees >= 0


def quantities(exchange: InMemoryExchange) -> None:
    """The filled quantity is the sum of the fills, at most the order's quantity or money, and all of it once filled."""
    for key, fills in groupby(sorted(exchange.fills, key=lambda fill: fill.order.key), key=lambda fill: fill.order.key):
        order, own = exchange.orders[key], list(fills)
        assert order.filled_qty == sum(fill.qty for fill in own)
        assert (order.fills, order.fees) == (len(own), sum(fill.fee for fill in own))
        assert sorted(fill.number for fill in own) == list(range(1, len(own) + 1))
        if order.notional is not None:
            assert sum(fill.amount for fill in own) <= order.notional
    for order in exchange.orders.values():
        if order.qty is not None:
            assert order.filled_qty <= order.qty
            assert (order.status is OrderStatus.FILLED) == (order.filled_qty == order.qty)


def order_groups(exchange: InMemoryExchange) -> None:
    """The exits of an entry close no more than it opened, and those of an oco order no more than was asked for."""
    order_groups: dict[Key, list[Order]] = {}
    for order in exchange.orders.values():
        if order.order_group is not None:
            order_groups.setdefault((order.account_id, order.order_group), []).append(order)
    for key, order_group in order_groups.items():
        exits = [order for order in order_group if order.leg is not None]
        closed = sum(order.filled_qty for order in exits)
        if exits[0].order_class is OrderClass.OCO:
            assert closed <= exchange.asked[key]
        else:
            assert closed <= sum(order.filled_qty for order in order_group if order.leg is None)
        still = {(order.qty or ZERO) - order.filled_qty for order in exits if order.is_open}
        assert len(still) <= 1 or not all(order.is_working for order in exits if order.is_open)


CHECKS = (books, reservations, held_shares, quantities, order_groups)


@settings(max_examples=60)
@given(starts, markets)
def test_the_books_are_right_after_every_step(start: Start, market: list[Step]) -> None:
    """This holds for any sequence of steps and every kind of account."""
    exchange = InMemoryExchange(start)
    for step in market:
        exchange.take(step)
        for check in CHECKS:
            check(exchange)


@settings(max_examples=60)
@given(starts, markets)
def test_an_order_only_moves_forward_and_never_after_its_end(start: Start, market: list[Step]) -> None:
    """An ended order never changes. The filled quantity of an open one never falls."""
    exchange, before = InMemoryExchange(start), dict[Key, Order]()
    for step in market:
        exchange.take(step)
        for key, was in before.items():
            order = exchange.orders[key]
            if not was.is_open:
                assert order == was
            elif order.is_open:
                assert COME[order.status] >= COME[was.status]
            assert order.filled_qty >= was.filled_qty
            assert order.triggered >= was.triggered
        before = dict(exchange.orders)
    assert set(COME) == OPEN_STATUSES


@settings(max_examples=60)
@given(starts, markets)
def test_every_fill_lies_on_its_quote_or_in_its_bar(start: Start, market: list[Step]) -> None:
    """The price is newer than the order and within its limit, and the cash is price x quantity."""
    fills = after(start, market).fills
    for fill in fills:
        order, on = fill.order, fill.quote
        assert on.symbol == order.symbol
        assert on.quoted_at > order.active_at
        assert fill.amount == (cents_up if order.buys else cents_down)(fill.qty * fill.price * fill.rate)
        assert (fill.fx_rate is SAME) == (order.symbol not in ABROAD)
        assert fill.qty > 0
        assert fill.slippage >= 0
        _check_place(fill)
        if order.limit_price is not None:
            assert fill.price <= order.limit_price if order.buys else fill.price >= order.limit_price
            assert fill.slippage == 0
    assert len({(fill.order.account_id, fill.id) for fill in fills}) == len(fills)


def _check_place(fill: Fill) -> None:
    on, market = fill.quote, fill.price + (-fill.slippage if fill.order.buys else fill.slippage)
    side = on.ask if fill.order.buys else on.bid
    if fill.stage is not Stage.QUOTE:
        start = on.bar_start or on.since
        assert start is not None
        assert start >= fill.order.active_at
        assert on.low <= fill.price <= on.high
    elif side is not None and fill.order.limit_price == fill.price:
        assert market >= side if fill.order.buys else market <= side
    elif side is not None:
        assert market == side
    else:
        assert on.bid is None, "one side of a quote is no price for the other"
        assert on.ask is None, "one side of a quote is no price for the other"
        if fill.order.limit_price == fill.price:
            return
        assert abs(market - on.last) <= on.last * RULES.half_spread + CENT / 100


@settings(max_examples=60)
@given(starts, markets)
def test_no_more_is_consumed_than_is_available(start: Start, market: list[Step]) -> None:
    """All accounts with a share together consume at most half of the quote's size or of the bar's volume."""
    taken: Counter[tuple[str, int, str]] = Counter()
    there: dict[tuple[str, int, str], Decimal] = {}
    for fill in after(start, market).fills:
        if KINDS[fill.order.account_id].fills.participation is None:
            continue
        on, side = fill.quote, "ask" if fill.order.buys else "bid"
        size = on.ask_size if fill.order.buys else on.bid_size
        quoted = fill.stage is Stage.QUOTE and size is not None
        pool = (on.symbol, on.sequence, side if quoted else "bar")
        there[pool] = size if quoted and size is not None else on.volume
        taken[pool] += fill.qty  # type: ignore[assignment]
    assert all(qty <= there[pool] / 2 for pool, qty in taken.items())


@settings(max_examples=60)
@given(starts, markets)
def test_the_index_misses_no_order_that_a_price_concerns(start: Start, market: list[Step]) -> None:
    """Executing the indexed orders gives the same result as executing all of them."""
    woken, all_of_them = after(start, market), after(start, market, indexed=False)
    assert woken.fills == all_of_them.fills
    assert woken.orders == all_of_them.orders
    assert woken.book.accounts == all_of_them.book.accounts


@settings(max_examples=40)
@given(starts, markets, st.randoms(use_true_random=False))
def test_the_same_market_gives_the_same_fills(start: Start, market: list[Step], random: Random) -> None:
    """Every cent and id is the same, in whatever sequence the database returns the open orders."""
    first, second = after(start, market), after(start, market)
    assert first.executions == second.executions
    final = {symbol: quote(f"{symbol} 99/101 100", at=first.closes_at, ask_size=Decimal(9)) for symbol in SYMBOLS}
    shuffled = random.sample(second.open_orders, len(second.open_orders))
    outcomes = []
    for exchange, orders in ((first, first.open_orders), (second, shuffled)):
        book = Book(exchange.book.accounts, exchange.book.lots)
        outcomes.append((execute(orders, final, book, exchange.closes_at, RULES).outcomes, book.accounts, book.lots))
    assert outcomes[0] == outcomes[1]
