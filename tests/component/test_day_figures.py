"""Figures of the day of accounts and positions, from the previous close in the market's own time zone."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from alpaca.trading.models import Position, TradeAccount

from services.gateway.trading import account_queries
from services.gateway.trading.serializers import account_json, position_json
from services.marketdata.usecases.corporate_actions import apply_due, enter
from services.valuation.jobs import jobs
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.accounts import MoveCash, OpenAccount, ResetAccount
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied, EnterCorporateAction
from shared.jobs.run_context import RunContext
from tests.component.auction_days import FRIDAY, MONDAY, WEDNESDAY, become_known, utc
from tests.component.paper_exchange import MARGIN, Exchange
from tests.component.watching import outbox, statements

Read = Callable[[UUID], Any]


@pytest.fixture
def position(gateway: ServiceContext) -> Read:
    """The account's position in AAPL, as the gateway shows it now. The official client reads it."""

    def read(account: UUID) -> Any:
        with gateway.engine.begin() as connection:
            (row,) = account_queries.positions(connection, account, gateway.clock(), "AAPL")
        shown = position_json(row)
        Position(**shown)
        return shown

    return read


@pytest.fixture
def account(gateway: ServiceContext) -> Read:
    """The account, as the gateway shows it now. The official client reads it."""

    def read(account_id: UUID) -> Any:
        with gateway.engine.begin() as connection:
            row = account_queries.account(connection, account_id, gateway.clock())
        assert row is not None
        shown = account_json(row)
        TradeAccount(**shown)
        return shown

    return read


def day_of(shown: Any) -> tuple[str | None, ...]:
    names = ("lastday_price", "change_today", "unrealized_intraday_pl", "unrealized_intraday_plpc", "unrealized_pl")
    return tuple(shown[name] for name in names)


def bought(exchange: Exchange, account: UUID, last: str = "100", qty: int = 10, side: str = "buy") -> None:
    """Fill a market order, a cent from the last price."""
    exchange.submit(account, f"{side} {qty} AAPL market")
    exchange.price(f"AAPL {Decimal(last) - Decimal('0.01')}/{Decimal(last) + Decimal('0.01')} {last}")


def bar(exchange: Exchange, at: datetime, close: str, interval: str = "1m") -> None:
    with exchange.marketdata.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO marketdata.market_data VALUES ('AAPL', %s, %s, %s, %s, %s, %s, 1, 'test')",
            (interval, at, *[Decimal(close)] * 4),
        )


def test_shares_of_earlier_days_gain_since_the_previous_close(floor: Exchange, position: Read) -> None:
    """Ten bought at 100.01 on Wednesday, which closed at 110, are worth 120 on Friday: Thursday is a holiday."""
    account = floor.open()
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, account)
    become_known(floor, "close", "110")
    floor.clock.now = utc(FRIDAY, "15:00")
    floor.price("AAPL 119.99/120.01 120")
    assert day_of(position(account)) == ("110", "0.090909", "100", "0.090909", "199.9")


def test_shares_bought_today_gain_since_their_entry(floor: Exchange, position: Read) -> None:
    """Ten of Wednesday count from its close, and ten of today from 115.01."""
    account = floor.open()
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, account)
    become_known(floor, "close", "110")
    floor.clock.now = utc(FRIDAY, "15:00")
    bought(floor, account, "115")
    floor.price("AAPL 119.99/120.01 120")
    shown = position(account)
    assert day_of(shown) == ("110", "0.090909", "149.9", "0.066619", "249.8")
    assert (shown["avg_entry_price"], shown["cost_basis"], shown["market_value"]) == ("107.51", "2150.2", "2400")


def test_a_position_opened_today_gains_since_its_entry(floor: Exchange, position: Read) -> None:
    """Also where the previous close is not known, and after a part of it was sold."""
    account = floor.open()
    floor.clock.now = utc(FRIDAY, "15:00")
    bought(floor, account, "100")
    bought(floor, account, "110")
    bought(floor, account, "112", side="sell")
    floor.price("AAPL 119.99/120.01 120")
    assert day_of(position(account)) == (None, None, "149.9", "0.142748", "149.9")
    become_known(floor, "close", "100")
    assert day_of(position(account)) == ("100", "0.2", "149.9", "0.142748", "149.9")


