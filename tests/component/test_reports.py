"""The jobs of reports: each finished report is made once, by the clock of the account's market, and sent once."""

from base64 import b64decode
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.gateway.alerts.account_reports import announce
from services.gateway.reports import queries
from services.gateway.reports.schemas import ReportQuery
from services.valuation import reports
from services.valuation.jobs import jobs
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.accounts import CLOSED
from shared.jobs.run_context import RunContext
from shared.reports.periods import PeriodKind
from shared.reports.report import make_report
from tests.component.test_account_alerts import set_rules
from tests.component.test_account_snapshots import history, run
from tests.component.trading_history import TradingHistory, at
from tests.component.webhook import Webhook, notifier_to
from tests.support import rows, value

__all__ = ["history"]

_MARKET = "UPDATE orders.accounts SET settings = settings || %s WHERE id = %s"
_SESSION = "INSERT INTO marketdata.market_sessions (market, open_at, close_at, day) VALUES ('XNYS', %s, %s, %s)"
_CURRENCY = "UPDATE orders.accounts SET currency = 'EUR' WHERE id = %s"


class Killed(BaseException):
    """The process dies."""


def traded(history: TradingHistory) -> UUID:
    """An account that buys at 100 on Monday the 23rd, and is worth 5 a share more in the evening."""
    account = history.open("10000")
    history.buy(account, "50", "100", "23 12:00")
    history.price("105", "23 20:00")
    run(history, "update_positions", "23 23:50")
    return account


def made(history: TradingHistory) -> list[Any]:
    sql = "SELECT * FROM valuation.reports_v1 ORDER BY made_at, day, account_id"
    return rows(history.orders.engine, sql)


def shown(history: TradingHistory, account: UUID, now: str, **query: Any) -> Any:
    with history.orders.engine.connect() as connection:
        return queries.report(connection, account, ReportQuery.model_validate(query), at(now))


def test_a_finished_day_has_one_report_however_often_the_job_runs(history: TradingHistory) -> None:
    """Its figures are those of the day, of which the gateway shows the same."""
    account = traded(history)
    for moment in ("23 23:59", "24 00:10", "24 01:10"):
        run(history, "report_days", moment)
    (row,) = made(history)
    assert (row.account_id, row.period, row.day, row.made_at) == (account, "daily", date(2026, 11, 23), at("24 00:10"))
    content = row.content
    assert (content["begin_equity"], content["end_equity"], content["profit"]) == ("10000", "10250", "250")
    assert content["figures"]["time_weighted_return"] == pytest.approx(0.025)
    assert [each["symbol"] for each in content["allocation"]] == ["AAPL", None]
    assert row.summary.startswith("Daily report, 23 November 2026. Account test (")
    assert "was worth 10,250.00 USD, a profit of 250.00 USD (2.50 %), with 0 completed orders." in row.summary
    assert shown(history, account, "25 12:00", **{"from": "2026-11-23"}) == content


