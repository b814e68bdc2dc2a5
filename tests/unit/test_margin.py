"""Equity, buying power, margin and interest, by hand-worked figures."""

from decimal import Decimal
from uuid import UUID

import pytest

from shared.contracts.accounts import AccountSettings
from shared.exchange import margin
from shared.exchange.order import Account


def account(
    cash: str, long_value: str = "0", short_value: str = "0", reserved: str = "0", **settings: object
) -> Account:
    return Account(
        UUID(int=1),
        Decimal(cash),
        Decimal(reserved),
        1,
        long_value=Decimal(long_value),
        short_value=Decimal(short_value),
        settings=AccountSettings.model_validate(settings),
    )


@pytest.mark.parametrize(
    ("multiplier", "power"),
    [(1, "2500"), (2, "10000"), (4, "25000")],
)
def test_buying_power_is_a_multiple_of_equity_less_positions_and_reservations(multiplier: int, power: str) -> None:
    """Equity is 6,000 + 3,000 - 1,500 = 7,500. Positions and reservations use 3,000 + 1,500 + 500 = 5,000 of it."""
    owner = account("6000", "3000", "-1500", reserved="500", multiplier=multiplier)
    assert owner.equity == Decimal(7500)
    assert owner.buying_power == Decimal(power)


def test_half_of_what_is_held_is_initial_margin() -> None:
    """Reg T: 50 % of 8,000 held long and of 4,000 sold short."""
    assert margin.initial_margin(Decimal(8000), Decimal(-4000)) == Decimal(6000)


def test_maintenance_is_a_quarter_of_long_and_three_tenths_of_short_value() -> None:
    """FINRA Rule 4210: 25 % of 7,600 and 30 % of 4,000."""
    assert margin.maintenance_margin(Decimal(7600), Decimal(-4000)) == Decimal(3100)


@pytest.mark.parametrize(
    ("owner", "required"),
    [
        (account("0.00", "10000", multiplier=4), "0"),
        (account("-0.01", "10000", multiplier=4), "2500"),
        (account("-5000", "10000"), "2500"),
        (account("15000", "0", "-10000", shorting=True), "3000"),
    ],
    ids=["paid for", "owes a cent", "borrowed under older settings", "short"],
)
def test_an_account_that_borrowed_nothing_has_no_maintenance_margin(owner: Account, required: str) -> None:
    assert owner.maintenance_margin == Decimal(required)


def test_a_day_s_interest_is_a_365th_of_a_year_s_rounded_to_the_cent() -> None:
    """3.65 % a year on 10,000 owed is 1.00 a day. 7.3 % on 5,000 of borrowed shares is 1.00 too."""
    owner = account("-10000", "20000", "-5000", loan_rate="3.65", borrow_rate="7.3")
    assert owner.daily_interest == Decimal("2.00")


def test_cash_of_one_s_own_bears_no_interest() -> None:
    assert account("10000", "0", loan_rate="10", borrow_rate="10").daily_interest == 0
