"""Numbers of JSON as decimals."""

import math
import struct
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from shared.money import MAX_DECIMALS

#: The largest number of digits that tells two floats of 32 bits apart.
_FLOAT32_DIGITS = 9
#: A number beyond this has lost its point.
_MOST = Decimal(10) ** 15
_SMALLEST = Decimal(1).scaleb(-MAX_DECIMALS)


def decimal_of(value: object) -> Decimal | None:
    """The number as it was written, to nine decimals. None for NaN, a word, or a number beyond all prices.

    A price of 71.27000000000001 is one of 71.27 that went through a sum of floats.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number) >= _MOST:
        return None
    if isinstance(value, int) or _decimals(number) <= MAX_DECIMALS:
        return number
    return number.quantize(_SMALLEST).normalize()


def positive(value: object) -> Decimal | None:
    """The number, or None where it is not above zero: providers write 0 for a side that nobody quotes."""
    number = shortest(value)
    return number if number is not None and number > 0 else None


def shortest(value: object) -> Decimal | None:
    """The number, with the digits of a 32-bit float where it is one: 142.24000549316406 was 142.24."""
    if isinstance(value, float) and math.isfinite(value) and abs(value) < _MOST:
        return _shortest(value)
    return decimal_of(value)


@lru_cache(maxsize=65_536)
def _shortest(value: float) -> Decimal | None:
    """Cached, because a stream repeats the same prices and sizes by the thousand."""
    narrow = struct.pack("f", value)
    if struct.unpack("f", narrow)[0] == value:
        for digits in range(6, _FLOAT32_DIGITS + 1):
            written = f"{value:.{digits}g}"
            if struct.pack("f", float(written)) == narrow:
                return decimal_of(written)
    return decimal_of(value)


def time_of(seconds: object) -> datetime | None:
    """The moment of so many seconds since 1970. None where it is no time of a price."""
    number = positive(seconds)
    if number is None or number >= 10**11:
        return None
    return datetime.fromtimestamp(float(number), UTC)


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0
