"""Fills of accounts that borrow or sell short, and the costs of fills."""

from decimal import Decimal

from shared.contracts.orders import OrderStatus
from shared.exchange.lots import held
from shared.exchange.matching.book import position_of
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.refusal import Refusal
from tests.unit.execution_examples import HOLDING, book_of, executed
from tests.unit.trading_examples import ACCOUNT, MARGIN, account, facts, order, quote


def test_a_sale_beyond_the_position_opens_a_short_one() -> None:
    """Four shares are closed with their profit, six are sold short, if the account allows it."""
    book = book_of("2000", "4 for 360", long="400", **MARGIN)
    execution = executed([order("sell 10 AAPL market")], book, "AAPL 100/100 100")
    assert position_of(book.lots[HOLDING]) == (Decimal(-6), Decimal(-600))
    assert [trip.closed.realized for trip in execution.round_trips] == [40]
    after = book.accounts[ACCOUNT]
    assert facts(after.cash, after.long_value, after.short_value, after.equity) == (3000, 0, -600, 2400)


def test_a_short_sale_needs_buying_power_and_closing_it_does_not() -> None:
    """An account of 500 cannot sell 1,010 short, and can always buy back a short position."""
    asked = order("sell 10 AAPL market")
    ((_, refusal),) = executed([asked], book_of("500", **MARGIN), "AAPL 101/101 101").outcomes
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "insufficient_buying_power"
    owing = book_of("500", "-10 for -400", short="-1010", **MARGIN)
    assert owing.accounts[ACCOUNT].buying_power < 0
    assert len(executed([order("buy 10 AAPL market")], owing, "AAPL 101/101 101").fills) == 1
    assert owing.accounts[ACCOUNT].short_value == 0


def test_a_margin_account_buys_for_more_than_its_cash() -> None:
    """It may buy for twice its equity. The fill leaves a debt with the position as its security."""
    book = book_of("1000", **MARGIN)
    executed([order("buy 15 AAPL market")], book, "AAPL 100/100 100")
    after = book.accounts[ACCOUNT]
    assert facts(after.cash, after.equity, after.buying_power) == (-500, 1000, 500)
    assert not executed([order("buy 6 AAPL market", 2)], book, "AAPL 100/100 100").fills


def test_the_fee_is_not_part_of_the_cost() -> None:
    """A dollar for ten shares is paid out of cash."""
    fills = {"commission": {"kind": "per_share", "rate": "0.10"}}
    book = book_of("1001", fills=fills)
    (entry,) = executed([order("buy 10 AAPL market")], book, "AAPL 99/100 100").entries
    assert facts(entry.cash, entry.cost, entry.fee) == (-1001, 1000, 1)
    assert entry.balances
    assert position_of(book.lots[HOLDING]) == (Decimal(10), Decimal(1000))
    (refused,) = executed([order("buy 10 AAPL market")], book_of("1000.99", fills=fills), "AAPL 99/100 100").orders
    assert refused.status is OrderStatus.REJECTED


def test_a_fill_names_its_slippage() -> None:
    """It is ten basis points here. A limit does not slip."""
    book = book_of("9999", fills={"slippage": {"kind": "fixed", "rate": "10"}})
    orders = [order("buy 1 AAPL market", 1), order("buy 1 AAPL limit 100", 2)]
    fills = executed(orders, book, "AAPL 99/100 100").fills
    assert [(fill.price, fill.slippage) for fill in fills] == [(Decimal("100.1"), Decimal("0.1")), (100, 0)]


def test_a_partial_fill_spends_its_part_of_the_reservation_and_free_cash() -> None:
    """Six of ten at 150 are 900, more than their 606 of the reserved 1,010. The other four keep theirs."""
    book = book_of("1010", reserved="1010", fills={"participation": "1"})
    asked = order("buy 10 AAPL market", reserved=Decimal(1010))
    thin = quote("AAPL 149/150 150", ask_size=Decimal(6))
    assert not executed([asked], book, thin).fills
    book = book_of("1304", reserved="1010", fills={"participation": "1"})
    (begun,) = executed([asked], book, thin).orders
    assert facts(begun.status, begun.reserved) == (OrderStatus.PARTIALLY_FILLED, 404)
    assert book.accounts[ACCOUNT] == account("404", "404", fills={"participation": "1"})


