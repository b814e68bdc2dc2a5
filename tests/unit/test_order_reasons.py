"""The reasons of an order in sentences."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from services.gateway.strategies.why import sentences

AT = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def told(values: dict[str, Any], position: Decimal = Decimal(5)) -> str:
    decision = {
        "name": "dip", "kind": "rules", "version": 2, "action": "exit", "symbol": "IBM", "at": AT, "reason": "It fell.",
        "bar_at": AT, "close": Decimal("104.44"), "last": None, "conditions": [["close < sma", True, values]],
        "position": position, "equity": None, "side": "sell", "qty": Decimal(5), "cuts": [],
    }  # fmt: skip
    order = {
        "decision": decision, "leg": None, "status": "accepted", "reject_message": None, "filled_qty": Decimal(0),
        "cancel_reason": None,
    }  # fmt: skip
    return " ".join(sentences(order))


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("108.32999999999997", "108.33"),
        (35.850749999999984, "35.85075"),
        ("64000.1234567", "64000.1234567"),
        ("0.000000001", "0.000000001"),
        (None, "not known"),
        (True, "True"),
        ("open", "open"),
    ],
)
def test_a_condition_tells_its_values_without_the_error_of_their_arithmetic(value: object, seen: str) -> None:
    assert f"Condition: close < sma: yes, sma was {seen}. " in told({"sma": value})


def test_one_share_is_no_shares() -> None:
    assert "The strategy held 1 share. " in told({}, Decimal(1))
    assert "The strategy held 0.5 shares. " in told({}, Decimal("0.5"))
