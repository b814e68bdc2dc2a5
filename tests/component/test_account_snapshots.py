"""Summaries of accounts: deposits apart from returns, the day, growth and drawdown, and their thinning by age."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.marketdata.service import prepare
from services.valuation.jobs import jobs
from services.valuation.thinning import SUMMARIES
from shared.jobs.maintenance import remove
from shared.jobs.run_context import RunContext
from shared.performance import Flow, grown, period_returns
from tests.component.trading_history import TradingHistory, at
from tests.component.watching import context_of, statements
from tests.conftest import FakeClock
from tests.support import rows

_RESET = """
UPDATE orders.accounts SET cash = 5000, generation = 2, generation_at = %(at)s WHERE id = %(id)s;
"""
_ADD_SECOND_DEPOSIT = """
INSERT INTO orders.ledger (account_id, at, kind, reference, cash, capital, generation)
VALUES (%(id)s, %(at)s, 'deposit', gen_random_uuid(), 5000, 5000, 2)
"""
_ADD_SUMMARY = """
INSERT INTO valuation.account_summaries (account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions)
SELECT %(id)s, gen_random_uuid(), %(first)s + n * %(step)s, 0, 0, n, 0, 0 FROM generate_series(0, %(number)s - 1) n
"""


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


def run(history: TradingHistory, job: str, moment: str) -> Any:
    history.clock.now = at(moment)
    return jobs.declared[job].run(RunContext(uuid4(), history.valuation, history.clock.now, {}))


def last(history: TradingHistory, account: UUID) -> Any:
    sql = "SELECT * FROM valuation.account_summaries_v1 WHERE account_id = :a ORDER BY at DESC LIMIT 1"
    return rows(history.orders.engine, sql, a=account)[0]


def test_a_deposit_is_no_return_and_no_drawdown(history: TradingHistory) -> None:
    """10,000 grow by 10 %, 5,000 come, and all of it falls by 10 % of what is held: as the pure figures say."""
    account = history.open("10000")
    history.buy(account, "100", "100", "23 12:00")
    history.price("100", "23 12:01")
    run(history, "snapshot_accounts", "23 12:02")
    history.price("110", "23 13:00")
    run(history, "snapshot_accounts", "23 13:01")
    assert (last(history, account).growth, last(history, account).drawdown) == (Decimal("1.1"), 0)
    history.deposit(account, "5000", "23 14:00")
    run(history, "snapshot_accounts", "23 14:01")
    found = last(history, account)
    assert (found.equity, found.net_deposits, found.growth, found.drawdown) == (16000, 15000, Decimal("1.1"), 0)
    history.price("94", "23 15:00")
    run(history, "snapshot_accounts", "23 15:01")
    found = last(history, account)
    assert (found.growth, found.high_water, found.peak_equity) == (Decimal("0.99"), 16000, 16000)
    assert round(found.drawdown, 9) == Decimal("-0.1")
    assert found.day_pl == -600
    points = rows(history.orders.engine, "SELECT at, equity FROM valuation.account_summaries_v1 ORDER BY at")
    flows = [Flow(at("23 14:00"), Decimal(5000))]
    assert float(found.growth) == pytest.approx(grown(period_returns([tuple(each) for each in points], flows)))


def test_the_day_is_measured_from_the_close_before(history: TradingHistory) -> None:
    """Of two days the second one counts its own profit only. Its withdrawal is no loss."""
    account = history.open("10000")
    history.buy(account, "100", "100", "23 12:00")
    history.price("105", "23 20:00")
    history.summarize("24 00:05")
    history.deposit(account, "-1000", "24 10:00")
    history.price("104", "24 11:00")
    run(history, "snapshot_accounts", "24 12:00")
    assert (last(history, account).equity, last(history, account).day_pl) == (9400, -100)


def test_a_reset_begins_anew(history: TradingHistory) -> None:
    """The growth, the peaks and the deposits of the generation before do not count."""
    account = history.open("10000")
    history.buy(account, "100", "100", "23 12:00")
    history.price("150", "23 12:01")
    run(history, "snapshot_accounts", "23 12:02")
    with history.orders.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM orders.positions")
        for sql in (_RESET, _ADD_SECOND_DEPOSIT):
            connection.exec_driver_sql(sql, {"id": account, "at": at("23 13:00")})
    run(history, "snapshot_accounts", "23 13:01")
    found = last(history, account)
    assert (found.generation, found.equity, found.net_deposits) == (2, 5000, 5000)
    assert (found.growth, found.drawdown, found.peak_equity, found.day_pl) == (1, 0, 5000, 0)


def test_a_position_has_its_day_its_realized_profit_and_the_age_of_its_price(history: TradingHistory) -> None:
    """Ten shares of yesterday and five of today: the first since the close, the others since they were bought."""
    account = history.open("10000")
    history.buy(account, "20", "100", "23 12:00")
    history.sell(account, "10", "103", "23 13:00", "30")
    history.price("105", "23 20:00")
    history.buy(account, "5", "106", "24 10:00")
    with history.orders.engine.begin() as connection:
        for qty, cost, moment in ((10, 1000, "23 12:00"), (5, 530, "24 10:00")):
            given = {"a": account, "q": qty, "c": cost, "at": at(moment)}
            connection.exec_driver_sql(_ADD_LOT, given)
    history.price("107", "24 11:00")
    run(history, "update_positions", "24 11:01")
    sql = "SELECT * FROM valuation.position_values_v1 ORDER BY at"
    (found,) = rows(history.orders.engine, sql)
    assert (found.qty, found.market_value, found.realized_pl, found.stale) == (15, 1605, 30, False)
    assert found.day_pl == 10 * (107 - 105) + 5 * (107 - 106)
    run(history, "update_positions", "24 11:04")
    assert [row.stale for row in rows(history.orders.engine, sql)] == [False, True]
    assert last(history, account).stale_positions == 1


_ADD_LOT = """
INSERT INTO orders.lots (account_id, symbol, fill_id, opened_at, qty, cost)
VALUES (%(a)s, 'AAPL', gen_random_uuid(), %(at)s, %(q)s, %(c)s)
"""


def test_the_price_of_a_closed_market_does_not_grow_stale(history: TradingHistory) -> None:
    """The time of a night does not count. After two minutes of the next session it does."""
    with history.marketdata.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS' WHERE symbol = 'AAPL'")
        for day in (23, 24):
            opens = at(f"{day} 14:30")
            connection.exec_driver_sql(
                "INSERT INTO marketdata.market_sessions (market, day, open_at, close_at) VALUES ('XNYS', %s, %s, %s)",
                (opens.date(), opens, opens + timedelta(hours=6, minutes=30)),
            )
    account = history.open("10000")
    history.buy(account, "10", "100", "23 15:00")
    history.price("100", "23 20:59")
    for moment, stale in (("24 03:00", 0), ("24 14:31", 0), ("24 14:33", 1)):
        run(history, "snapshot_accounts", moment)
        assert last(history, account).stale_positions == stale


def test_a_snapshot_takes_as_many_statements_for_30_accounts_as_for_one(history: TradingHistory) -> None:
    counts = []
    for number in (1, 29):
        for _ in range(number):
            history.open("100")
        with statements(history.valuation.engine) as seen:
            run(history, "update_positions", f"23 12:{number:02}")
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_summaries_are_thinned_by_their_age(history: TradingHistory) -> None:
    """Each minute for two days, then one in five minutes, one in an hour and one in a day, the last of each."""
    account = history.open("100")
    now = history.clock.now = at("22 12:00")
    with history.valuation.engine.begin() as connection:
        for age, step, number in (
            (timedelta(days=1), timedelta(minutes=1), 60),
            (timedelta(days=3), timedelta(minutes=1), 60),
            (timedelta(days=40), timedelta(minutes=5), 60),
            (timedelta(days=400), timedelta(hours=1), 60),
        ):
            connection.exec_driver_sql(
                _ADD_SUMMARY, {"id": account, "first": now - age, "step": step, "number": number}
            )
    remove(history.valuation, SUMMARIES)
    kept = rows(history.valuation.engine, "SELECT at, equity FROM valuation.account_summaries ORDER BY at")
    ages = [(now - row.at) / timedelta(days=1) for row in kept]
    assert [sum(low < age <= low + 1 for age in ages) for low in (0, 2, 39)] == [60, 12, 5]
    days = [row for row in kept if now - row.at > timedelta(days=300)]
    assert [row.equity for row in days] == [11, 35, 59]
    assert remove(history.valuation, SUMMARIES) == {"account_summaries_removed": 0}
