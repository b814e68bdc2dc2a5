"""Positions in another currency than the account's: margin, dividends, values, recovery and their invariants."""

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

from services.marketdata.actors import enter_corporate_action
from services.marketdata.usecases import corporate_actions
from services.orders.actors import apply_corporate_action
from services.orders.usecases.catch_up import catch_up
from services.orders.usecases.margin import check_margins
from services.valuation import summaries, values
from shared.contracts.accounts import ResetAccount
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied, EnterCorporateAction
from shared.money import cents
from tests.component.foreign_market import STALE, bought, cash, fill_of, forget
from tests.component.paper_exchange import MARGIN, Exchange
from tests.component.watching import outbox
from tests.support import broken_invariants, rows, value


def check(abroad: Exchange) -> dict[str, int]:
    abroad.clock.move(seconds=1)
    with abroad.orders.unit_of_work() as uow:
        done = check_margins(uow)
    assert broken_invariants(abroad.orders.engine) == {}
    return done


def pay(abroad: Exchange, symbol: str, amount: str) -> None:
    act(abroad, symbol, amount=amount)
    apply_last(abroad)


def act(abroad: Exchange, symbol: str, **figure: str) -> None:
    """Marketdata applies a dividend of this amount, or a split of this ratio."""
    command = EnterCorporateAction(
        action_id=uuid4(),
        symbol=symbol,
        kind=ActionKind.SPLIT if "ratio" in figure else ActionKind.DIVIDEND,
        effective_at=abroad.clock.move(seconds=1),
        **{name: Decimal(number) for name, number in figure.items()},
    )
    with abroad.marketdata.unit_of_work() as uow:
        enter_corporate_action(command, uow)
        corporate_actions.apply_due(uow)


def apply_last(abroad: Exchange) -> None:
    """Orders hears of the last action."""
    event = [sent.body for sent in outbox(abroad.marketdata) if sent.name == "CorporateActionApplied.v1"][-1]
    abroad.clock.move(seconds=1)
    with abroad.orders.unit_of_work() as uow:
        apply_corporate_action(CorporateActionApplied.model_validate(event), uow)
    assert broken_invariants(abroad.orders.engine) == {}


def test_a_margin_account_is_called_when_the_currency_falls_and_liquidated_at_the_bid(abroad: Exchange) -> None:
    """190 at 100 euros on 11,000 dollars of its own. The price does not move, the euro does."""
    abroad.price("EUR/USD 1.10/1.10 1.10")
    account = abroad.open("11000", multiplier=2, margin_grace=1)
    bought(abroad, account, "buy 190 SAP market")
    assert (cash(abroad, account), check(abroad)["called"]) == (-9900, 0)
    abroad.price("EUR/USD 0.65/0.67 0.66")
    assert check(abroad)["called"] == 1
    (call,) = rows(abroad.orders.engine, "SELECT equity, required FROM orders.margin_calls")
    assert tuple(call) == (12540 - 9900, 3135)
    abroad.clock.move(hours=1)
    assert check(abroad)["liquidated"] == 1
    abroad.price("EUR/USD 0.65/0.67 0.66")
    abroad.price("SAP 100/100 100")
    assert (abroad.held(account, "SAP"), cash(abroad, account)) == (0, 12350 - 9900)
    assert check(abroad)["met"] == 1


def test_liquidation_waits_for_a_rate_that_is_missing(abroad: Exchange) -> None:
    """The closing order comes in all the same, since the call is made but once."""
    abroad.price("EUR/USD 1.10/1.10 1.10")
    account = abroad.open("11000", multiplier=2, margin_grace=0)
    bought(abroad, account, "buy 190 SAP market")
    abroad.price("EUR/USD 0.65/0.67 0.66")
    check(abroad)
    abroad.clock.now += STALE
    assert check(abroad)["liquidated"] == 1
    abroad.price("SAP 100/100 100")
    assert abroad.held(account, "SAP") == 190
    abroad.price("EUR/USD 0.65/0.67 0.66")
    assert abroad.sweep() == 1
    assert abroad.held(account, "SAP") == 0


