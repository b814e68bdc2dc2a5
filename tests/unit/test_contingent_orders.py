"""Brackets and their kin: what the fill or the end of one order does to the others of its order_group."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.orders import OrderStatus
from shared.contracts.prices import Price
from shared.contracts.reasons import CancelReason
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure
from shared.exchange.matching.book import Book, Canceled, Execution
from shared.exchange.order import Order
from tests.unit.execution_examples import book_of, executed
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, INSTRUMENT, MARGIN, QUOTED, facts, quote, submission

SHARE = {"participation": "1"}
OTHER = UUID(int=2)
LATER = QUOTED + timedelta(seconds=1)


def entered(text: str, book: Book, *, held: str = "0") -> list[Order]:
    """The orders that it becomes, with what they reserve and promise."""
    exposure = Exposure(held=Decimal(held))
    admitted = admit(submission(text), INSTRUMENT, book.accounts[ACCOUNT], exposure, ACCEPTED)
    assert isinstance(admitted, Admitted)
    book.accounts[ACCOUNT] = admitted.account
    return list(admitted.orders)


def after(orders: list[Order], book: Book, *quotes: str | Price, **fields: Any) -> list[Order]:
    """The same orders after a batch of prices."""
    executed(orders, book, *quotes, **fields)
    return [book.orders[order.key] for order in orders]


def shapes(orders: list[Order]) -> list[Any]:
    return [(order.status.value, order.qty, order.filled_qty, order.held_for_orders) for order in orders]


def test_the_exits_of_a_bracket_wait_for_its_entry() -> None:
    """A price that reaches them does nothing; when the entry has filled they work, and only on later quotes."""
    book = book_of("2000")
    orders = entered("buy 10 AAPL limit 100 bracket 110/95", book)
    assert shapes(orders) == [("accepted", 10, 0, 0), ("held", 10, 0, 0), ("held", 10, 0, 0)]
    waiting = after(orders, book, "AAPL 120/121 120")
    assert waiting == orders
    filled = after(orders, book, "AAPL 94/94.5 94.25")
    assert shapes(filled) == [("filled", 10, 10, 0), ("accepted", 10, 0, 10), ("accepted", 10, 0, 0)]
    assert {leg.active_at for leg in filled[1:]} == {QUOTED}
    assert not executed(filled, book, "AAPL 94/94.5 94.25").fills


@pytest.mark.parametrize(
    ("on", "winner", "price"), [("AAPL 110/111 111", "take_profit", "110"), ("AAPL 93/95 94", "stop_loss", "93")]
)
def test_the_exit_that_fills_cancels_the_other(on: str, winner: str, price: str) -> None:
    """Only one of them sells what the entry bought."""
    book = book_of("2000")
    orders = after(entered("buy 10 AAPL limit 100 bracket 110/95", book), book, "AAPL 99/100 100")
    execution = executed(orders, book, on, at=LATER)
    ((filled, fill), (canceled, why)) = execution.outcomes
    assert (filled.leg, str(getattr(fill, "price", ""))) == (winner, price)
    assert facts(canceled.status, why, canceled.held_for_orders) == (
        OrderStatus.CANCELED,
        Canceled(CancelReason.OCO),
        0,
    )
    assert book.held(filled) == 0


def test_of_two_exits_inside_one_bar_the_worse_is_assumed() -> None:
    """Nobody knows which came first."""
    book = book_of("2000", fills={"fills_on": "bar"})
    orders = after(entered("buy 10 AAPL limit 100 bracket 110/95", book), book, "AAPL 99/100 100")
    both = quote("AAPL 99/101 100 of 100 111 94", at=LATER, since=QUOTED)
    (fill,) = executed(orders, book, both, at=LATER).fills
    assert facts(fill.order.leg, fill.price) == ("stop_loss", 95)


def test_one_exit_is_enough_for_an_oto() -> None:
    """It promises the shares by itself."""
    book = book_of("2000")
    orders = after(entered("buy 10 AAPL limit 100 oto /95:94", book), book, "AAPL 99/100 100")
    assert shapes(orders) == [("filled", 10, 10, 0), ("accepted", 10, 0, 10)]
    assert facts(orders[1].stop_price, orders[1].limit_price) == (95, 94)


def test_a_short_bracket_buys_back() -> None:
    """Its exits are buys: the profit lies below, the loss above."""
    book = book_of("2000", **MARGIN)
    orders = after(entered("sell 10 AAPL limit 100 bracket 90/105", book), book, "AAPL 100/101 100")
    assert [order.side.value for order in orders] == ["sell", "buy", "buy"]
    assert book.held(orders[0]) == -10
    (fill,) = executed(orders, book, "AAPL 104/106 105", at=LATER).fills
    assert facts(fill.price, book.held(orders[0])) == (106, 0)
    assert book.accounts[ACCOUNT].reserved == 0


def partly(book: Book, size: str) -> list[Order]:
    """A bracket whose entry has bought that much of ten."""
    orders = entered("buy 10 AAPL limit 100 bracket 110/95", book)
    return after(orders, book, quote("AAPL 99/100 100", ask_size=Decimal(size)))


def test_what_an_entry_bought_in_part_is_promised_to_its_exits() -> None:
    """Nobody else may sell it; the exits still wait for the rest."""
    book = book_of("2000", fills=SHARE)
    orders = partly(book, "4")
    assert shapes(orders) == [("partially_filled", 10, 4, 4), ("held", 10, 0, 0), ("held", 10, 0, 0)]
    orders = after(orders, book, quote("AAPL 99/100 100", ask_size=Decimal(9), sequence=2), at=LATER)
    assert shapes(orders)[0] == ("partially_filled", 10, 9, 9)  # five more, for four were taken of these nine


def test_an_entry_that_ends_with_a_part_leaves_exits_for_that_part() -> None:
    """It can no longer pay for the rest: four are sold by the exits, and not ten."""
    book = book_of("2000", fills=SHARE)
    orders = partly(book, "4")
    book.accounts[ACCOUNT] = replace(book.accounts[ACCOUNT], cash=Decimal(0))
    orders = after(orders, book, quote("AAPL 99/100 100", ask_size=Decimal(99)), at=LATER)
    assert shapes(orders) == [("canceled", 10, 4, 0), ("accepted", 4, 0, 4), ("accepted", 4, 0, 0)]


def test_an_entry_that_was_replaced_leaves_exits_for_all_that_it_bought() -> None:
    """Three by the old one, seven by the new one; what was bought so far is held_for_orders to them."""
    book = book_of("2000")
    entry, *exits = entered("buy 7 AAPL limit 100 bracket 110/95", book)
    orders = after([replace(entry, carried=Decimal(3), held_for_orders=Decimal(3)), *exits], book, "AAPL 99/100 100")
    assert [leg.qty for leg in orders[1:]] == [10, 10]


def test_an_entry_that_is_refused_takes_its_exits_with_it() -> None:
    """There is nothing to sell."""
    book = book_of("2000")
    orders = entered("buy 10 AAPL limit 100 bracket 110/95", book)
    book.accounts[ACCOUNT] = replace(book.accounts[ACCOUNT], cash=Decimal(0))
    execution = executed(orders, book, "AAPL 99/100 100")
    assert [each.status.value for each, _ in execution.outcomes] == ["rejected", "canceled", "canceled"]
    assert [why for _, why in execution.outcomes[1:]] == [Canceled(CancelReason.ENTRY_ENDED)] * 2


def oco(book: Book) -> list[Order]:
    return entered("sell 10 AAPL limit 110 oco 110/95", book, held="10")


def test_the_two_orders_of_an_oco_share_one_quantity() -> None:
    """What one fills the other no longer can, in parts as well; the shares are held_for_orders once."""
    book = book_of("0", "10 for 900", fills=SHARE)
    orders = oco(book)
    assert shapes(orders) == [("accepted", 10, 0, 10), ("accepted", 10, 0, 0)]
    orders = after(orders, book, quote("AAPL 110/111 110", bid_size=Decimal(4)))
    assert shapes(orders) == [("partially_filled", 10, 4, 6), ("accepted", 6, 0, 0)]
    book.liquidity.consumed.clear()
    orders = after(orders, book, quote("AAPL 94/95 94", bid_size=Decimal(5)), at=LATER)
    assert shapes(orders) == [("partially_filled", 5, 4, 1), ("partially_filled", 6, 5, 0)]
    book.liquidity.consumed.clear()
    orders = after(orders, book, quote("AAPL 110/111 110", bid_size=Decimal(9)), at=LATER)
    assert [order.status.value for order in orders] == ["canceled", "filled"]  # once triggered it sells at the market
    assert [order.filled_qty for order in orders] == [4, 6]
    assert book.held(orders[0]) == 0


def test_an_exit_that_cannot_fill_any_more_ends_the_other() -> None:
    """The shares are gone: neither is left behind."""
    book = book_of("0", "4 for 360")
    execution: Execution = executed(oco(book), book, "AAPL 110/111 110")
    assert [each.status.value for each, _ in execution.outcomes] == ["rejected", "canceled"]


def test_families_of_two_accounts_are_two() -> None:
    """Ids are the senders'; the same one twice means two orders, of which each fills for its own account."""
    other = replace(book_of("2000").accounts[ACCOUNT], id=OTHER)
    book = book_of("2000")
    mine = entered("buy 10 AAPL limit 100 bracket 110/95", book)
    theirs = [replace(order, account_id=OTHER) for order in mine]
    book.accounts[OTHER] = replace(other, reserved=Decimal(1000))
    execution = executed([*mine, *theirs], book, "AAPL 99/100 100")
    assert {fill.order.account_id for fill in execution.fills} == {ACCOUNT, OTHER}
    assert len(execution.orders) == 6
