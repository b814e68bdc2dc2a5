"""Alerts of accounts by their own rules: one event and one row each, until they recover, and beside the operator's."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from services.gateway.alerts import account_alerts
from services.valuation import actors
from shared.contracts.account_alerts import AlertRules, SetAlertRules
from tests.component.test_account_snapshots import history, run
from tests.component.trading_history import TradingHistory
from tests.component.watching import outbox, statements
from tests.support import rows

__all__ = ["history"]


def set_rules(history: TradingHistory, account: UUID, **rules: Any) -> None:
    command = SetAlertRules(account_id=account, rules=AlertRules.model_validate(rules))
    with history.valuation.unit_of_work() as uow:
        actors.set_alert_rules(command, uow)


def holder(history: TradingHistory) -> UUID:
    account = history.open("10000")
    history.buy(account, "100", "100", "23 12:00")
    history.price("100", "23 12:01")
    run(history, "snapshot_accounts", "23 12:01")
    return account


def alerts(history: TradingHistory) -> list[Any]:
    return rows(history.orders.engine, "SELECT * FROM valuation.alerts_v1 ORDER BY raised_at, kind, subject")


def events(history: TradingHistory) -> list[tuple[str, str]]:
    sent = [each for each in outbox(history.valuation) if each.name.startswith("Alert")]
    return [(each.name.split(".")[0], each.body["kind"]) for each in sent]


def test_an_alert_is_raised_once_and_again_after_a_recovery(history: TradingHistory) -> None:
    """A fall of 10 %, a small rise, a recovery, and another fall."""
    account = holder(history)
    set_rules(history, account, drawdown="0.1")
    for number, last in enumerate(("89", "88", "91", "99", "80")):
        history.price(last, f"23 12:{10 + number}")
        run(history, "snapshot_accounts", f"23 12:{10 + number}")
    raised, recovered = "AlertRaised", "AlertRecovered"
    assert events(history) == [(raised, "drawdown"), (recovered, "drawdown"), (raised, "drawdown")]
    first, second = alerts(history)
    assert (first.value, first.threshold, second.value) == (Decimal("0.11"), Decimal("0.1"), Decimal("0.2"))
    assert first.message == "The account is 11.00% below its highest value, and alerts at 10.00%"
    assert (first.recovered_at is None, second.recovered_at) == (False, None)


def test_each_kind_follows_from_the_account_s_own_figures(history: TradingHistory) -> None:
    """Another account with the same positions has no rules, and no alert."""
    account, _other = holder(history), holder(history)
    set_rules(
        history,
        account,
        profit_and_loss=[{"amount": "50"}, {"percent": "1", "window": 5}],
        concentration="0.9",
        margin="0.2",
        stale_price=60,
    )
    history.price("98", "23 12:10")
    run(history, "snapshot_accounts", "23 12:12")
    found = alerts(history)
    assert {row.account_id for row in found} == {account}
    assert {(row.kind, row.subject) for row in found} == {
        ("loss", "day"),
        ("loss", "5m"),
        ("concentration", "account"),
        ("margin", "account"),
        ("stale_price", "account"),
    }
    values = {row.kind: row.value for row in found}
    assert (values["loss"], values["concentration"], values["margin"]) == (200, 1, Decimal("0.25"))
    assert values["stale_price"] == 120


def test_a_deposit_in_the_window_is_no_gain(history: TradingHistory) -> None:
    account = holder(history)
    set_rules(history, account, profit_and_loss=[{"amount": "100", "window": 30}])
    history.deposit(account, "5000", "23 12:10")
    run(history, "snapshot_accounts", "23 12:11")
    assert alerts(history) == []


def test_rules_that_are_withdrawn_end_their_alerts(history: TradingHistory) -> None:
    account = holder(history)
    set_rules(history, account, concentration="0.5")
    run(history, "update_positions", "23 12:10")
    set_rules(history, account)
    run(history, "update_positions", "23 12:11")
    assert [row.recovered_at is None for row in alerts(history)] == [False]


def test_the_gateway_shows_open_alerts_of_accounts(history: TradingHistory) -> None:
    """With the account in its text, for the notifier. A recovered one is gone."""
    account = holder(history)
    set_rules(history, account, concentration="0.5", margin="0.99")
    run(history, "snapshot_accounts", "23 12:10")
    with history.orders.engine.connect() as connection:
        (shown,) = account_alerts.standing(connection)
    assert (shown.kind, shown.subject, shown.severity) == ("account_concentration", f"{account} account", "warning")
    assert "AAPL is 100.00% of the equity" in shown.message
    set_rules(history, account)
    run(history, "snapshot_accounts", "23 12:11")
    with history.orders.engine.connect() as connection:
        assert account_alerts.standing(connection) == []


def test_judging_takes_as_many_statements_for_ten_accounts_as_for_one(history: TradingHistory) -> None:
    counts = []
    for number in (1, 9):
        for _ in range(number):
            set_rules(history, holder(history), concentration="0.5", profit_and_loss=[{"amount": "1"}])
        with statements(history.valuation.engine) as seen:
            run(history, "snapshot_accounts", f"23 13:0{number}")
        counts.append(len(seen))
    assert counts[0] == counts[1]
    assert len(alerts(history)) == 10