def test_a_short_position_abroad_is_owed_at_the_rate(abroad: Exchange) -> None:
    """Sold at the euro's bid, bought back at its ask. A rising euro loses money and is called for."""
    account = abroad.open("12000", **MARGIN)
    abroad.price("SAP 100/100 100")
    selling = abroad.submit(account, "sell 100 SAP market")
    assert abroad.order(selling).reserved == cents(100 * 103 * Decimal("1.11"))
    abroad.price("SAP 100/100 100")
    assert (cash(abroad, account), check(abroad)["called"]) == (22900, 0)
    abroad.price("EUR/USD 1.79/1.81 1.80")
    assert check(abroad)["called"] == 1
    (call,) = rows(abroad.orders.engine, "SELECT equity, required FROM orders.margin_calls")
    assert tuple(call) == (22900 - 18000, 5400)
    bought(abroad, account, "buy 100 SAP market")
    assert cash(abroad, account) == 22900 - 18100
    assert value(abroad.orders.engine, "SELECT sum(realized_pl) FROM orders.round_trips") == 10900 - 18100


def test_a_dividend_is_paid_in_the_account_s_currency(abroad: Exchange) -> None:
    """It is paid at the bid, owed at the ask, and not converted for an account at home. An old rate does."""
    long, short, home = abroad.open(), abroad.open(**MARGIN), abroad.open("9999", "EUR")
    abroad.price("SAP 100/100 100")
    for account, side in ((long, "buy"), (short, "sell"), (home, "buy")):
        abroad.submit(account, f"{side} 10 SAP market")
    abroad.price("SAP 100/100 100")
    before = [cash(abroad, each) for each in (long, short, home)]
    abroad.clock.now += STALE
    pay(abroad, "SAP", "0.50")
    paid = [cash(abroad, each) - was for each, was in zip((long, short, home), before, strict=True)]
    assert paid == [Decimal("5.45"), Decimal("-5.55"), 5]


def test_a_dividend_for_which_there_is_no_rate_is_owed_until_there_is_one(abroad: Exchange) -> None:
    """The job that pays dividends tries again."""
    abroad.price("USD/JPY 100/100 100")
    account = abroad.open()
    bought(abroad, account, "buy 100 SONY market", "3000")
    was = cash(abroad, account)
    forget(abroad, "USD/JPY")
    pay(abroad, "SONY", "50")
    assert (cash(abroad, account), abroad.pay_dividends()) == (was, (0, 1))
    abroad.price("USD/JPY 100/100 100")
    assert (abroad.pay_dividends(), cash(abroad, account)) == ((1, 0), was + 50)


def test_a_split_abroad_changes_no_money(abroad: Exchange) -> None:
    """The rate stays, too. Sold afterwards, the profit is as it would have been."""
    account = abroad.open()
    bought(abroad, account)
    act(abroad, "SAP", ratio="4")
    apply_last(abroad)
    abroad.submit(account, "sell 40 SAP market")
    abroad.price("SAP 25/25 25", split_count=1)
    assert (abroad.held(account, "SAP"), cash(abroad, account)) == (0, Decimal(100000) - 1110 + 1090)


def test_a_reset_account_has_nothing_abroad_any_more(abroad: Exchange) -> None:
    """Its orders are canceled, its new books begin with cash."""
    account = abroad.open()
    bought(abroad, account)
    waiting = abroad.submit(account, "buy 10 SAP limit", limit_price="90")
    abroad.handle(ResetAccount(account_id=account, reset_id=uuid4(), cash=Decimal(500)))
    assert (abroad.status(waiting), abroad.held(account, "SAP"), cash(abroad, account)) == ("canceled", 0, 500)
    assert abroad.account(account).reserved == 0


def test_an_account_is_worth_its_cash_and_its_positions_at_the_last_rate(abroad: Exchange) -> None:
    """The rate may be old. It holds at home and abroad, both ways, live and in the summary of a run."""
    abroad.price("USD/JPY 149/151 150")
    dollars, euros = abroad.open(), abroad.open("10000", "EUR")
    bought(abroad, dollars)
    bought(abroad, dollars, "buy 100 SONY market", "3000")
    bought(abroad, dollars, "buy 1 AAPL market", "300")
    bought(abroad, euros, "buy 5 AAPL market", "300")
    abroad.clock.now += timedelta(days=1)
    expected = {
        dollars: cash(abroad, dollars) + 1100 + cents(300_000 / Decimal(150)) + 300,
        euros: cash(abroad, euros) + cents(1500 / Decimal("1.1")),
    }
    with abroad.valuation.unit_of_work() as uow:
        live = {each.account_id: each for each in values.values_of_all(uow.connection)}
        assert summaries.snapshot(uow.connection, uuid4(), uow.now) == (2, 4)
    assert {id_: each.equity for id_, each in live.items()} == expected
    costs = value(abroad.orders.engine, "SELECT sum(cost) FROM orders.positions WHERE account_id = :a", a=dollars)
    assert live[dollars].unrealized_pl == live[dollars].market_value - costs
    found = rows(abroad.valuation.engine, "SELECT account_id, equity FROM valuation.account_summaries")
    assert {row.account_id: row.equity for row in found} == expected
    found = rows(abroad.valuation.engine, "SELECT symbol, price, market_value FROM valuation.position_values")
    assert ("SONY", 3000, 2000) in [tuple(row) for row in found]


