"""What a fill costs beyond its price: commission and slippage, by the account's model."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from shared.contracts.accounts import Commission, Slippage
from shared.contracts.orders import Side
from shared.contracts.prices import Price
from shared.money import ZERO, cents

_BASIS_POINT = Decimal("0.0001")
#: Prices that we work out have four decimals, below a price of one nine: a cheap share is still not given away.
_STEP, _FINE_STEP = _BASIS_POINT, Decimal("1E-9")


def fee(model: Commission, *, qty: Decimal, amount: Decimal, filled: Decimal, charged: Decimal) -> Decimal:
    """The fee of one more fill, to the cent.

    ``filled`` shares for ``amount`` are what the order has with this fill of ``qty``, ``charged`` its fees before it:
    so a minimum counts once for an order, and parts cost no more than the whole.
    """
    if model.kind == "zero" or not qty:
        return ZERO
    due = filled * model.rate if model.kind == "per_share" else amount * model.rate / 100
    return max(cents(max(due, model.minimum)) - charged, ZERO)


@dataclass(frozen=True)
class Worse:
    """A price and how much worse it is than the market's."""

    price: Decimal
    slippage: Decimal


def slipped(model: Slippage, side: Side, at: Decimal, price: Price, qty: Decimal, *, in_bar: bool) -> Worse:
    """Where a market order of ``qty`` fills that would fill at ``at``; inside the bar never beyond its range."""
    by = _by(model, at, price, qty)
    if not by:
        return Worse(at, ZERO)
    worse = rounded(at + by if side is Side.BUY else max(at - by, _FINE_STEP), side)
    if in_bar:
        worse = min(worse, price.high) if side is Side.BUY else max(worse, price.low)
    return Worse(worse, abs(worse - at))


def _by(model: Slippage, at: Decimal, price: Price, qty: Decimal) -> Decimal:
    if model.kind == "fixed":
        return at * model.rate * _BASIS_POINT
    if model.kind == "spread":
        return model.rate * (price.ask - price.bid) if price.ask is not None and price.bid is not None else ZERO
    if model.kind == "volume_share":
        share = min(qty / price.volume, Decimal(1)) if price.volume else Decimal(1)
        return at * model.rate * share * share
    return ZERO


def rounded(price: Decimal, side: Side) -> Decimal:
    """The price to its step, against the trader."""
    step = _STEP if price >= 1 else _FINE_STEP
    return price.quantize(step, rounding=ROUND_CEILING if side is Side.BUY else ROUND_FLOOR)