def test_a_run_that_dies_leaves_its_reports_and_the_next_one_makes_the_rest(
    history: TradingHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        traded(history)
    make, count = make_report, 0

    def dying(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise Killed
        return make(*given)

    monkeypatch.setattr(reports, "make_report", dying)
    with pytest.raises(Killed):
        run(history, "report_days", "24 00:10")
    (first,) = made(history)
    assert run(history, "report_days", "24 00:20") == {"reports_made": 2, "reports_to_send": 0}
    found = made(history)
    assert (len({each.account_id for each in found}), found[0]) == (3, first)


def test_two_runs_at_a_time_make_one_report(history: TradingHistory) -> None:
    """The one that comes second finds the row."""
    account = traded(history)
    run(history, "report_days", "24 00:10")
    ((_, period), *_) = [each for each in due(history, "24 00:11") if each[1].last == date(2026, 11, 23)]
    with history.valuation.unit_of_work() as uow:
        assert reports._make(uow, uuid4(), account, period) is None
    assert len(made(history)) == 1


def due(history: TradingHistory, now: str) -> list[Any]:
    with history.valuation.engine.connect() as connection:
        return list(reports._due(connection, PeriodKind.DAILY, at(now)))


def test_a_late_fill_corrects_what_is_shown_and_not_what_was_made(history: TradingHistory) -> None:
    """A sale of Monday that is booked on Tuesday: the report of Monday says that it was corrected."""
    account = traded(history)
    run(history, "report_days", "24 00:10")
    history.sell(account, "10", "104", "23 15:00", "40")
    found = shown(history, account, "24 12:00", **{"from": "2026-11-23"})
    assert (found["corrected"], found["figures"]["trades"], found["figures"]["realized_pl"]) == (True, 1, "40")
    (row,) = made(history)
    assert row.content["figures"]["trades"] == 0
    other = shown(history, account, "24 12:00", **{"from": "2026-11-24"})
    assert (other["corrected"], other["finished"], other["figures"]["trades"]) == (False, False, 0)


def test_days_missed_in_an_outage_are_made_up_for(history: TradingHistory) -> None:
    account = traded(history)
    for day in ("24", "25", "26"):
        run(history, "update_positions", f"{day} 20:00")
    assert run(history, "report_days", "27 09:00")["reports_made"] == 4
    assert [each.day.day for each in made(history)] == [23, 24, 25, 26]
    history.deposit(account, "1000", "27 10:00")
    run(history, "update_positions", "27 20:00")
    run(history, "report_days", "28 00:10")
    content = made(history)[-1].content
    assert (content["net_deposits"], content["profit"]) == ("1000", "0")
    assert content["figures"]["time_weighted_return"] == 0


def test_weeks_and_months_end_by_the_calendar(history: TradingHistory) -> None:
    traded(history)
    run(history, "report_weeks", "29 23:15")
    run(history, "report_months", "30 23:20")
    assert made(history) == []
    run(history, "report_weeks", "30 00:15")
    history.clock.now = at("30 23:59")
    jobs.declared["report_months"].run(december(history))
    found = {each.period: each for each in made(history)}
    assert (found["weekly"].day, found["monthly"].day) == (date(2026, 11, 29), date(2026, 11, 30))
    assert found["weekly"].summary.startswith("Weekly report, 23 to 29 November 2026.")
    assert found["monthly"].summary.startswith("Monthly report, November 2026.")


def december(history: TradingHistory) -> RunContext:
    history.clock.now = at("30 23:00").replace(month=12, day=1)
    return RunContext(uuid4(), history.valuation, history.clock.now, {})


def test_a_day_ends_by_the_clock_of_the_account_s_market(history: TradingHistory) -> None:
    """Of an account of New York at five in the morning UTC. Its Saturday belongs to Monday."""
    account = history.open("10000", "27 15:00")
    with history.orders.engine.begin() as connection:
        connection.exec_driver_sql(_MARKET, ('{"market": "XNYS"}', account))
    with history.marketdata.engine.begin() as connection:
        for day in ("25", "27", "30"):
            connection.exec_driver_sql(_SESSION, (at(f"{day} 14:30"), at(f"{day} 21:00"), date(2026, 11, int(day))))
    run(history, "report_days", "28 04:50")
    assert made(history) == []
    run(history, "report_days", "28 05:10")
    (row,) = made(history)
    assert (row.day, row.begin_at) == (date(2026, 11, 27), at("26 05:00"))
    assert row.content["time_zone"] == "America/New_York"
    monday = shown(history, account, "30 20:00")
    assert (monday["first_day"], monday["last_day"]) == ("2026-11-28", "2026-11-30")


def test_amounts_of_an_account_in_another_currency_carry_it(history: TradingHistory) -> None:
    account = history.open("10000")
    with history.orders.engine.begin() as connection:
        connection.exec_driver_sql(_CURRENCY, (account,))
    run(history, "update_positions", "23 23:50")
    run(history, "report_days", "24 00:10")
    (row,) = made(history)
    assert (row.content["currency"], "10,000.00 EUR" in row.summary) == ("EUR", True)


def test_a_report_that_is_wanted_is_sent_once(history: TradingHistory, gateway: ServiceContext, hook: Webhook) -> None:
    """Whatever the number of evaluations. That of an account that asked for none is not sent, and no alert stands."""
    account, _other = traded(history), traded(history)
    set_rules(history, account, reports=["daily"])
    assert run(history, "report_days", "24 00:10") == {"reports_made": 2, "reports_to_send": 1}
    for expected in (1, 0):
        with gateway.engine.begin() as connection:
            assert announce(connection, gateway.clock()) == expected
    notifier = notifier_to(gateway, hook)
    assert (notifier.send(), notifier.send()) == (1, 0)
    (message,) = hook.taken
    assert message["title"] == "PaperProfit: Daily report, 23 November 2026"
    assert f"/api/accounts/{account}/report?period=daily&from=2026-11-23" in message["message"]
    (attached,) = message["attachments"]
    assert (attached["mimetype"], message["type"]) == ("text/html", "info")
    assert "10,250.00 USD" in b64decode(attached["base64"]).decode()
    assert value(gateway.engine, "SELECT count(*) FROM jobs.notifications WHERE resolved_at IS NULL") == 0


def test_an_account_that_is_closed_or_has_no_money_yet_disturbs_nobody(history: TradingHistory) -> None:
    """The closed one has no report, and the one without a value has one that says so."""
    closed, empty = traded(history), history.open("0", "23 09:00")
    with history.orders.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE orders.accounts SET status = %s WHERE id = %s", (CLOSED, closed))
    run(history, "report_days", "24 00:10")
    (row,) = made(history)
    assert (row.account_id, row.content["end_equity"]) == (empty, "0")