def test_a_new_rate_values_those_who_hold_something_at_it(abroad: Exchange) -> None:
    """Beside who holds the pair itself, and nobody else."""
    dollars, euros, pair, other = abroad.open(), abroad.open("9999", "EUR"), abroad.open(), abroad.open()
    bought(abroad, dollars)
    bought(abroad, euros)  # at home there
    bought(abroad, euros, "buy 1 AAPL market")
    bought(abroad, other, "buy 1 AAPL market")
    buying = abroad.submit(pair, "buy 100 EUR/USD market")
    abroad.price("EUR/USD 1.09/1.11 1.10")
    assert (abroad.status(buying), cash(abroad, pair)) == ("filled", Decimal(100000) - 111)
    with abroad.valuation.engine.begin() as connection:
        for symbol, holders in (("EUR/USD", {dollars, euros, pair}), ("SAP", {dollars, euros})):
            assert {each.account_id for each in values.values_of_holders(connection, [symbol])} == holders


def test_what_never_had_a_rate_is_left_out_of_the_value(abroad: Exchange) -> None:
    """A position that never had a price is left out as well. It counts again when there is a rate."""
    abroad.price("USD/JPY 100/100 100")
    account = abroad.open()
    bought(abroad, account, "buy 100 SONY market", "3000")
    bought(abroad, account)
    forget(abroad, "USD/JPY")
    with abroad.valuation.unit_of_work() as uow:
        (found,) = values.values_of(uow.connection, [account])
    assert found.equity == cash(abroad, account) + 1100


def test_missed_bars_are_converted_at_the_rate_of_now(abroad: Exchange) -> None:
    """A euro account slept through an outage, and pays now."""
    account = abroad.open("10000", "EUR", fills={"fills_on": "bar"})
    abroad.price("AAPL 100/100 100")
    low = abroad.submit(account, "buy 10 AAPL limit", limit_price="91")
    abroad.missed([("101", "104", "99", "103"), ("103", "103", "90", "95"), ("95", "99", "94", "98")])
    abroad.price("EUR/USD 1.25/1.26 1.25")
    assert catch_up(abroad.orders, lambda _done, _of: None) == 1
    assert broken_invariants(abroad.orders.engine) == {}
    row = fill_of(abroad, low)
    assert (row.price, row.rate, row.amount) == (91, Decimal("0.8"), 728)


def test_the_proof_finds_a_fill_at_another_rate_than_its_pair_had(abroad: Exchange) -> None:
    """Neither the rate, nor the amount that it makes, nor a rate where there is nothing to convert."""
    account = abroad.open()
    placed = bought(abroad, account)
    home = bought(abroad, account, "buy 1 AAPL market")
    rate = "a fill is converted at the rate that it names, on its side of the pair's quote"
    value = "a fill's amount is its value to the cent, rounded against the trader"
    for name, order_id, change, undo in (
        (rate, placed, "rate = 1.10, amount = 1100", "rate = 1.11, amount = 1110"),
        (value, placed, "amount = 1109", "amount = 1110"),
        (rate, placed, "rate_quoted_at = NULL", "rate_quoted_at = quoted_at"),
        (rate, placed, "currency = 'USD'", "currency = 'EUR'"),
        (rate, home, "rate = 2, amount = 2 * amount", "rate = 1, amount = amount / 2"),
    ):
        for what, broken in ((change, True), (undo, False)):
            with abroad.orders.engine.begin() as connection:
                connection.exec_driver_sql(f"UPDATE orders.fills SET {what} WHERE order_id = %s", (order_id,))
            assert (name in broken_invariants(abroad.orders.engine)) is broken, what
