"""The price at which an order fills on an update: in the bar's open, in its range, or on the quote at its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from tests.differential.events import Auction, Fill, Session, Trader, Update

ZERO, LEAST, CENT = Decimal(0), Decimal("1E-9"), Decimal("0.01")
HALF_SPREAD = Decimal("0.0001")
AT_ONCE = {"ioc", "fok"}


@dataclass
class Order:
    """``role``: "" for a simple order, else "entry", "gain" or "loss" of its ``group``.

    ``holds`` are the shares held for it. ``best`` is the price that a trailing stop follows.
    """

    id: str
    trader: Trader
    symbol: str
    buys: bool
    type: str
    tif: str
    qty: Decimal | None
    notional: Decimal | None
    limit: Decimal | None
    stop: Decimal | None
    trail: Decimal | None
    trail_percent: Decimal | None
    accepted: datetime
    active: datetime
    expires: datetime
    extended: bool = False
    auction: tuple[date, datetime] | None = None
    group: str = ""
    role: str = ""
    status: str = "accepted"
    filled: Decimal = ZERO
    paid: Decimal = ZERO
    holds: Decimal = ZERO
    only_closes: bool = False
    best: Decimal | None = None
    rests: bool | None = None
    triggered: bool = False
    fills: list[Fill] = field(default_factory=list)

    def left(self, price: Decimal) -> Decimal:
        """The shares to trade yet; for a notional order those that the rest of its money buys at that price."""
        if self.qty is not None:
            return self.qty - self.filled
        money = max((self.notional or ZERO) - self.paid - len(self.fills) * CENT, ZERO)
        shares = floor(money / price, LEAST)
        return min(shares, self.holds) if self.only_closes else shares

    def allows(self, price: Decimal) -> bool:
        return self.limit is None or (price <= self.limit if self.buys else price >= self.limit)

    def waits_for_stop(self) -> bool:
        return "stop" in self.type and not self.triggered

    def stop_price(self) -> Decimal | None:
        if self.type != "trailing_stop":
            return self.stop
        if self.best is None:
            return None
        trail = self.trail if self.trail is not None else self.best * (self.trail_percent or ZERO) / 100
        return self.best + trail if self.buys else self.best - trail

    def reached(self, price: Decimal) -> bool:
        stop = self.stop_price()
        return stop is not None and (price >= stop if self.buys else price <= stop)

    def follow(self, price: Decimal) -> None:
        if self.type == "trailing_stop":
            pick = min if self.buys else max
            self.best = price if self.best is None else pick(self.best, price)


@dataclass(frozen=True)
class Prices:
    """The prices at which an order fills on the updates of a market with these sessions."""

    sessions: Sequence[Session]

    def match(self, order: Order, update: Update) -> tuple[str, Decimal | None]:
        in_bar, on_quote = self._bar_counts(order, update), self.quote_counts(order, update)
        quote = market_price(update, buys=order.buys) if on_quote else None
        if quote is not None and not order.allows(quote):
            quote = None
        if order.waits_for_stop():
            return self._match_stop(order, update, quote, in_bar=in_bar, on_quote=on_quote)
        if order.limit is not None:
            return self._match_limit(order, order.limit, update, quote, in_bar=in_bar)
        if in_bar and update.bid is None and update.ask is None:
            return "open", _open_of_bar(order, update)
        return "quote", quote

    def _match_stop(
        self, order: Order, update: Update, quote: Decimal | None, *, in_bar: bool, on_quote: bool
    ) -> tuple[str, Decimal | None]:
        """The bar's open, its far end and the last price trigger a stop. A trailing stop follows in between."""
        near, far = (update.high, update.low) if order.buys else (update.low, update.high)
        found: tuple[str, Decimal | None] = "quote", quote
        if in_bar and order.reached(update.open):
            order.triggered = True
            found = (
                ("open", update.open) if order.limit is None else _stop_limit_at_open(order, order.limit, update, found)
            )
        elif in_bar:
            order.follow(update.open)
            stop = order.stop_price()
            order.triggered = stop is not None and order.reached(near)
            if stop is not None and order.triggered:
                found = ("range", stop) if order.allows(stop) else found
            else:
                order.follow(far)
        if on_quote and not order.triggered:
            order.follow(update.last)
            order.triggered = order.reached(update.last)
        if not order.triggered:
            return "quote", None
        order.rests = found[0] == "range" or found[1] is None  # it comes now, and rests unless the market takes it
        return found

    def _match_limit(
        self, order: Order, limit: Decimal, update: Update, quote: Decimal | None, *, in_bar: bool
    ) -> tuple[str, Decimal | None]:
        """A limit that rests gets its limit, or the better price after a gap. An arriving one gets the quote."""
        start = update.bar_start or update.since
        opened = in_bar and start is not None and self._is_gap(order, update, start)
        passed = in_bar and (update.low < limit if order.buys else update.high > limit)
        beyond = in_bar and order.allows(update.open) and update.open != limit
        in_range = min(limit, update.high) if order.buys else max(limit, update.low)
        rests = order.rests if order.rests is not None else update.since is not None and update.since > order.active
        rests = rests and order.tif not in AT_ONCE
        if opened and beyond:
            order.rests = False  # it is at the market from now on
            return "open", update.open
        has_quote = quote is not None and (update.bid is not None or update.ask is not None)
        if passed and (rests or not beyond) and (in_range == limit or not has_quote):
            return "range", in_range  # where the bar did not open beyond its limit, it rested from then on
        if beyond and not rests and update.bid is None and update.ask is None:
            price = _open_of_bar(order, update)
            return "open", price if order.allows(price) else limit
        if quote is None:
            return ("range", in_range) if passed else ("quote", None)
        if rests and not self._is_gap(order, update, update.at):
            return "quote", limit
        order.rests = False
        return "quote", quote

    def _bar_counts(self, order: Order, update: Update) -> bool:
        """True if the bar started while the order was in the market, in a session of its own."""
        start = update.bar_start or update.since
        if not order.trader.in_bars or start is None or start < order.active or order.tif in AT_ONCE:
            return False
        hours = self.hours(order, start)
        if hours is None or start >= order.expires:
            return False
        return update.bar_start is not None or update.at <= min(hours[1], order.expires)

    def quote_counts(self, order: Order, update: Update) -> bool:
        return order.active < update.at < order.expires and self.hours(order, update.at) is not None

    def _is_gap(self, order: Order, update: Update, at: datetime) -> bool:
        """True if the session opened since the update before, or a bar of its own comes without one before."""
        if update.since is None:
            return update.bar_start is not None
        hours = self.hours(order, at)
        return hours is not None and update.since < hours[0]

    def hours(self, order: Order, at: datetime) -> tuple[datetime, datetime] | None:
        """The session at that time in which the order trades."""
        spans = [(day.begins, day.ends) if order.extended else (day.opens, day.closes) for day in self.sessions]
        return next(((begin, end) for begin, end in spans if begin <= at < end), None)