def test_parts_of_an_order_that_closes_and_opens_close_first() -> None:
    """Four of ten shares were held. Their fill frees none of the reservation for the other six."""
    book = book_of("2000", "4 for 360", reserved="618", long="400", fills={"participation": "1"}, **MARGIN)
    asked = order("sell 10 AAPL market", reserved=Decimal(618), held_for_orders=Decimal(4))
    (begun,) = executed([asked], book, quote("AAPL 100/101 100", bid_size=Decimal(4))).orders
    assert facts(begun.reserved, begun.held_for_orders) == (618, 0)
    assert held(book.lots[HOLDING]) == 0
    book.liquidity = Liquidity()
    (more,) = executed([begun], book, quote("AAPL 100/101 100", bid_size=Decimal(3))).orders
    assert facts(more.reserved, more.held_for_orders) == (309, 0)
    assert book.accounts[ACCOUNT].reserved == 309


def test_a_notional_order_goes_on_until_its_money_is_spent() -> None:
    """1,000 dollars buy two shares at 100 and ten more at 80, less a cent for rounding."""
    book = book_of("1000", reserved="1000", fills={"participation": "1"})
    asked = order("buy $1000 AAPL market", reserved=Decimal(1000))
    (begun,) = executed([asked], book, quote("AAPL 99/100 100", ask_size=Decimal(2))).orders
    assert facts(begun.status, begun.filled_qty, begun.reserved) == (OrderStatus.PARTIALLY_FILLED, 2, 800)
    (done,) = executed([begun], book, quote("AAPL 79/80 80", ask_size=Decimal(99))).orders
    assert facts(done.status, done.filled_qty, done.reserved) == (OrderStatus.FILLED, Decimal("11.999875"), 0)
    assert book.accounts[ACCOUNT].cash == Decimal("0.01")


def test_many_parts_of_a_notional_order_cost_no_cent_more_than_its_money() -> None:
    """Three times 0.3352 dollars are 0.34 each, so the last part gets less, and a cent of it is for rounding."""
    book = book_of("2", reserved="2", fills={"participation": "1"})
    asked = order("buy $2 AAPL market", reserved=Decimal(2))
    for size in ("0.01", "0.01", "0.01", "99"):
        book.liquidity = Liquidity()
        (asked,) = executed([asked], book, quote("AAPL 33/33.52 33", ask_size=Decimal(size))).orders
    assert (asked.status, asked.fills) == (OrderStatus.FILLED, 4)
    assert book.accounts[ACCOUNT].cash == Decimal("0.01")


def test_a_notional_order_pays_for_its_slippage_out_of_its_money() -> None:
    """It gets fewer shares at the price that is a tenth worse, and costs no more money."""
    book = book_of("1000", fills={"slippage": {"kind": "fixed", "rate": "1000"}})
    (fill,) = executed([order("buy $1000 AAPL market")], book, "AAPL 99/100 100").fills
    assert facts(fill.price, fill.qty, fill.amount) == (110, Decimal("9.090909090"), 1000)


def test_a_notional_sale_never_sells_more_than_was_held_for_it() -> None:
    """The price fell by more than the allowance. The shares held for other orders stay theirs."""
    book = book_of("0", "10 for 900")
    asked = order("sell $505 AAPL market", held_for_orders=Decimal("5.1005"))
    ((ended, _),) = executed([asked], book, "AAPL 90/91 90").outcomes
    assert (ended.status, ended.filled_qty) == (OrderStatus.FILLED, Decimal("5.1005"))
    (usual,) = executed([asked], book_of("0", "10 for 900"), "AAPL 100/101 100").orders
    assert usual.filled_qty == Decimal("5.05")
