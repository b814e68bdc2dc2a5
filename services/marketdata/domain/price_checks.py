"""The checks that every price passes before it is stored, whichever provider it came from.

A refused price changes nothing: the last good one stays, and grows old.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum

from services.marketdata.domain import replay, simulated
from services.marketdata.domain.quote import Quote
from shared.contracts.prices import AHEAD, latest
from shared.money import MAX_DECIMALS, ZERO, plain

#: Any real price is lower. A larger number is a mistake of the feed.
LARGEST_PRICE = Decimal(10) ** 12
LARGEST_SIZE = Decimal(10) ** 18
_SMALLEST_STEP = Decimal(1).scaleb(-MAX_DECIMALS)
#: The usual largest jump, as a share of the price before.
MOST_JUMP = Decimal("0.5")
#: Prices of these providers are no market's, so the next provider's may be far from them.
_MADE_UP = {replay.NAME, simulated.NAME}


class PriceFault(StrEnum):
    """The reason for which a price is refused."""

    #: It cannot be read. The sender's own checks find these.
    INVALID = "invalid"
    UNKNOWN_SYMBOL = "unknown_symbol"
    NO_LAST = "no_last"
    NOT_FINITE = "not_finite"
    NOT_POSITIVE = "not_positive"
    TOO_LARGE = "too_large"
    DECIMALS = "decimals"
    SIZE = "size"
    CROSSED = "crossed"
    BAR = "bar"
    TIME = "time"
    AHEAD = "ahead"
    OLDER = "older"
    HALTED = "halted"
    CURRENCY = "currency"
    JUMP = "jump"
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused price: the reason, and a sentence that says what is wrong."""

    fault: PriceFault
    message: str


@dataclass(frozen=True, slots=True)
class Known:
    """An instrument as it is before a price. Times and the last price are None before the first one."""

    currency: str
    split_count: int = 0
    quoted_at: datetime | None = None
    last: Decimal | None = None
    provider: str | None = None
    halted_at: datetime | None = None
    resumed_at: datetime | None = None

    def after(self, quote: Quote) -> "Known":
        """The instrument with this price."""
        return Known(
            self.currency,
            self.split_count,
            quote.quoted_at,
            quote.last,
            quote.provider,
            self.halted_at,
            self.resumed_at,
        )


def refuse(quote: Quote, known: Known | None, now: datetime, *, most_jump: Decimal = MOST_JUMP) -> Refusal | None:
    """Return the first reason to refuse the quote, or None.

    ``most_jump`` is the largest change of the last price in which nothing was traded, as a share of the price before.
    """
    if known is None:
        return Refusal(PriceFault.UNKNOWN_SYMBOL, f"{quote.symbol} is not an instrument; add it first")
    return (
        (None if _has_usual_numbers(quote) else next(_broken_numbers(quote), None))
        or _broken_bar(quote)
        or _broken_times(quote, known, now)
        or _wrong_currency(quote, known)
        or _jump(quote, known, most_jump)
    )


def _has_usual_numbers(quote: Quote) -> bool:
    """True if no number can be at fault. It decides most prices, which come by the thousand, in a few microseconds."""
    try:
        for price in (quote.last, quote.bid, quote.ask, quote.open, quote.high, quote.low, quote.close):
            if price is not None and (not ZERO < price <= LARGEST_PRICE or price % _SMALLEST_STEP):
                return False
        if quote.bid is not None and quote.ask is not None and quote.bid > quote.ask:
            return False
        for size in (quote.volume, quote.bid_size, quote.ask_size):
            if size is not None and not ZERO <= size <= LARGEST_SIZE:
                return False
    except InvalidOperation:  # NaN cannot be compared
        return False
    return True


def _broken_numbers(quote: Quote) -> Iterator[Refusal]:
    """The prices and sizes that no market has. Infinite and undefined figures come first."""
    prices = {name: getattr(quote, name) for name in ("bid", "ask", "last", "open", "high", "low", "close")}
    sizes = {name: getattr(quote, name) for name in ("bid_size", "ask_size", "volume")}
    for name, number in (*prices.items(), *sizes.items()):
        if number is not None and not number.is_finite():
            yield Refusal(PriceFault.NOT_FINITE, f"{name}: is not a finite number")
    for name, price in prices.items():
        if price is not None:
            yield from _broken_price(name, price)
    for name, size in sizes.items():
        if size is not None and not ZERO <= size <= LARGEST_SIZE:
            yield Refusal(PriceFault.SIZE, f"{name}: must be between 0 and {plain(LARGEST_SIZE)}")
    if quote.bid is not None and quote.ask is not None and quote.bid > quote.ask:
        yield Refusal(PriceFault.CROSSED, f"bid {plain(quote.bid)} is above ask {plain(quote.ask)}")


def _broken_price(name: str, price: Decimal) -> Iterator[Refusal]:
    if price <= ZERO:
        yield Refusal(PriceFault.NOT_POSITIVE, f"{name}: must be greater than zero; leave out a missing side")
    if price > LARGEST_PRICE:
        yield Refusal(PriceFault.TOO_LARGE, f"{name}: must be at most {plain(LARGEST_PRICE)}")
    if _decimals(price) > MAX_DECIMALS:
        yield Refusal(PriceFault.DECIMALS, f"{name}: must have at most {MAX_DECIMALS} decimals")


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= -MAX_DECIMALS:
        return 0
    return -int(number.normalize().as_tuple().exponent)


def _broken_bar(quote: Quote) -> Refusal | None:
    if not quote.low <= min(quote.open, quote.close) <= max(quote.open, quote.close) <= quote.high:
        return Refusal(PriceFault.BAR, "bar: open and close must lie between low and high")
    if quote.bar_start is not None and quote.bar_start > quote.quoted_at:
        return Refusal(PriceFault.BAR, "bar: must not start after the time of the price")
    return None


def _broken_times(quote: Quote, known: Known, now: datetime) -> Refusal | None:
    if latest(quote.quoted_at, quote.bar_start) > now + AHEAD:
        return Refusal(
            PriceFault.AHEAD, f"at: is more than {AHEAD.seconds} seconds ahead of the clock; correct the feed's clock"
        )
    if known.quoted_at is not None and quote.quoted_at <= known.quoted_at:
        newest = known.quoted_at.isoformat()
        return Refusal(PriceFault.OLDER, f"at: is not after the current price, which is of {newest}")
    if known.halted_at is not None:
        return Refusal(PriceFault.HALTED, f"trading in {quote.symbol} is halted")
    if known.resumed_at is not None and quote.quoted_at < known.resumed_at:
        return Refusal(PriceFault.HALTED, f"at: is before the end of the halt of {quote.symbol}")
    return None


def _wrong_currency(quote: Quote, known: Known) -> Refusal | None:
    if quote.currency is not None and quote.currency != known.currency:
        return Refusal(
            PriceFault.CURRENCY, f"currency: is {quote.currency}, but {quote.symbol} is quoted in {known.currency}"
        )
    return None


def _jump(quote: Quote, known: Known, most: Decimal) -> Refusal | None:
    """A price that is far from the one before, and in whose bar nothing was traded."""
    if known.last is None or known.provider in _MADE_UP or quote.volume > ZERO:
        return None
    if abs(quote.last - known.last) > most * known.last:
        return Refusal(
            PriceFault.JUMP,
            f"last: {plain(quote.last)} is more than {plain(most * 100)} % away from {plain(known.last)} without any "
            "volume; send the bar of these trades",
        )
    return None
