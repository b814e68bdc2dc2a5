"""The tape that the reference and the product take: traders, trading days and events. Nothing of the product."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal


@dataclass(frozen=True)
class Trader:
    """An account: whether it sells short and fills inside of bars, its share of the liquidity, and its costs.

    ``slippage`` is in basis points, ``volume_slippage`` a factor of the square of the share of the volume.
    """

    name: int
    shorts: bool = False
    in_bars: bool = False
    share: Decimal | None = None
    latency: timedelta = timedelta(0)
    slippage: Decimal = Decimal(0)
    volume_slippage: Decimal = Decimal(0)


@dataclass(frozen=True)
class Session:
    """A trading day: pre-market, the regular session, after-hours."""

    day: date
    begins: datetime
    opens: datetime
    closes: datetime
    ends: datetime


@dataclass(frozen=True)
class Update:
    """A quote and a bar. ``since`` is the time of the update before, ``known`` the time when this one became known.

    ``bar_start`` is the start of a bar that has its own.
    """

    number: int
    symbol: str
    at: datetime
    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal | None
    ask_size: Decimal | None
    last: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal
    since: datetime | None
    bar_start: datetime | None
    known: datetime


@dataclass(frozen=True)
class Submit:
    """An order. ``gain`` and ``loss`` are the prices of its exits, ``loss_limit`` the limit of its stop-loss."""

    id: str
    trader: int
    symbol: str
    at: datetime
    side: str
    type: str
    tif: str
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit: Decimal | None = None
    stop: Decimal | None = None
    trail: Decimal | None = None
    trail_percent: Decimal | None = None
    extended: bool = False
    order_class: str = "simple"
    gain: Decimal | None = None
    loss: Decimal | None = None
    loss_limit: Decimal | None = None


@dataclass(frozen=True)
class Cancel:
    id: str
    at: datetime


@dataclass(frozen=True)
class Replace:
    """A field that is None stays. ``qty`` is the whole quantity, including the filled part."""

    id: str
    new_id: str
    at: datetime
    qty: Decimal | None = None
    limit: Decimal | None = None
    stop: Decimal | None = None
    trail: Decimal | None = None
    tif: str | None = None


@dataclass(frozen=True)
class Auction:
    """The official price of ``day``. ``volume`` is None where it is not known."""

    number: int
    symbol: str
    tif: str
    day: date
    at: datetime
    price: Decimal
    volume: Decimal | None


Event = Update | Submit | Cancel | Replace | Auction
#: (number of the update or auction, shares, price, time).
Fill = tuple[int, Decimal, Decimal, datetime]
