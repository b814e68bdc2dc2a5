"""Decimal arithmetic for money and quantities.

Cash has two decimals after rounding (a cent), prices up to nine and quantities up to nine (a fraction of a
share). Cash that a trader pays is rounded up and cash that a trader gets is rounded down, so that no sequence of trades
gains by rounding. A value that moves no cash is rounded half away from zero, as brokers round a statement line.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
ZERO = Decimal(0)
MAX_DECIMALS = 9


def cents(amount: Decimal) -> Decimal:
    """The amount rounded to the cent, halves away from zero."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def cents_up(amount: Decimal) -> Decimal:
    """The amount rounded up to the cent, as a trader pays it."""
    return amount.quantize(CENT, rounding=ROUND_CEILING)


def cents_down(amount: Decimal) -> Decimal:
    """The amount rounded down to the cent, as a trader gets it. A negative amount, which is owed, grows."""
    return amount.quantize(CENT, rounding=ROUND_FLOOR)


def plain(number: Decimal) -> str:
    """The number in plain notation, without exponent or trailing zeros (``1E+2`` becomes ``100``)."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