def test_short_shares_gain_when_the_price_falls_below_the_previous_close(floor: Exchange, position: Read) -> None:
    """Sold short at 99.99 on Wednesday, which closed at 110, and worth 105 now."""
    account = floor.open("100000", **MARGIN)
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, account, side="sell")
    become_known(floor, "close", "110")
    floor.clock.now = utc(FRIDAY, "15:00")
    floor.price("AAPL 104.99/105.01 105")
    assert day_of(position(account)) == ("110", "-0.045455", "50", "0.045455", "-50.1")


def test_figures_without_a_previous_close_are_null(floor: Exchange, position: Read) -> None:
    """On Monday, Wednesday's close is not that of the previous day, and neither is a price of Monday."""
    account = floor.open()
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, account)
    become_known(floor, "close", "109")
    bar(floor, utc(WEDNESDAY, "20:59"), "109")
    floor.clock.now = utc(MONDAY, "15:00")
    floor.price("AAPL 119.99/120.01 120")
    bar(floor, utc(MONDAY, "14:40"), "119")
    assert day_of(position(account)) == (None, None, None, None, "199.9")


def test_the_last_bar_before_the_close_stands_in_for_an_official_close(floor: Exchange, position: Read) -> None:
    """A bar of after-hours trading does not, nor does one of the day itself."""
    account = floor.open()
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, account)
    for at, close in (("20:00", "108"), ("20:59", "110"), ("21:30", "111")):
        bar(floor, utc(WEDNESDAY, at), close)
    bar(floor, utc(FRIDAY, "14:31"), "112")
    floor.clock.now = utc(FRIDAY, "15:00")
    floor.price("AAPL 119.99/120.01 120")
    assert day_of(position(account))[:3] == ("110", "0.090909", "100")


@pytest.mark.parametrize(
    ("now", "lastday"),
    [
        (utc(FRIDAY, "04:59"), "105"),  # it is still Thursday in New York
        (utc(FRIDAY, "05:01"), "105"),
        (utc(FRIDAY, "23:00"), "105"),
        (utc(FRIDAY + timedelta(days=1), "04:59"), "105"),
        (utc(FRIDAY + timedelta(days=1), "05:01"), "110"),
        (utc(MONDAY, "15:00"), "110"),
    ],
)
def test_a_day_is_one_of_the_market_s_own_time_zone(
    floor: Exchange, position: Read, now: datetime, lastday: str
) -> None:
    """New York is five hours behind UTC. Friday's close counts from Saturday on, over the weekend."""
    account = floor.open()
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, account)
    become_known(floor, "close", "105")
    become_known(floor, "close", "110", day=FRIDAY)
    floor.clock.now = now
    assert position(account)["lastday_price"] == lastday


def test_a_market_that_never_closes_has_days_of_utc(exchange: Exchange, position: Read) -> None:
    """The last bar before midnight is its close."""
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    exchange.clock.now = midnight - timedelta(hours=12)
    account = exchange.open()
    bought(exchange, account)
    bar(exchange, midnight - timedelta(seconds=1), "110", "replay")
    bar(exchange, midnight, "115", "replay")
    exchange.clock.now = midnight + timedelta(minutes=5)
    exchange.price("AAPL 119.99/120.01 120")
    assert day_of(position(account))[:3] == ("110", "0.090909", "100")


