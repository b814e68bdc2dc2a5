"""Decimal arithmetic for money and quantities.

Cash has two decimals after rounding (a cent), prices up to nine and quantities up to nine (a fraction of a
share). Rounding happens once, where cash moves: half away from zero, as brokers round a statement line.
"""

from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
ZERO = Decimal(0)
MAX_DECIMALS = 9


def cents(amount: Decimal) -> Decimal:
    """The amount rounded to the cent, halves away from zero."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def plain(number: Decimal) -> str:
    """The number in plain notation, without exponent or trailing zeros (``1E+2`` becomes ``100``)."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
