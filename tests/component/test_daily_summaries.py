"""Days summed up on a real PostgreSQL: a row per account and trading day, corrected by a second run or by hand."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from services.marketdata.service import prepare
from services.valuation.domain.trading_day import NoTradingDay
from services.valuation.jobs import jobs
from shared.jobs.run_context import RunContext
from tests.component.trading_history import TradingHistory, at
from tests.component.watching import context_of, statements
from tests.conftest import FakeClock

MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)


@pytest.fixture
def history(urls: dict[str, str], clock: FakeClock) -> Iterator[TradingHistory]:
    clock.now = at("22 12:00")
    with (
        context_of("marketdata", urls, clock) as marketdata,
        context_of("orders", urls, clock) as orders,
        context_of("valuation", urls, clock) as valuation,
    ):
        prepare(marketdata)
        yield TradingHistory(marketdata, orders, valuation, clock)


def test_a_summary_has_the_account_s_value_and_the_day_s_profit_and_flows(history: TradingHistory) -> None:
    """Its change is explained by deposits, realised profit, fees and the change of what is not realised."""
    account = history.open("10000")
    history.buy(account, "20", "100", "23 12:00", fee="1")
    history.price("110", "23 20:00")
    assert history.summarize("24 00:05") == {"accounts_summarized": 1}
    history.sell(account, "5", "120", "24 12:00", profit="100")
    history.deposit(account, "500", "24 13:00")
    history.price("125", "24 20:00")
    history.summarize("25 00:05")

    first, second = history.summaries(account).values()
    assert (first.day, first.cash, first.market_value, first.equity) == (MONDAY, 7999, 2200, 10199)
    assert (first.unrealized_pl, first.realized_pl, first.fees, first.net_deposits) == (200, 0, 1, 10000)
    assert (first.fills, first.equity_change, first.at) == (1, None, at("24 00:05"))
    assert (second.day, second.cash, second.market_value, second.equity) == (TUESDAY, 9099, 1875, 10974)
    assert (second.unrealized_pl, second.realized_pl, second.fees, second.net_deposits) == (375, 100, 0, 500)
    assert (second.fills, second.equity_change) == (1, 775)
    unrealized = second.unrealized_pl - first.unrealized_pl
    assert second.equity_change == second.net_deposits + second.realized_pl - second.fees + unrealized


def test_a_second_run_of_a_day_corrects_it(history: TradingHistory) -> None:
    """No row is added. The change of the day after follows, although that day is not summarized again."""
    account = history.open("10000")
    history.summarize("24 00:05")
    history.buy(account, "10", "100", "24 12:00")
    history.price("110", "24 20:00")
    history.summarize("25 00:05")
    assert [row.equity_change for row in history.summaries(account).values()] == [None, 100]
    late = history.summaries(account)[TUESDAY]
    history.price("120", "25 00:06")
    history.summarize("25 00:05", now="25 00:10")
    assert history.summaries(account)[TUESDAY].equity == late.equity + 100
    history.summarize("26 00:05")
    history.price("130", "26 00:06")
    history.summarize("26 00:05", now="26 00:10")
    assert [row.equity_change for row in history.summaries(account).values()] == [None, 200, 100]


def test_the_same_run_again_changes_nothing(history: TradingHistory) -> None:
    """As after a worker was killed behind its commit."""
    account, run_id = history.open("10000"), uuid4()
    history.summarize("24 00:05", run_id=run_id)
    before = history.summaries(account)
    history.summarize("24 00:05", run_id=run_id)
    assert history.summaries(account) == before


def test_a_fill_belongs_to_its_day(history: TradingHistory) -> None:
    """One at midnight ends a day, one right after it begins the next."""
    account = history.open("10000")
    history.buy(account, "1", "100", "24 00:00")
    history.buy(account, "2", "100", "24 00:01")
    history.price("100", "24 00:02")
    history.summarize("24 00:05")
    history.summarize("25 00:05")
    assert [row.fills for row in history.summaries(account).values()] == [1, 1]


def test_a_manual_run_summarizes_today_so_far_and_the_close_corrects_it(history: TradingHistory) -> None:
    """An operator who looks at noon does not touch yesterday."""
    account = history.open("10000")
    history.summarize("24 00:05")
    history.buy(account, "10", "100", "24 09:00")
    history.price("101", "24 11:00")
    history.summarize(None, now="24 12:00")
    assert [(row.day, row.equity, row.fills) for row in history.summaries(account).values()] == [
        (MONDAY, 10000, 0),
        (TUESDAY, 10010, 1),
    ]
    history.price("99", "24 20:00")
    history.summarize("25 00:05")
    assert [(row.day, row.equity, row.fills) for row in history.summaries(account).values()] == [
        (MONDAY, 10000, 0),
        (TUESDAY, 9990, 1),
    ]


def test_a_day_that_is_summarized_after_later_closes_has_the_values_of_its_own_time(history: TradingHistory) -> None:
    """They are those of its last valuation, not the current ones."""
    account = history.open("10000")
    history.buy(account, "10", "100", "23 12:00")
    history.price("110", "23 23:50")
    update_positions(history, "23 23:50")
    history.price("500", "25 12:00")
    assert history.summarize("24 00:05", now="25 13:00") == {"accounts_summarized": 1}
    assert {day: row.equity for day, row in history.summaries(account).items()} == {MONDAY: 10100}


def update_positions(history: TradingHistory, moment: str) -> None:
    history.clock.now = at(moment)
    jobs.declared["update_positions"].run(RunContext(uuid4(), history.valuation, history.clock.now, {}))


def test_a_past_day_without_a_valuation_has_no_summary(history: TradingHistory) -> None:
    """There is no row rather than a wrong one."""
    account = history.open("10000")
    assert history.summarize("24 00:05", now="25 13:00") == {"accounts_summarized": 0}
    assert history.summaries(account) == {}


def test_an_account_has_no_summary_of_days_before_it_was_opened(history: TradingHistory) -> None:
    """Also where it was opened between the close and the run."""
    account = history.open("10000", "24 00:01")
    history.summarize("24 00:05")
    history.summarize("25 00:05")
    assert list(history.summaries(account)) == [TUESDAY]


def test_a_day_takes_as_many_statements_for_50_accounts_as_for_one(history: TradingHistory) -> None:
    """The accounts are summed up in the database, all of them in one statement."""

    def counted(slot: str) -> tuple[int, int]:
        with statements(history.valuation.engine) as seen:
            summarized = history.summarize(slot)["accounts_summarized"]
        return len(seen), summarized

    history.open("100")
    one, _ = counted("24 00:05")
    for _ in range(49):
        history.open("100")
    assert counted("25 00:05") == (one, 50)


def test_a_market_with_sessions_is_summarized_from_close_to_close(history: TradingHistory) -> None:
    """Fills after one close count for the day of the next. Without sessions there is no day to summarize."""
    history.market = "XNYS"
    account = history.open("10000")
    with pytest.raises(NoTradingDay):
        history.summarize(None, now="24 23:00")
    for day in (MONDAY, TUESDAY):
        add_session(history, day)
    history.buy(account, "1", "100", "23 20:00")
    history.buy(account, "1", "100", "23 22:00")
    history.price("100", "23 21:04")
    history.summarize("23 21:05")
    history.summarize("24 21:05")
    history.summarize(None, now="25 09:00")
    assert {day: row.fills for day, row in history.summaries(account).items()} == {MONDAY: 1, TUESDAY: 1}


def add_session(history: TradingHistory, day: date) -> None:
    opens = datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC)
    with history.marketdata.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO marketdata.market_sessions (market, day, open_at, close_at) VALUES ('XNYS', %s, %s, %s)",
            (day, opens, opens + timedelta(hours=6, minutes=30)),
        )
