"""The reasons of an order in sentences, and the values in them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.gateway.strategies.why import sentences
from services.strategy.persistence.decisions import written

AT = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def told(position: Decimal, values: dict[str, Any]) -> str:
    decision = {
        "name": "dip", "kind": "rules", "version": 2, "action": "exit", "symbol": "IBM", "at": AT, "reason": "It fell.",
        "bar_at": AT, "close": Decimal("104.44"), "last": None, "conditions": [["close < sma", True, values]],
        "position": position, "equity": None, "side": "sell", "qty": Decimal(5), "cuts": [],
    }  # fmt: skip
    order = {
        "decision": decision, "leg": None, "replaces": None, "replaced_by": None, "status": "accepted",
        "reject_message": None, "filled_qty": Decimal(0), "cancel_reason": None,
    }  # fmt: skip
    return " ".join(sentences(order))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Decimal("108.32999999999997"), "108.33"),
        (35.850749999999984, "35.85075"),
        (Decimal("64000.123456789"), "64000.123456789"),
        (Decimal("100.50"), "100.50"),
        (Decimal("NaN"), "NaN"),
        (None, None),
        ("open", "open"),
    ],
)
def test_a_decision_keeps_its_values_without_the_error_of_their_arithmetic(
    value: Decimal | float | str | None, stored: str | None
) -> None:
    assert written(value) == stored


def test_a_condition_tells_what_was_not_known() -> None:
    assert "Condition: close < sma: yes, close was 104.44, sma was not known. " in told(
        Decimal(5), {"close": "104.44", "sma": None}
    )


def test_one_share_is_no_shares() -> None:
    assert "The strategy held 1 share. " in told(Decimal(1), {})
    assert "The strategy held 0.5 shares. " in told(Decimal("0.5"), {})
