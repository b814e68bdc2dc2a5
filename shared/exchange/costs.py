"""The costs of a fill beyond its price: commission and slippage by the account's model."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from shared.contracts.accounts import Commission, Slippage
from shared.contracts.orders import Side
from shared.contracts.prices import Price
from shared.money import ZERO, cents_up

_BASIS_POINT = Decimal("0.0001")
#: Computed prices have four decimals. Below 1 they have nine, so that a cheap share keeps a price.
_STEP, _FINE_STEP = _BASIS_POINT, Decimal("1E-9")


def fee(model: Commission, *, qty: Decimal, amount: Decimal, filled: Decimal, charged: Decimal) -> Decimal:
    """The commission of one more fill of ``qty`` shares, rounded up to the cent.

    ``filled`` and ``amount`` are the order's shares and money including this fill, ``charged`` is its commission before
    it. A minimum therefore counts once for an order, and many fills cost no more than one.
    """
    if model.kind == "zero" or not qty:
        return ZERO
    due = filled * model.rate if model.kind == "per_share" else amount * model.rate / 100
    exact = max(due, model.minimum).quantize(_FINE_STEP)  # an average price may have brought in an error beyond that
    return max(cents_up(exact) - charged, ZERO)


@dataclass(frozen=True)
class Worse:
    """A price, and the amount by which it is worse than the market's."""

    price: Decimal
    slippage: Decimal


def slipped(model: Slippage, side: Side, at: Decimal, price: Price, taken: Decimal, *, in_bar: bool) -> Worse:
    """The price at which a market order fills instead of ``at``. Inside a bar it stays within its range.

    ``taken`` is all that our orders took of the update, with this fill.
    """
    by = ZERO
    if model.kind == "fixed":
        by = at * model.rate * _BASIS_POINT
    elif model.kind == "spread" and price.ask is not None and price.bid is not None:
        by = model.rate * max(price.ask - price.bid, ZERO)  # a crossed quote has no spread
    elif model.kind == "volume_share":
        share = min(taken / price.volume, Decimal(1)) if price.volume else Decimal(1)
        by = at * model.rate * share * share
    if not by:
        return Worse(at, ZERO)
    worse = rounded(at + by if side is Side.BUY else max(at - by, _FINE_STEP), side)
    if in_bar:
        worse = min(worse, price.high) if side is Side.BUY else max(worse, price.low)
    return Worse(worse, abs(worse - at))


def rounded(price: Decimal, side: Side) -> Decimal:
    """The price rounded to its step, against the trader."""
    step = _STEP if price >= 1 else _FINE_STEP
    return price.quantize(step, rounding=ROUND_CEILING if side is Side.BUY else ROUND_FLOOR)
