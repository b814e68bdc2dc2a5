"""The ledger: every entry balances, so cash, positions and P&L are the sums of its columns."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.exchange.ledger import Entry, Kind, transfer
from shared.money import CENT
from tests.unit.trading_examples import ACCEPTED, ACCOUNT

ABOUT = UUID(int=7)


def entry(**columns: str) -> Entry:
    numbers: dict[str, Any] = {name: Decimal(value) for name, value in columns.items()}
    return Entry(ACCOUNT, 1, Kind.FILL, ACCEPTED, ABOUT, **numbers)


@pytest.mark.parametrize(("amount", "kind"), [("100.50", Kind.DEPOSIT), ("-100.50", Kind.WITHDRAWAL)])
def test_a_transfer_moves_cash_and_capital(amount: str, kind: Kind) -> None:
    """A deposit belongs to the owner and is no profit."""
    moved = transfer(ACCOUNT, 3, ACCEPTED, ABOUT, Decimal(amount))
    assert (moved.kind, moved.cash, moved.capital, moved.generation, moved.reference) == (
        kind,
        Decimal(amount),
        Decimal(amount),
        3,
        ABOUT,
    )
    assert moved.balances


@pytest.mark.parametrize(
    "columns",
    [
        {"cash": "-1001", "cost": "1000", "fee": "1"},  # bought, with a fee
        {"cash": "1099", "cost": "-1000", "fee": "1", "realized": "100"},  # sold with a profit
        {"cash": "900", "cost": "-1000", "realized": "-100"},  # sold with a loss
        {"cash": "1000", "cost": "-1000"},  # sold short
        {"cash": "-900", "cost": "1000", "realized": "100"},  # and bought back
        {"cash": "5", "dividend": "5"},
        {"cash": "-2", "interest": "2"},
    ],
)
def test_every_kind_of_entry_balances(columns: dict[str, str]) -> None:
    """Cash, cost, fees and interest equal profit, dividends and capital. One cent unbalances an entry."""
    assert entry(**columns).balances
    assert not entry(**{**columns, "cash": str(Decimal(columns["cash"]) + CENT)}).balances
