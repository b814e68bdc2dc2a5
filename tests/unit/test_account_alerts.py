"""Alerts of an account: raised at the threshold, once, and again only after a recovery."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from services.valuation.domain.alerts import Change, Facts, Verdict, judge
from shared.contracts.account_alerts import AlertRules

CALM: dict[str, Any] = {
    "account_id": UUID(int=1),
    "equity": Decimal(10_000),
    "drawdown": Decimal(0),
    "maintenance_margin": Decimal(0),
    "largest_symbol": None,
    "largest_value": Decimal(0),
    "stale_symbol": None,
    "stale_for": Decimal(0),
}


def judged(rules: dict[str, Any], open_alerts: dict[tuple[str, str], Decimal] | None = None, **facts: Any) -> Verdict:
    return judge(AlertRules.model_validate(rules), Facts(**{**CALM, **facts}), open_alerts or {})


@pytest.mark.parametrize(
    ("rules", "facts", "kind"),
    [
        ({"drawdown": "0.1"}, {"drawdown": Decimal("-0.1")}, "drawdown"),
        ({"concentration": "0.5"}, {"largest_symbol": "AAPL", "largest_value": Decimal(5000)}, "concentration"),
        ({"margin": "0.8"}, {"maintenance_margin": Decimal(8000)}, "margin"),
        ({"margin": "0.8"}, {"maintenance_margin": Decimal(1), "equity": Decimal(0)}, "margin"),
        ({"stale_price": 60}, {"stale_symbol": "AAPL", "stale_for": Decimal("60.7")}, "stale_price"),
        ({"profit_and_loss": [{"amount": "100"}]}, {"changes": {"day": Change(Decimal(-100), Decimal(1))}}, "loss"),
        (
            {"profit_and_loss": [{"percent": "2", "window": 60}]},
            {"changes": {"60m": Change(Decimal(200), Decimal(10_000))}},
            "gain",
        ),
    ],
)
def test_a_figure_at_its_threshold_raises_an_alert(rules: dict[str, Any], facts: dict[str, Any], kind: str) -> None:
    (raised,) = judged(rules, **facts).raised
    assert (raised.kind, raised.value >= raised.threshold) == (kind, True)
    assert judged(rules).raised == []


def test_the_lower_of_amount_and_percent_counts() -> None:
    rules = {"profit_and_loss": [{"amount": "500", "percent": "1"}]}
    (raised,) = judged(rules, changes={"day": Change(Decimal(-100), Decimal(10_000))}).raised
    assert (raised.threshold, raised.subject) == (Decimal(100), "day")


def test_an_open_alert_is_not_raised_again_and_recovers_with_hysteresis() -> None:
    """Between 8 % and 10 % it stays as it is."""
    known = {("drawdown", "account"): Decimal("0.12")}
    for fall in ("-0.12", "-0.1", "-0.09", "-0.08"):
        verdict = judged({"drawdown": "0.1"}, known, drawdown=Decimal(fall))
        assert (verdict.raised, verdict.recovered) == ([], {})
    recovered = judged({"drawdown": "0.1"}, known, drawdown=Decimal("-0.0799")).recovered
    assert recovered == {("drawdown", "account"): Decimal("0.0799")}


def test_an_alert_whose_rule_or_position_is_gone_ends() -> None:
    known = {("concentration", "account"): Decimal("0.6")}
    assert judged({}, known).recovered == known
    assert judged({"concentration": "0.5"}, known).recovered == known


def test_a_gain_that_becomes_a_loss_ends_one_alert_and_raises_another() -> None:
    rules = {"profit_and_loss": [{"amount": "100"}]}
    changes = {"day": Change(Decimal(-150), Decimal(10_000))}
    verdict = judged(rules, {("gain", "day"): Decimal(120)}, changes=changes)
    assert [each.kind for each in verdict.raised] == ["loss"]
    assert verdict.recovered == {("gain", "day"): 0}


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"profit_and_loss": [{}]}, "profit_and_loss"),
        ({"profit_and_loss": [{"amount": "1"}, {"percent": "1"}]}, "profit_and_loss"),
        ({"profit_and_loss": [{"amount": "1", "window": n + 1} for n in range(6)]}, "profit_and_loss"),
        ({"drawdown": "1.1"}, "drawdown"),
        ({"drawdown": 0.1}, "drawdown"),
        ({"recovery": "1"}, "recovery"),
        ({"stale_price": 1}, "stale_price"),
        ({"draw_down": "0.1"}, "draw_down"),
    ],
)
def test_wrong_rules_are_refused_by_name(rules: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        AlertRules.model_validate(rules)
