"""Orders in another currency than their account's: rates, sizes, costs and fills, to the cent."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.contracts.orders import OrderStatus
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.sizing import size_up
from shared.exchange.fx import SAME, Rate, is_fresh, rate_of
from shared.exchange.matching.book import Book, Canceled, position_of
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.refusal import Refusal
from tests.unit.execution_examples import HOLDING, RULES, book_of, executed
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, MARGIN, QUOTED, account, facts, order, quote, submission


def rate(text: str) -> Rate:
    """The rate from a text like ``1.09/1.11 1.10``, a pair's quote and last price. Either side may be left out."""
    sides, last = text.split()
    bid, ask = (Decimal(side) if side else None for side in sides.split("/"))
    return rate_of(bid, ask, Decimal(last), QUOTED, RULES)


EURO = rate("1.09/1.11 1.10")
#: A euro share at 100 for an account in dollars.
SAP = Instrument(True, Decimal(100), Decimal(99), Decimal("99.50"), currency="EUR", rate=EURO)


def abroad(text: str, number: int = 1, **fields: Any) -> Any:
    return order(text, number, **{"currency": "EUR", **fields})


def book(cash: str, *lots: str, at: Rate | None = EURO, **known: Any) -> Book:
    """One account in dollars, with the rate of the euro."""
    made = book_of(cash, *lots, **known)
    made.rates = {} if at is None else {("EUR", "USD"): at}
    return made


@pytest.mark.parametrize(
    ("text", "pays", "gets"),
    [
        ("1.09/1.11 1.10", "1.11", "1.09"),
        ("/ 1.1", "1.10011", "1.09989"),
        ("1.09/ 1.1", "1.10011", "1.09"),
        ("/1.11 1.1", "1.11", "1.09989"),
        ("/ 0.006710508657", "0.006711179708", "0.006709837606"),
    ],
)
def test_a_rate_is_at_the_worse_side_of_its_quote(text: str, pays: str, gets: str) -> None:
    """Without a quote it is half the assumed spread beside the last price, rounded against the trader."""
    found = rate(text)
    assert (found.pays, found.gets) == (Decimal(pays), Decimal(gets))
    assert (found.of(buys=True), found.of(buys=False)) == (found.pays, found.gets)


def test_a_rate_becomes_stale_as_a_price_does() -> None:
    """It does so after two minutes by default. The rate of a currency in itself never does."""
    assert is_fresh(EURO, QUOTED + RULES.max_quote_age, RULES)
    assert not is_fresh(EURO, QUOTED + RULES.max_quote_age + timedelta(microseconds=1), RULES)
    assert is_fresh(SAME, QUOTED + timedelta(days=999), RULES)


def test_a_fill_keeps_its_price_and_moves_the_account_s_currency() -> None:
    """Cash, cost, profit and reservation are in dollars."""
    held = book("2000")
    (fill,) = executed([abroad("buy 10 AAPL market")], held, "AAPL 99/100 100").fills
    assert facts(fill.price, fill.rate, fill.amount, fill.cash) == (100, Decimal("1.11"), 1110, -1110)
    assert facts(*position_of(held.lots[HOLDING])) == (10, 1110)
    execution = executed([abroad("sell 4 AAPL market", 2)], held, "AAPL 120/121 120")
    (entry,) = execution.entries
    assert facts(entry.cash, entry.cost, entry.realized) == (Decimal("523.20"), -444, Decimal("79.20"))
    assert entry.balances


