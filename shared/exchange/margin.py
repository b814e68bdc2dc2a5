"""The value of an account and what it must keep: equity, buying power, initial and maintenance margin, interest.

These are the only formulas and constants for them. All money is in the account's currency. ``short_value`` is negative.
"""

from decimal import Decimal

from shared.money import ZERO, cents, cents_up

#: Reg T: the part of a new position's value that must be paid, long or short.
INITIAL_MARGIN = Decimal("0.50")
#: FINRA Rule 4210: the least equity, as a part of what is held long and short.
LONG_MAINTENANCE, SHORT_MAINTENANCE = Decimal("0.25"), Decimal("0.30")
_DAYS_OF_YEAR = 365


def equity(*, cash: Decimal, long_value: Decimal, short_value: Decimal) -> Decimal:
    """The account's worth if everything were closed at current prices."""
    return cash + long_value + short_value


def buying_power(
    *, equity: Decimal, long_value: Decimal, short_value: Decimal, reserved: Decimal, multiplier: int
) -> Decimal:
    """The value that the account may still open: a multiple of its equity, less its positions and reservations."""
    return multiplier * equity - long_value + short_value - reserved


def initial_margin(long_value: Decimal, short_value: Decimal) -> Decimal:
    """The equity that these positions would need if they were opened now, to the cent (Reg T)."""
    return cents(INITIAL_MARGIN * (long_value - short_value))


def maintenance_margin(long_value: Decimal, short_value: Decimal) -> Decimal:
    """The equity that these positions need to stay open, to the cent (FINRA Rule 4210)."""
    return cents(long_value * LONG_MAINTENANCE - short_value * SHORT_MAINTENANCE)


def daily_interest(*, cash: Decimal, short_value: Decimal, loan_rate: Decimal, borrow_rate: Decimal) -> Decimal:
    """A day's interest: ``loan_rate`` on cash that is owed, ``borrow_rate`` on shares that are short.

    Both rates are in percent a year. It is rounded up to the cent.
    """
    owed = max(-cash, ZERO)
    return cents_up((-short_value * borrow_rate + owed * loan_rate) / 100 / _DAYS_OF_YEAR)