@pytest.mark.parametrize("official", [True, False])
def test_the_previous_close_is_in_shares_of_today(floor: Exchange, position: Read, official: bool) -> None:
    """Wednesday's 110 is 27.5 after a split of four for one on Friday. Forty shares gained 2.5 each."""
    account = floor.open()
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, account)
    if official:
        become_known(floor, "close", "110")
    else:
        bar(floor, utc(WEDNESDAY, "20:59"), "110")
    split(floor, "4", utc(FRIDAY, "14:00"))
    floor.clock.now = utc(FRIDAY, "15:00")
    floor.price("AAPL 29.99/30.01 30", split_count=1)
    shown = position(account)
    assert day_of(shown) == ("27.5", "0.090909", "100", "0.090909", "199.9")
    assert (shown["qty"], shown["avg_entry_price"], shown["cost_basis"]) == ("40", "25.0025", "1000.1")


def test_a_position_that_has_not_been_split_yet_has_figures_of_old_shares(floor: Exchange, position: Read) -> None:
    """For a moment marketdata is ahead of orders."""
    account = floor.open()
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, account)
    become_known(floor, "close", "110")
    floor.clock.now = utc(FRIDAY, "14:00")
    floor.price("AAPL 119.99/120.01 120")
    before = position(account)
    applied = split_prices(floor, "4", floor.clock.now)
    assert position(account) == before
    floor.handle(applied)
    assert day_of(position(account)) == ("27.5", *day_of(before)[1:])


def split(exchange: Exchange, ratio: str, at: datetime) -> None:
    """Let marketdata enter and apply the split, and orders hear of it."""
    exchange.handle(split_prices(exchange, ratio, at))


def split_prices(exchange: Exchange, ratio: str, at: datetime) -> CorporateActionApplied:
    exchange.clock.now = at
    action = {"symbol": "AAPL", "kind": ActionKind.SPLIT, "ratio": Decimal(ratio), "effective_at": at}
    with exchange.marketdata.unit_of_work() as uow:
        enter(uow, EnterCorporateAction(action_id=uuid4(), **action))
        assert apply_due(uow) == 1
    applied = [sent.body for sent in outbox(exchange.marketdata) if sent.name.startswith("CorporateActionApplied")]
    return CorporateActionApplied.model_validate(applied[-1])


def test_the_average_entry_price_is_weighted(exchange: Exchange, position: Read) -> None:
    """Ten at 100 and ten at 110 cost 105 on average. Selling ten leaves that, while the first ten lots are gone."""
    account = exchange.open()

    def trade(side: str, qty: int, last: str) -> tuple[str, ...]:
        exchange.submit(account, f"{side} {qty} AAPL market")
        exchange.price(f"AAPL {last}/{last} {last}")
        shown = position(account)
        return shown["avg_entry_price"], shown["cost_basis"], shown["unrealized_pl"]

    assert trade("buy", 10, "100") == ("100", "1000", "0")
    assert trade("buy", 10, "110") == ("105", "2100", "100")
    assert trade("sell", 10, "120") == ("105", "1050", "150")
    assert trade("buy", 5, "90") == ("100", "1500", "-150")
    assert trade("sell", 14, "90") == ("100", "100", "-10")


def test_several_fills_of_one_price_move_the_average_in_their_sequence(exchange: Exchange, position: Read) -> None:
    """Two buys at their limits and a sale at its limit, all inside of one bar, on ten shares held."""
    account = exchange.open("100000", fills={"fills_on": "bar"})
    bought(exchange, account)
    for side, limit in (("buy", "98"), ("buy", "95"), ("sell", "106")):
        exchange.submit(account, f"{side} 10 AAPL limit", limit_price=limit)
    exchange.bar("AAPL 99/101 100", low="90", high="110")
    fills = exchange.everything(account)
    expected, held = Decimal(0), Decimal(0)
    for body in (body for name, body in fills if name == "OrderFilled"):
        qty, price = Decimal(body["qty"]), Decimal(body["price"])
        if body["side"] == "buy":
            expected, held = (expected * held + price * qty) / (held + qty), held + qty
        else:
            held -= qty
    shown = position(account)
    assert held == Decimal(shown["qty"]) == 20
    assert Decimal(shown["avg_entry_price"]) == round(expected, 6)


