"""Orders for what trades in another currency than their account's: rates, fills, sizes and waiting, on real rows."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.orders.usecases.execute import fill_on
from shared.money import CENT, cents_down, cents_up
from tests.component.foreign_market import STALE, bought, cash, fill_of, forget
from tests.component.paper_exchange import MARGIN, Exchange
from tests.support import executed, price, rows


def test_a_currency_is_bought_at_the_ask_of_its_pair_and_sold_at_its_bid(abroad: Exchange) -> None:
    """The price stays in the instrument's currency. Cash, cost, profit and events about them are in the account's."""
    account = abroad.open()
    buying = bought(abroad, account)
    assert cash(abroad, account) == Decimal(100000) - 1110
    abroad.price("EUR/USD 1.19/1.21 1.20")
    selling = bought(abroad, account, "sell 10 SAP market", "120")
    assert cash(abroad, account) == Decimal(100000) - 1110 + 1428
    (trade,) = rows(abroad.orders.engine, "SELECT cost, proceeds, realized_pl FROM orders.round_trips")
    assert tuple(trade) == (1110, 1428, 318)
    for order_id, at, rate, amount in ((buying, 100, "1.11", 1110), (selling, 120, "1.19", 1428)):
        row = fill_of(abroad, order_id)
        assert (row.price, row.rate, row.amount, row.currency) == (at, Decimal(rate), amount, "EUR")
        assert row.rate_quoted_at < row.quoted_at
    told = [body for name, body in abroad.said(account) if name == "OrderFilled"]
    assert [(body["price"], body["currency"], body["rate"]) for body in told] == [
        ("100", "EUR", "1.11"),
        ("120", "EUR", "1.19"),
    ]
    assert (abroad.order(buying).currency, abroad.order(buying).filled_avg_rate) == ("EUR", Decimal("1.11"))


def test_a_pair_that_is_quoted_the_other_way_round_is_turned(abroad: Exchange) -> None:
    """Yen for dollars, of which there is only USD/JPY: bought at one over its bid, sold at one over its ask."""
    abroad.price("USD/JPY 149.02/149.05 149.03")
    account = abroad.open()
    buying = bought(abroad, account, "buy 100 SONY market", "3000")
    row = fill_of(abroad, buying)
    assert (row.rate, row.rate_ask) == (Decimal("0.006710508657"), Decimal("0.006710508657"))
    assert row.amount == cents_up(300_000 / Decimal("149.02")) == Decimal("2013.16")
    row = fill_of(abroad, bought(abroad, account, "sell 100 SONY market", "3000"))
    assert (row.rate, row.amount) == (Decimal("0.006709158"), cents_down(300_000 / Decimal("149.05")))


def test_an_account_in_another_currency_has_its_own_pair(abroad: Exchange) -> None:
    """It takes the other side of EUR/USD, dollars for euros. An instrument in euros is at home there, without rate."""
    account = abroad.open("10000", "EUR")
    row = fill_of(abroad, bought(abroad, account, "buy 10 AAPL market"))
    assert (row.currency, row.amount) == ("USD", cents_up(1000 / Decimal("1.09")))
    row = fill_of(abroad, bought(abroad, account))
    assert (row.currency, row.rate, row.rate_quoted_at, row.amount) == ("EUR", 1, None, 1000)


def test_the_rates_go_both_ways_and_the_pair_itself_goes_first(abroad: Exchange) -> None:
    """Turned, the spread is not smaller. A pair whose name does not fit its currency is none, nor one without price."""
    with abroad.marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument("USD/EUR", "-", currency="EUR"), Instrument("GBP/EUR", "-")])
    abroad.price("GBP/EUR 1/2 1.5")

    def told() -> list[Any]:
        return [tuple(row) for row in rows(abroad.orders.engine, _RATES)]

    direct = ("EUR", "USD", "EUR/USD", Decimal("1.09"), Decimal("1.11"), Decimal("1.1"))
    assert told() == [
        direct,
        ("USD", "EUR", "EUR/USD", Decimal("0.900900900900"), Decimal("0.917431192661"), Decimal("0.909090909091")),
    ]
    abroad.price("USD/EUR 0.89/0.92 0.90")
    assert told() == [direct, ("USD", "EUR", "USD/EUR", Decimal("0.89"), Decimal("0.92"), Decimal("0.90"))]
    abroad.price("EUR/USD / 1.10")
    assert told()[0] == ("EUR", "USD", "EUR/USD", None, None, Decimal("1.1"))


def test_a_rate_without_a_quote_has_half_the_assumed_spread(abroad: Exchange) -> None:
    """As the price of an instrument has."""
    abroad.price("EUR/USD / 1.10")
    account = abroad.open()
    row = fill_of(abroad, bought(abroad, account))
    assert (row.rate, row.rate_ask, row.amount) == (Decimal("1.10011"), None, Decimal("1100.11"))
    row = fill_of(abroad, bought(abroad, account, "sell 10 SAP market"))
    assert (row.rate, row.amount) == (Decimal("1.09989"), Decimal("1099.89"))


def test_without_a_rate_nothing_is_bought(abroad: Exchange) -> None:
    """Nobody knows what it costs. The refusal has a name, and the row its currency."""
    account = abroad.open(**MARGIN)
    for text, fields in (("buy 1 SONY market", {}), ("sell 1 SONY market", {}), ("buy 1 SONY market", {"notional": 9})):
        refused = abroad.submit(account, text, **fields)
        assert (abroad.reason(refused), abroad.order(refused).currency) == ("no_exchange_rate", "JPY")
    assert abroad.account(account).reserved == 0


def test_an_order_waits_for_a_fresh_rate(abroad: Exchange) -> None:
    """The price is there, the rate is two minutes old: it fills on the same price when there is a new one."""
    account = abroad.open()
    placed = abroad.submit(account, "buy 10 SAP market")
    abroad.clock.now += STALE
    abroad.price("SAP 100/100 100")
    assert (abroad.status(placed), abroad.fills(placed)) == ("accepted", [])
    abroad.price("EUR/USD 1.29/1.31 1.30")
    assert abroad.status(placed) == "accepted"
    assert abroad.sweep() == 1
    assert fill_of(abroad, placed).amount == 1310


def test_a_stop_that_is_reached_without_a_rate_stays_reached(abroad: Exchange) -> None:
    """It fills with the next price that finds a rate, wherever that is."""
    account = abroad.open()
    bought(abroad, account)
    stop = abroad.submit(account, "sell 10 SAP stop", stop_price="95")
    abroad.clock.now += STALE
    abroad.price("SAP 94/95 94")
    assert (abroad.status(stop), abroad.order(stop).triggered) == ("accepted", True)
    abroad.price("EUR/USD 1.09/1.11 1.10")
    abroad.price("SAP 99/100 99")
    assert abroad.fills(stop) == [(Decimal(10), Decimal(99))]


@pytest.mark.parametrize("time_in_force", ["ioc", "fok"])
def test_what_must_fill_at_once_ends_without_a_rate(abroad: Exchange, time_in_force: str) -> None:
    """It does not wait for one: the price that it was meant for would be gone."""
    account = abroad.open()
    placed = abroad.submit(account, "buy 10 SAP market", time_in_force=time_in_force)
    abroad.clock.now += STALE
    abroad.price("SAP 100/100 100")
    assert (abroad.status(placed), abroad.reason(placed)) == ("canceled", "no_exchange_rate")
    assert abroad.account(account).reserved == 0


def test_what_only_closes_comes_in_without_a_rate(abroad: Exchange) -> None:
    """Nobody is kept from getting out. It waits for a rate as for a price. Money would have no size."""
    abroad.price("USD/JPY 149/150 149.5")
    account = abroad.open()
    bought(abroad, account, "buy 100 SONY market", "3000")
    forget(abroad, "USD/JPY")
    closing = abroad.submit(account, "sell 100 SONY market")
    assert abroad.reason(abroad.submit(account, "sell 1 SONY market", notional="100")) == "no_exchange_rate"
    abroad.price("SONY 3000/3000 3000")
    assert abroad.status(closing) == "accepted"
    abroad.price("USD/JPY 149/150 149.5")
    abroad.price("SONY 3000/3000 3000")
    assert fill_of(abroad, closing).amount == Decimal("1999.99")  # the inverted rate is rounded down


def test_an_old_rate_is_enough_to_come_in(abroad: Exchange) -> None:
    """The markets are closed, the order waits for them. It reserves its present cost."""
    account = abroad.open()
    abroad.price("SAP 100/100 100")
    abroad.clock.now += timedelta(days=2)
    placed = abroad.submit(account, "buy 10 SAP limit", limit_price="100")
    assert (abroad.status(placed), abroad.order(placed).reserved) == ("accepted", 1110)


LIMITS: list[tuple[dict[str, str], str | None]] = [
    ({"max_order_notional": "1109"}, "order_too_large"),
    ({"max_order_notional": "1110"}, None),
    ({"max_position_notional": "1109"}, "position_limit"),
    ({"max_position_share": "0.11"}, "position_limit"),
    ({"max_position_share": "0.12"}, None),
    ({"price_collar": "0.1"}, None),
]


@pytest.mark.parametrize(("limits", "reason"), LIMITS)
def test_limits_are_in_the_account_s_currency(abroad: Exchange, limits: dict[str, str], reason: str | None) -> None:
    """Ten at 100 euros are 1,110 dollars, of 10,000. Only a collar is about the price itself."""
    account = abroad.open("10000", limits=limits)
    abroad.price("SAP 100/100 100")
    assert abroad.reason(abroad.submit(account, "buy 10 SAP limit", limit_price="100")) == reason


def test_buying_power_is_in_the_account_s_currency(abroad: Exchange) -> None:
    """A thousand dollars do not buy for a thousand euros. After a cancel their reservation is free again."""
    account = abroad.open("1110")
    abroad.price("SAP 100/100 100")
    assert abroad.reason(abroad.submit(account, "buy 11 SAP limit", limit_price="100")) == "insufficient_buying_power"
    placed = abroad.submit(account, "buy 10 SAP limit", limit_price="100")
    assert abroad.account(account).reserved == 1110
    placed = abroad.replace(account, placed, limit_price="90")
    assert (abroad.account(account).reserved, abroad.order(placed).currency) == (999, "EUR")
    abroad.cancel(account, placed)
    assert abroad.account(account).reserved == 0


def test_a_rate_that_rose_beyond_the_cash_refuses_at_the_fill(abroad: Exchange) -> None:
    """An order that can no longer be paid does not fill."""
    account = abroad.open("1110")
    placed = abroad.submit(account, "buy 10 SAP limit", limit_price="100")
    abroad.price("EUR/USD 1.12/1.13 1.12")
    abroad.price("SAP 100/100 100")
    assert (abroad.status(placed), abroad.reason(placed)) == ("rejected", "insufficient_buying_power")
    assert cash(abroad, account) == 1110


def test_a_notional_order_spends_its_money_over_rates_that_move(abroad: Exchange) -> None:
    """A thousand dollars buy four shares at 1.11 and the rest at 1.25, less a cent. They pay the fee, too."""
    fills = {"participation": "1", "commission": {"kind": "percent", "rate": "1"}}
    account = abroad.open("1010", fills=fills)
    abroad.price("SAP 100/100 100")
    placed = abroad.submit(account, "buy 0 SAP market", notional="1000")
    assert abroad.order(placed).reserved == 1010
    abroad.price("SAP 100/100 100", ask_size="4")
    order = abroad.order(placed)
    assert (order.filled_qty, order.reserved, order.fees) == (4, Decimal("561.56"), Decimal("4.44"))
    abroad.price("EUR/USD 1.24/1.25 1.24")
    abroad.price("SAP 100/100 100", ask_size="99")
    order = abroad.order(placed)
    assert (order.status, order.fees) == ("filled", 10)
    assert (order.filled_qty, cash(abroad, account)) == (Decimal("8.44792"), CENT)


def test_a_sale_for_money_brings_as_much_in(abroad: Exchange) -> None:
    """109 dollars are a share at 100 euros."""
    account = abroad.open()
    bought(abroad, account)
    before = cash(abroad, account)
    selling = abroad.submit(account, "sell 0 SAP market", notional="109")
    abroad.price("SAP 100/100 100")
    assert (abroad.order(selling).filled_qty, cash(abroad, account) - before) == (1, 109)


def test_a_bracket_abroad_keeps_its_currency(abroad: Exchange) -> None:
    """Its exits are sold at the bid of the rate of their time."""
    account = abroad.open()
    exits: dict[str, Any] = {"take_profit": {"limit_price": "120"}, "stop_loss": {"stop_price": "80"}}
    entry = abroad.submit(account, "buy 10 SAP market", order_class="bracket", **exits)
    abroad.price("SAP 100/100 100")
    abroad.price("EUR/USD 1.49/1.51 1.50")
    abroad.price("SAP 120/121 120")
    legs = abroad.legs(entry)
    assert (legs["take_profit"].status, legs["stop_loss"].status) == ("filled", "canceled")
    assert cash(abroad, account) == Decimal(100000) - 1110 + 1788


def test_a_batch_at_home_has_not_one_statement_more(abroad: Exchange) -> None:
    """Rates are asked for once, where a fill needs one, however many do."""

    def statements(symbol: str) -> int:
        for account in (abroad.open(), abroad.open()):
            abroad.submit(account, f"buy 1 {symbol} market")
        quoted = price(symbol, "100", at=abroad.clock.move(seconds=1))
        with executed() as seen, abroad.orders.unit_of_work() as uow:
            assert fill_on(uow, [quoted], at=uow.now) == 2
        return seen[0]

    assert (statements("AAPL"), statements("SAP")) == (BATCH, BATCH + 1)


#: Statements of a batch whose fills only open positions and complete their orders, with the commit.
BATCH = 14
_RATES = """
SELECT currency, account_currency, symbol, bid, ask, last FROM marketdata.rates_v1
WHERE account_currency IN ('USD', 'EUR') ORDER BY 1, 2
"""