@pytest.mark.parametrize(
    ("order_", "price", "at", "amount"),
    [
        ("buy 1", "0.01", "0.5/0.5 0.5", "0.01"),
        ("buy 1", "0.01", "0.4/0.49 0.45", "0.01"),
        ("buy 1", "0.01", "0.4/2 0.45", "0.02"),
        ("buy 3", "33.3333", "1.1/1.111111111 1.1", "111.12"),
        ("buy 0.000000001", "100000", "1/1.11 1.1", "0.01"),
        ("buy 1000000", "3000", "0.006709157998/0.006710508657 0.0067", "20131525.98"),
        ("sell 1", "0.01", "0.99/1 1", "0.00"),
        ("sell 3", "33.3333", "1.111111111/1.2 1.1", "111.11"),
        ("sell 0.000000001", "100000", "1/1.11 1.1", "0.00"),
    ],
)
def test_an_amount_is_rounded_once_against_the_trader(order_: str, price: str, at: str, amount: str) -> None:
    """It is price x quantity x rate, up to the cent for a buy and down to it for a sale."""
    held = book("99999999", "3 for 3", at=rate(at))
    (fill,) = executed([abroad(f"{order_} AAPL market")], held, f"AAPL {price}/{price} {price}").fills
    assert fill.amount == Decimal(amount)


def test_an_instrument_in_the_account_s_currency_is_not_converted() -> None:
    """Other rates do not matter."""
    (fill,) = executed([order("buy 10 AAPL market")], book("2000"), "AAPL 99/100 100").fills
    assert facts(fill.rate, fill.amount, fill.fx_rate) == (1, 1000, SAME)


def test_an_order_waits_without_a_rate_unless_it_must_fill_at_once() -> None:
    """A triggered stop stays triggered."""
    quoted = "AAPL 89/90 90"
    assert executed([abroad("buy 10 AAPL market")], book("2000", at=None), quoted).outcomes == []
    execution = executed([abroad("sell 10 AAPL stop 95")], book("0", "10 for 900", at=None), quoted)
    assert (execution.outcomes, [each.triggered for each in execution.orders]) == ([], [True])
    for time in ("ioc", "fok"):
        ((ended, why),) = executed([abroad(f"buy 1 AAPL market {time}")], book("2000", at=None), quoted).outcomes
        assert (ended.status, why) == (OrderStatus.CANCELED, Canceled(RejectReason.NO_EXCHANGE_RATE))
        ((_, why),) = executed([abroad(f"buy 1 AAPL limit 9 {time}")], book("2000", at=None), quoted).outcomes
        assert why == Canceled(CancelReason(time))  # because of its price


def test_a_rate_to_another_currency_does_not_count() -> None:
    """The euro's rate in pounds is not its rate in dollars."""
    held = book("2000")
    held.rates = {("EUR", "GBP"): EURO, ("USD", "EUR"): EURO}
    assert executed([abroad("buy 10 AAPL market")], held, "AAPL 99/100 100").outcomes == []


def test_an_order_that_cannot_be_paid_at_the_rate_is_rejected() -> None:
    """One cent is missing."""
    ((_, why),) = executed([abroad("buy 10 AAPL market")], book("1109.99"), "AAPL 99/100 100").outcomes
    assert isinstance(why, Refusal)
    assert why.reason == "insufficient_buying_power"
    assert len(executed([abroad("buy 10 AAPL market")], book("1110"), "AAPL 99/100 100").fills) == 1


def test_positions_in_another_currency_are_marked_at_the_last_rate() -> None:
    """Ten at 100 euros are worth 1,100 dollars long, and the same short."""
    long, short = book("9999", **MARGIN), book("9999", **MARGIN)
    executed([abroad("buy 10 AAPL market")], long, "AAPL 99/100 100")
    executed([abroad("sell 10 AAPL market")], short, "AAPL 100/101 100")
    assert facts(long.accounts[ACCOUNT].long_value, short.accounts[ACCOUNT].short_value) == (1100, -1100)
    assert facts(long.accounts[ACCOUNT].cash, short.accounts[ACCOUNT].cash) == (9999 - 1110, 9999 + 1090)


def test_commission_per_share_is_in_the_account_s_currency_and_percent_of_the_amount() -> None:
    """It is ten cents for each of ten shares, or one percent of 1,110 dollars. Slippage worsens the price."""
    for commission, fee in (({"kind": "per_share", "rate": "0.10"}, 1), ({"kind": "percent", "rate": "1"}, "11.10")):
        held = book("2000", fills={"commission": commission})
        assert executed([abroad("buy 10 AAPL market")], held, "AAPL 99/100 100").fills[0].fee == Decimal(fee)
    held = book("2000", fills={"slippage": {"kind": "fixed", "rate": "100"}})
    (fill,) = executed([abroad("buy 10 AAPL market")], held, "AAPL 99/100 100").fills
    assert facts(fill.price, fill.slippage, fill.amount) == (101, 1, Decimal("1121.10"))