def test_a_position_that_crosses_zero_or_begins_anew_has_the_price_of_what_it_opened(
    exchange: Exchange, position: Read
) -> None:
    """After a sale of everything, a reset, and a short sale."""
    account = exchange.open("100000", **MARGIN)
    bought(exchange, account, "50")
    bought(exchange, account, "60", side="sell")
    bought(exchange, account, "100", side="sell")
    assert (position(account)["avg_entry_price"], position(account)["cost_basis"]) == ("99.99", "-999.9")
    bought(exchange, account, "110", side="sell")
    assert (position(account)["avg_entry_price"], position(account)["cost_basis"]) == ("104.99", "-2099.8")
    exchange.handle(ResetAccount(account_id=account, reset_id=uuid4(), cash=Decimal(5000)))
    bought(exchange, account, "10")
    assert position(account)["avg_entry_price"] == "10.01"


def test_a_position_from_before_average_prices_were_kept_has_that_of_its_lots(
    exchange: Exchange, position: Read
) -> None:
    """And counts on from there."""
    account = exchange.open()
    bought(exchange, account)
    forget = "UPDATE orders.positions SET avg_entry_price = NULL"
    for side, expected in (("sell", "100.01"), ("buy", "106.676667")):
        with exchange.orders.engine.begin() as connection:
            connection.exec_driver_sql(forget)
        assert position(account)["avg_entry_price"] == "100.01"
        bought(exchange, account, "110", qty=5 if side == "sell" else 10, side=side)
        assert position(account)["avg_entry_price"] == expected


def test_the_account_s_unrealized_profit_is_that_of_its_positions(
    exchange: Exchange, account: Read, position: Read
) -> None:
    """At their average entry prices, while realized profit is that of the first lots."""
    id_ = exchange.open()
    for side, last in (("buy", "100"), ("buy", "110"), ("sell", "120")):
        bought(exchange, id_, last, side=side)
    assert position(id_)["unrealized_pl"] == account(id_)["unrealized_pl"] == "149.9"


def test_last_equity_is_that_of_the_previous_close(floor: Exchange, account: Read) -> None:
    """The day's summary tells it, also on the days after it, and a later valuation of that day does not."""
    id_ = floor.open("10000")
    floor.clock.now = utc(WEDNESDAY, "15:00")
    bought(floor, id_)
    become_known(floor, "close", "110")
    floor.price("AAPL 109.99/110.01 110")
    summarize(floor, utc(WEDNESDAY, "21:05"))
    assert account(id_)["last_equity"] == "10000"  # it is still Wednesday
    floor.clock.now = utc(WEDNESDAY, "23:00")
    floor.price("AAPL 129.99/130.01 130")
    value(floor)
    floor.clock.now = utc(FRIDAY, "15:00")
    floor.price("AAPL 119.99/120.01 120")
    shown = account(id_)
    assert (shown["equity"], shown["last_equity"], shown["balance_asof"]) == ("10199.9", "10099.9", "2026-11-25")


def summarize(exchange: Exchange, slot: datetime, market: str = "XNYS") -> None:
    exchange.clock.now = slot
    run = RunContext(uuid4(), exchange.valuation, slot, {}, slot, market=market)
    assert jobs.declared["summarize_day"].run(run)["accounts_summarized"]


def value(exchange: Exchange) -> None:
    jobs.declared["update_positions"].run(RunContext(uuid4(), exchange.valuation, exchange.clock.now, {}))


def test_last_equity_is_the_last_valuation_of_an_earlier_day_where_that_has_no_summary(
    exchange: Exchange, account: Read
) -> None:
    """As in the first minutes of a day on a market that never closes."""
    exchange.clock.now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    id_ = exchange.open("10000")
    summarize(exchange, datetime(2026, 11, 25, 0, 5, tzinfo=UTC), "DEMO")
    for hour in (12, 23):
        exchange.clock.now = datetime(2026, 11, 25, hour, tzinfo=UTC)
        bought(exchange, id_)
        value(exchange)
    assert account(id_)["last_equity"] == "10000"
    exchange.clock.now = datetime(2026, 11, 26, 0, 1, tzinfo=UTC)
    exchange.price("AAPL 109.99/110.01 110")
    assert (account(id_)["last_equity"], account(id_)["equity"]) == ("9999.8", "10199.8")


