"""Whatever the market does, the books of orders are right: to the cent and to the share."""

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.orders.domain.lots import cost_of, held
from services.orders.domain.matching import buy_price, sell_price
from services.orders.domain.settlement import settle
from shared.contracts.orders import OPEN_STATUSES, OrderStatus, Side
from shared.money import ZERO, cents
from tests.unit.random_market import RULES, SYMBOLS, Desk, Step, after, markets, starts
from tests.unit.trading_examples import quote


@given(starts, markets)
def test_cash_is_what_was_paid_in_and_what_the_fills_moved(start: dict[UUID, Decimal], market: list[Step]) -> None:
    """To the cent, for each account."""
    desk = after(start, market)
    for owner, cash in start.items():
        moved = sum((fill.cash for fill in desk.fills if fill.order.account_id == owner), ZERO)
        assert desk.book.accounts[owner].cash == cash + moved


@given(starts, markets)
def test_cash_and_the_cost_of_lots_less_realised_profit_is_what_was_paid_in(
    start: dict[UUID, Decimal], market: list[Step]
) -> None:
    """Money changes its form, and only a round trip makes or loses any."""
    desk = after(start, market)
    trips = [trip for settlement in desk.settlements for trip in settlement.round_trips]
    for owner, cash in start.items():
        invested = sum((cost_of(lots) for (holder, _), lots in desk.book.lots.items() if holder == owner), ZERO)
        own = [trip.closed for trip in trips if trip.exit.order.account_id == owner]
        realised = sum((closed.proceeds - closed.cost for closed in own), ZERO)
        assert desk.book.accounts[owner].cash + invested - realised == cash


@given(starts, markets)
def test_what_is_reserved_is_the_sum_over_open_orders(start: dict[UUID, Decimal], market: list[Step]) -> None:
    """Fills, refusals and cancels give back all that their order kept, and an ended order keeps nothing."""
    desk = after(start, market)
    for owner, account in desk.book.accounts.items():
        mine = [order for order in desk.orders.values() if order.account_id == owner]
        assert account.reserved == sum((o.reserved for o in mine if o.status in OPEN_STATUSES), ZERO)
        assert not any(o.reserved for o in mine if o.status not in OPEN_STATUSES)


@given(starts, markets)
def test_no_account_ever_owes_money_or_shares(start: dict[UUID, Decimal], market: list[Step]) -> None:
    """After each step: cash and buying power at or above zero, no lot below it."""
    desk = Desk(start)
    for step in market:
        desk.take(step)
        assert all(account.cash >= 0 and account.buying_power >= 0 for account in desk.book.accounts.values())
        assert all(lot.qty >= 0 for lots in desk.book.lots.values() for lot in lots)


@given(starts, markets)
def test_an_order_fills_at_most_once_and_never_beyond_its_quantity(
    start: dict[UUID, Decimal], market: list[Step]
) -> None:
    """Fills are whole, and an order that has ended never fills."""
    desk = after(start, market)
    times = Counter(fill.order.id for fill in desk.fills)
    for each in desk.orders.values():
        filled = each.status is OrderStatus.FILLED
        assert times[each.id] == each.fills == int(filled)
        assert each.filled_qty == (each.qty if filled else 0)
    assert len({fill.id for fill in desk.fills}) == len(desk.fills)


@given(starts, markets)
def test_a_position_is_the_sum_of_its_fills(start: dict[UUID, Decimal], market: list[Step]) -> None:
    """Bought less sold is what the lots hold."""
    desk = after(start, market)
    for holding, lots in desk.book.lots.items():
        fills = [fill for fill in desk.fills if (fill.order.account_id, fill.order.symbol) == holding]
        assert held(lots) == sum((fill.qty if fill.order.side is Side.BUY else -fill.qty for fill in fills), ZERO)


@given(starts, markets)
def test_every_fill_lies_on_a_quote_that_is_newer_than_its_order(
    start: dict[UUID, Decimal], market: list[Step]
) -> None:
    """At the side it trades on, for the cash that price and quantity come to."""
    for fill in after(start, market).fills:
        assert fill.quote.symbol == fill.order.symbol
        assert fill.quote.quoted_at > fill.order.accepted_at
        side_price = buy_price if fill.order.side is Side.BUY else sell_price
        assert fill.price == side_price(fill.quote, RULES)
        assert fill.amount == cents(fill.qty * fill.price)


@given(starts, markets, st.randoms(use_true_random=False))
def test_the_same_market_gives_the_same_fills(start: dict[UUID, Decimal], market: list[Step], random: Random) -> None:
    """To the last cent and id, in whichever order the database hands out the open orders."""
    first, second = after(start, market), after(start, market)
    assert first.settlements == second.settlements
    final = {
        price.symbol: price for price in (quote(f"{symbol} 100", at=first.now + timedelta(1)) for symbol in SYMBOLS)
    }
    shuffled = random.sample(second.open_orders, len(second.open_orders))
    now = first.now + timedelta(1)
    assert settle(first.open_orders, final, first.book, now, RULES) == settle(shuffled, final, second.book, now, RULES)
    assert first.book == second.book
