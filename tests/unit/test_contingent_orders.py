"""Bracket, oto and oco orders: the effect of one order's fill or end on its group."""

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
    """The accepted orders. The book has their reservations."""
    exposure = Exposure(held=Decimal(held))
    admitted = admit(submission(text), INSTRUMENT, book.accounts[ACCOUNT], exposure, ACCEPTED)
    assert isinstance(admitted, Admitted)
    book.accounts[ACCOUNT] = admitted.account
    return list(admitted.orders)


def after(orders: list[Order], book: Book, *quotes: str | Price, **fields: Any) -> list[Order]:
    """The same orders after these quotes."""
    executed(orders, book, *quotes, **fields)
    return [book.orders[order.key] for order in orders]


def shapes(orders: list[Order]) -> list[Any]:
    return [(order.status.value, order.qty, order.filled_qty, order.held_for_orders) for order in orders]


def test_the_exits_of_a_bracket_wait_for_its_entry() -> None:
    """A price that reaches them has no effect. They work once the entry has filled, and only on later quotes."""
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
    """Only one of them sells the entry's shares."""
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


def test_the_worse_of_two_exits_inside_one_bar_fills() -> None:
    """The sequence of prices inside a bar is unknown."""
    book = book_of("2000", fills={"fills_on": "bar"})
    orders = after(entered("buy 10 AAPL limit 100 bracket 110/95", book), book, "AAPL 99/100 100")
    both = quote("AAPL 99/101 100 of 100 111 94", at=LATER, since=QUOTED)
    (fill,) = executed(orders, book, both, at=LATER).fills
    assert facts(fill.order.leg, fill.price) == ("stop_loss", 95)


def test_one_exit_is_enough_for_an_oto() -> None:
    """It holds the shares by itself."""
    book = book_of("2000")
    orders = after(entered("buy 10 AAPL limit 100 oto /95:94", book), book, "AAPL 99/100 100")
    assert shapes(orders) == [("filled", 10, 10, 0), ("accepted", 10, 0, 10)]
    assert facts(orders[1].stop_price, orders[1].limit_price) == (95, 94)


def test_a_short_bracket_buys_back() -> None:
    """Its exits are buys, with the profit below and the loss above."""
    book = book_of("2000", **MARGIN)
    orders = after(entered("sell 10 AAPL limit 100 bracket 90/105", book), book, "AAPL 100/101 100")
    assert [order.side.value for order in orders] == ["sell", "buy", "buy"]
    assert book.held(orders[0]) == -10
    (fill,) = executed(orders, book, "AAPL 104/106 105", at=LATER).fills
    assert facts(fill.price, book.held(orders[0])) == (106, 0)
    assert book.accounts[ACCOUNT].reserved == 0


def partly(book: Book, size: str) -> list[Order]:
    """A bracket whose entry has bought ``filled`` of its ten shares."""
    orders = entered("buy 10 AAPL limit 100 bracket 110/95", book)
    return after(orders, book, quote("AAPL 99/100 100", ask_size=Decimal(size)))


def test_the_shares_of_a_partly_filled_entry_are_held_for_its_exits() -> None:
    """No other order may sell them, and the exits wait for the rest."""
    book = book_of("2000", fills=SHARE)
    orders = partly(book, "4")
    assert shapes(orders) == [("partially_filled", 10, 4, 4), ("held", 10, 0, 0), ("held", 10, 0, 0)]
    orders = after(orders, book, quote("AAPL 99/100 100", ask_size=Decimal(9), sequence=2), at=LATER)
    assert shapes(orders)[0] == ("partially_filled", 10, 9, 9)  # five more, since four of these nine were consumed


def test_an_entry_that_ends_partly_filled_leaves_exits_for_its_shares() -> None:
    """Its account can no longer pay for the rest. The exits sell four shares and not ten."""
    book = book_of("2000", fills=SHARE)
    orders = partly(book, "4")
    book.accounts[ACCOUNT] = replace(book.accounts[ACCOUNT], cash=Decimal(0))
    orders = after(orders, book, quote("AAPL 99/100 100", ask_size=Decimal(99)), at=LATER)
    assert shapes(orders) == [("canceled", 10, 4, 0), ("accepted", 4, 0, 4), ("accepted", 4, 0, 0)]


def test_the_exits_get_the_shares_of_a_replaced_entry_as_well() -> None:
    """The old entry bought three, the new one seven. All of them are held for the exits."""
    book = book_of("2000")
    entry, *exits = entered("buy 7 AAPL limit 100 bracket 110/95", book)
    orders = after([replace(entry, carried=Decimal(3), held_for_orders=Decimal(3)), *exits], book, "AAPL 99/100 100")
    assert [leg.qty for leg in orders[1:]] == [10, 10]


def test_the_exits_of_a_rejected_entry_end_with_it() -> None:
    """They have nothing to sell."""
    book = book_of("2000")
    orders = entered("buy 10 AAPL limit 100 bracket 110/95", book)
    book.accounts[ACCOUNT] = replace(book.accounts[ACCOUNT], cash=Decimal(0))
    execution = executed(orders, book, "AAPL 99/100 100")
    assert [each.status.value for each, _ in execution.outcomes] == ["rejected", "canceled", "canceled"]
    assert [why for _, why in execution.outcomes[1:]] == [Canceled(CancelReason.ENTRY_ENDED)] * 2


def oco(book: Book) -> list[Order]:
    return entered("sell 10 AAPL limit 110 oco 110/95", book, held="10")


def test_the_two_orders_of_an_oco_share_one_quantity() -> None:
    """A fill of one reduces the other, in parts as well. The shares are held once."""
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


@pytest.mark.parametrize("settings", [{}, MARGIN])
def test_an_exit_that_cannot_fill_any_more_ends_the_other(settings: dict[str, Any]) -> None:
    """The shares are gone, so neither order stays open, and neither sells short."""
    book = book_of("0", **settings)
    execution: Execution = executed(oco(book_of("0", "10 for 900")), book, "AAPL 110/111 110")
    assert [each.status.value for each, _ in execution.outcomes] == ["rejected", "canceled"]


def test_an_exit_closes_only_what_is_left() -> None:
    """Four of ten shares are left. The account could sell short, but its exits never do."""
    book = book_of("0", "4 for 360", **MARGIN)
    orders = after(oco(book_of("0", "10 for 900")), book, "AAPL 110/111 110")
    assert facts(orders[0].filled_qty, book.held(orders[0])) == (4, 0)
    orders = after(orders, book, quote("AAPL 110/111 110", sequence=2, at=LATER), at=LATER)
    assert [order.status.value for order in orders] == ["canceled", "canceled"]
    assert book.held(orders[0]) == 0


def test_groups_with_the_same_id_in_two_accounts_are_two_groups() -> None:
    """Senders choose the ids. Each order fills for its own account."""
    other = replace(book_of("2000").accounts[ACCOUNT], id=OTHER)
    book = book_of("2000")
    mine = entered("buy 10 AAPL limit 100 bracket 110/95", book)
    theirs = [replace(order, account_id=OTHER) for order in mine]
    book.accounts[OTHER] = replace(other, reserved=Decimal(1000))
    execution = executed([*mine, *theirs], book, "AAPL 99/100 100")
    assert {fill.order.account_id for fill in execution.fills} == {ACCOUNT, OTHER}
    assert len(execution.orders) == 6