def test_last_equity_of_a_new_account_is_its_first_cash(exchange: Exchange, account: Read) -> None:
    """So the day's profit is that of its trades. An account that opens without cash begins with its first deposit."""
    first, second = exchange.open("10000"), exchange.open("0")
    exchange.handle(MoveCash(account_id=second, transfer_id=uuid4(), amount=Decimal(500)))
    bought(exchange, first)
    assert (account(first)["equity"], account(first)["last_equity"]) == ("9999.9", "10000")
    assert (account(second)["equity"], account(second)["last_equity"]) == ("500", "500")
    assert account(second)["intraday_adjustments"] == "0"


def test_last_equity_after_a_reset_is_the_cash_of_the_new_generation(exchange: Exchange, account: Read) -> None:
    """Whatever summaries tell of the generation before: the day's profit begins at 0."""
    id_ = exchange.open("250000")
    exchange.clock.now = exchange.clock.now.replace(hour=12)
    value(exchange)
    slot = (exchange.clock.now + timedelta(days=1)).replace(hour=0, minute=5, second=0, microsecond=0)
    summarize(exchange, slot, "DEMO")
    assert account(id_)["last_equity"] == "250000"
    exchange.handle(ResetAccount(account_id=id_, reset_id=uuid4(), cash=Decimal(5000)))
    assert (account(id_)["equity"], account(id_)["last_equity"]) == ("5000", "5000")
    summarize(exchange, slot + timedelta(days=1), "DEMO")
    exchange.handle(MoveCash(account_id=id_, transfer_id=uuid4(), amount=Decimal(10)))
    assert (account(id_)["equity"], account(id_)["last_equity"]) == ("5010", "5000")


def test_transfers_of_today_do_not_change_last_equity(exchange: Exchange, account: Read) -> None:
    """They are told apart, as at Alpaca: today's profit is equity less last equity less adjustments."""
    id_ = exchange.open("10000")
    for amount in ("500", "-200"):
        exchange.handle(MoveCash(account_id=id_, transfer_id=uuid4(), amount=Decimal(amount)))
    shown = account(id_)
    assert (shown["equity"], shown["last_equity"], shown["intraday_adjustments"]) == ("10300", "10000", "300")
    summarize(exchange, (exchange.clock.now + timedelta(days=1)).replace(hour=0, minute=5), "DEMO")
    exchange.handle(MoveCash(account_id=id_, transfer_id=uuid4(), amount=Decimal(-1000)))
    shown = account(id_)
    assert (shown["equity"], shown["last_equity"], shown["intraday_adjustments"]) == ("9300", "10300", "-1000")


def test_positions_are_read_in_one_statement(exchange: Exchange, gateway: ServiceContext) -> None:
    """However many there are."""
    id_ = exchange.open("1000000")
    counts = []
    for symbol in ("AAPL", "IBM", "MSFT"):
        exchange.submit(id_, f"buy 1 {symbol} market")
        exchange.price(f"{symbol} 99.99/100.01 100")
        with statements(gateway.engine) as seen, gateway.engine.begin() as connection:
            found = account_queries.positions(connection, id_, gateway.clock())
        counts.append((len(found), len(seen)))
    assert counts == [(1, 1), (2, 1), (3, 1)]


def test_an_account_that_is_being_opened_has_no_figures(gateway: ServiceContext, exchange: Exchange) -> None:
    """It is not there yet."""
    opening = OpenAccount(account_id=uuid4(), name="test", cash=Decimal(1))
    with gateway.engine.begin() as connection:
        assert account_queries.account(connection, opening.account_id, exchange.clock.now) is None