def market_price(update: Update, *, buys: bool) -> Decimal | None:
    """The ask or the bid, or none where it is missing, of size 0 or crossed; near the last where there is no quote."""
    bid, ask = update.bid, update.ask
    if bid is None and ask is None:
        return _assumed(update.last, buys=buys)
    if bid is not None and ask is not None and bid > ask:
        return None
    return (ask if update.ask_size != 0 else None) if buys else (bid if update.bid_size != 0 else None)


def _open_of_bar(order: Order, bar: Update) -> Decimal:
    """The open of a bar without a quote, half the assumed spread worse, within the bar."""
    price = _assumed(bar.open, buys=order.buys)
    return min(price, bar.high) if order.buys else max(price, bar.low)


def _stop_limit_at_open(
    order: Order, limit: Decimal, bar: Update, on_quote: tuple[str, Decimal | None]
) -> tuple[str, Decimal | None]:
    """Triggered by the open: there where that is better than the limit, then in the bar, then on the quote."""
    if order.allows(bar.open) and bar.open != limit:
        return "open", bar.open
    return ("range", limit) if (bar.low < limit if order.buys else bar.high > limit) else on_quote


def _assumed(price: Decimal, *, buys: bool) -> Decimal:
    return _against(price * (1 + HALF_SPREAD if buys else 1 - HALF_SPREAD), buys=buys)


def _against(price: Decimal, *, buys: bool) -> Decimal:
    """Rounded against the trader, to four decimals from one on."""
    step = Decimal("0.0001") if price >= 1 else LEAST
    return price.quantize(step, rounding=ROUND_CEILING if buys else ROUND_FLOOR)


def slipped(order: Order, price: Decimal, stage: str, bar: Update, taken: Decimal) -> Decimal:
    """The price after slippage, within the bar. ``taken`` are the shares that were taken of the update, with these."""
    by = price * order.trader.slippage / 10_000
    if order.trader.volume_slippage:
        by = price * order.trader.volume_slippage * min(taken / bar.volume, Decimal(1)) ** 2
    if not by:
        return price
    worse = _against(price + by if order.buys else price - by, buys=order.buys)
    if stage == "quote":
        return worse
    return min(worse, bar.high) if order.buys else max(worse, bar.low)


def pool_of(order: Order, stage: str, on: Update | Auction) -> tuple[str, Decimal | None]:
    """The liquidity that the order takes from, and its size where that is known."""
    if isinstance(on, Auction):
        return "auction", on.volume
    size = on.ask_size if order.buys else on.bid_size
    if stage == "quote" and size is not None:
        return ("ask" if order.buys else "bid"), size
    return "bar", on.volume


def precedence(stage: str, order: Order, last: Decimal) -> tuple[int, Decimal, datetime, str]:
    eager = Decimal("Infinity")
    if order.limit is not None:
        eager = order.limit / last if order.buys else last / order.limit
    return ["open", "range", "quote", "auction"].index(stage), -eager, order.accepted, order.id


def floor(number: Decimal, unit: Decimal) -> Decimal:
    return number // unit * unit
