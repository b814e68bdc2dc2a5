"""What a margin account owes: a part of its positions' value in equity, and interest on what is lent to it."""

from decimal import Decimal

from shared.exchange.order import Account
from shared.money import ZERO, cents

#: The least equity, as a part of what is held long and short.
LONG_MAINTENANCE, SHORT_MAINTENANCE = Decimal("0.25"), Decimal("0.30")
_DAYS_OF_YEAR = 365


def maintenance(account: Account) -> Decimal:
    """The least equity that the account must have for what it holds; nothing where all of it is paid for.

    What counts is what was borrowed, whatever the account may borrow now.
    """
    if account.cash >= 0 and not account.short_value:
        return ZERO
    return cents(account.long_value * LONG_MAINTENANCE - account.short_value * SHORT_MAINTENANCE)


def daily_interest(account: Account) -> Decimal:
    """A day's interest on the shares that it has borrowed and on the cash that it owes."""
    borrowed = -account.short_value * account.settings.borrow_rate
    lent = max(-account.cash, ZERO) * account.settings.loan_rate
    return cents((borrowed + lent) / 100 / _DAYS_OF_YEAR)