def test_notional_is_in_the_account_s_currency() -> None:
    """1,000 dollars are spent at moving rates, and not a cent more."""
    held = book("1000", reserved="1000", fills={"participation": "1"})
    asked = abroad("buy $1000 AAPL market", reserved=Decimal(1000))
    (begun,) = executed([asked], held, quote("AAPL 99/100 100", ask_size=Decimal(4))).orders
    assert facts(begun.filled_qty, begun.filled_avg_rate, begun.reserved) == (4, Decimal("1.11"), 556)
    held.liquidity, held.rates = Liquidity(), {("EUR", "USD"): rate("1.24/1.25 1.25")}
    (done,) = executed([begun], held, quote("AAPL 99/100 100", ask_size=Decimal(99))).orders
    assert facts(done.status, done.filled_qty, done.filled_avg_price) == (OrderStatus.FILLED, Decimal("8.44792"), 100)
    assert round(done.spent, 9) == Decimal("999.99")
    assert held.accounts[ACCOUNT].cash == Decimal("0.01")


def test_fills_at_one_rate_have_that_rate_on_average() -> None:
    """The average is exact at any prices."""
    held = book("9999", fills={"participation": "1"})
    asked = abroad("buy 9 AAPL market")
    for ask in ("33.33", "77.77", "12.3456"):
        held.liquidity = Liquidity()
        (asked,) = executed([asked], held, quote(f"AAPL 9/{ask} 9", ask_size=Decimal(3))).orders
    assert facts(asked.filled_qty, asked.filled_avg_rate) == (9, Decimal("1.11"))


@pytest.mark.parametrize(
    ("terms", "held", "needed", "price"),
    [
        ("buy 10 AAPL limit 100", "0", "1110.00", "111.00"),
        ("buy 10 AAPL market", "0", "1121.10", "112.11"),
        ("sell 10 AAPL market", "0", "1143.30", "114.33"),  # a short sale will be bought back
        ("buy $1000 AAPL market", "0", "1000", "111"),
        ("sell $107.91 AAPL market", "9", "0", "107.91"),
    ],
)
def test_an_order_is_sized_up_in_the_account_s_currency(terms: str, held: str, needed: str, price: str) -> None:
    """The needed buying power is converted at the rate of the fill."""
    asked = size_up(submission(terms), SAP, account("100000", **MARGIN), Exposure(Decimal(held)))
    assert facts(asked.needed, asked.price) == (Decimal(needed), Decimal(price))


def test_notional_is_converted_to_shares_at_the_rate() -> None:
    """111 dollars buy a share at 100 euros, and one at 99 brings 107.91."""
    owner = account("100000")
    buying = size_up(submission("buy $111 AAPL market"), SAP, owner, Exposure())
    selling = size_up(submission("sell $107.91 AAPL market"), SAP, owner, Exposure(Decimal(9)))
    assert facts(buying.qty, selling.qty) == (
        1,
        Decimal("1.01"),
    )  # a sale of held shares gets some more, in case the price falls


def test_without_a_rate_only_closing_orders_are_accepted() -> None:
    """The size of any other order is unknown."""
    unrated = Instrument(True, Decimal(100), Decimal(99), Decimal("99.50"), currency="EUR")
    for terms, reason in (
        ("buy 1 AAPL market", "no_exchange_rate"),
        ("sell 11 AAPL market", "no_exchange_rate"),
        ("sell $9 AAPL market", "no_exchange_rate"),
        ("sell 10 AAPL market", None),
    ):
        found = admit(submission(terms), unrated, account("100000", **MARGIN), Exposure(Decimal(10)), ACCEPTED)
        assert getattr(found, "reason", None) == reason
    assert isinstance(found, Admitted)
    assert facts(found.orders[0].currency, found.orders[0].reserved, found.orders[0].held_for_orders) == ("EUR", 0, 10)
