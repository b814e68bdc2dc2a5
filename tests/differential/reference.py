"""A second engine of the rules in docs/exchange.md, written to be read and to share no code with the product.

It is slow, has no money and no database, and every account has enough cash. A tape of events goes in. Each order comes
out with its fills and its end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from tests.differential.events import Auction, Cancel, Event, Fill, Replace, Session, Submit, Trader, Update

ZERO, LEAST, CENT = Decimal(0), Decimal("1E-9"), Decimal("0.01")
HALF_SPREAD = Decimal("0.0001")
STALE_AFTER, AHEAD = timedelta(seconds=120), timedelta(seconds=5)
AT_ONCE = {"ioc", "fok"}
#: No opg or cls order is accepted, canceled or replaced from this long before its auction until an hour after.
CUTOFFS = {"opg": timedelta(minutes=2), "cls": timedelta(minutes=10)}
OVERDUE, GTC_LASTS = timedelta(hours=1), timedelta(days=90)
OPEN = {"held", "accepted", "partially_filled"}


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
    rests: bool = False
    triggered: bool = False
    fills: list[Fill] = field(default_factory=list)

    def left(self, price: Decimal) -> Decimal:
        """The shares to trade yet; for a notional order those that the rest of its money buys at that price."""
        if self.qty is not None:
            return self.qty - self.filled
        money = max((self.notional or ZERO) - self.paid - len(self.fills) * CENT / 2, ZERO)
        shares = _floor(money / price, LEAST)
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


class Reference:
    """The exchange. ``run`` returns all orders by their ids."""

    def __init__(self, traders: Iterable[Trader], sessions: Sequence[Session]) -> None:
        self.traders = {trader.name: trader for trader in traders}
        self.sessions = sessions
        self.orders: dict[str, Order] = {}
        self.held: dict[tuple[int, str], Decimal] = {}
        self.newest: dict[str, Update] = {}

    def run(self, tape: Iterable[Event]) -> dict[str, Order]:
        for event in tape:
            self._expire(event.at)
            match event:
                case Update():
                    self._update(event)
                case Submit():
                    self._submit(event)
                case Cancel():
                    self._cancel(event)
                case Replace():
                    self._replace(event)
                case Auction():
                    self._hold(event)
        return self.orders

    # A price update: match every order with it, then fill by stage, market orders, better limits, time.

    def _update(self, update: Update) -> None:
        if update.at - update.known > AHEAD:
            return
        self.newest[update.symbol] = update
        if update.known - update.at > STALE_AFTER:
            self._expire(update.known)
            return
        found = [
            (*self._match(order, update), order) for order in self._working(update.symbol) if order.tif not in CUTOFFS
        ]
        consumed: dict[str, Decimal] = {}
        for stage, price, order in sorted(found, key=lambda each: _precedence(each[0], each[2], update.last)):
            if order.status in {"accepted", "partially_filled"}:
                if price is not None:
                    self._fill(order, price, stage, update, consumed)
                had_chance = self._quote_counts(order, update) and _market(update, buys=order.buys) is not None
                if order.tif in AT_ONCE and order.status in OPEN and had_chance:
                    self._end(order, "canceled", update.at)
        self._expire(update.known)

    def _hold(self, auction: Auction) -> None:
        """All at one price: market orders, then better limits. The rest is canceled."""
        orders = [
            order for order in self._working(auction.symbol)
            if order.tif == auction.tif and order.auction is not None and order.auction[0] == auction.day
        ]  # fmt: skip
        consumed: dict[str, Decimal] = {}
        for order in sorted(orders, key=lambda each: _precedence("auction", each, auction.price)):
            if order.status in OPEN and order.active < auction.at and order.allows(auction.price):
                self._fill(order, auction.price, "auction", auction, consumed)
            if order.status in OPEN:
                self._end(order, "canceled", auction.at)

    def _fill(
        self, order: Order, price: Decimal, stage: str, on: Update | Auction, consumed: dict[str, Decimal]
    ) -> None:
        """Fill what liquidity and time in force allow."""
        wanted = qty = order.left(price)
        pool, size = _pool(order, stage, on)
        share = None if size is None else order.trader.share
        if share is not None and size is not None:
            free = max(size * share - consumed.get(pool, ZERO), ZERO)
            qty = min(wanted, _floor(free, LEAST if wanted % 1 else Decimal(1)))
        if not qty or (order.tif == "fok" and qty < wanted):
            return
        if isinstance(on, Update) and order.limit is None:
            if order.trader.volume_slippage and not on.volume:
                return
            price = _slipped(order, price, stage, on, consumed.get("volume", ZERO) + qty)
            qty = min(qty, order.left(price))
        held = self.held.get((order.trader.name, order.symbol), ZERO)
        if not order.buys and not order.trader.shorts and qty > held:
            self._end(order, "canceled" if order.filled else "rejected", on.at)
            return
        if share is not None:
            consumed[pool] = consumed.get(pool, ZERO) + qty
        if order.trader.share is not None or order.trader.volume_slippage:
            consumed["volume"] = consumed.get("volume", ZERO) + qty
        self.held[order.trader.name, order.symbol] = held + (qty if order.buys else -qty)
        self._book(order, qty, price, on)

    def _book(self, order: Order, qty: Decimal, price: Decimal, on: Update | Auction) -> None:
        """Add the fill to the order, and let its group know."""
        rest = order.left(price) - qty
        order.filled, order.paid = order.filled + qty, order.paid + qty * price
        order.fills.append((on.number, qty, price, on.at))
        order.holds = order.holds + qty if order.role == "entry" else max(order.holds - qty, ZERO)
        spent = order.notional is not None and order.notional - order.paid - len(order.fills) * CENT / 2 < CENT
        order.status = "partially_filled" if rest and not spent else "filled"
        bought = order.holds
        if order.status == "filled":
            order.holds = ZERO
        if order.role == "entry" and order.status == "filled":
            self._activate(order, bought, on.at)
        for other in self._others(order) if order.role in {"gain", "loss"} else ():
            other.qty = (other.qty or ZERO) - qty  # the exits share one quantity
            other.holds = max(other.holds - qty, ZERO)
            if other.qty <= other.filled:
                other.status, other.holds = "canceled", ZERO

    # Orders come in, change and end.

    def _submit(self, asked: Submit) -> None:
        trader, newest = self.traders[asked.trader], self.newest.get(asked.symbol)
        oco = asked.order_class == "oco"
        order = Order(
            asked.id, trader, asked.symbol, asked.side == "buy", asked.type, asked.tif, asked.qty, asked.notional,
            asked.limit, asked.stop, asked.trail, asked.trail_percent, asked.at, asked.at + trader.latency,
            self._expiry(asked.tif, asked.at, trader, extended=asked.extended),
            asked.extended, self._auction(asked.tif, asked.at),
            role={"simple": "", "oco": "gain"}.get(asked.order_class, "entry"),
        )  # fmt: skip
        order.group = "" if not order.role else asked.id
        self.orders[asked.id] = order
        if asked.type == "trailing_stop" and newest is not None:
            order.best = newest.last
        if not self._admit(order, asked.at, closes_only=oco):
            order.status = "rejected"
            return
        for role, type_, limit, stop in (
            ("gain", "limit", asked.gain, None),
            ("loss", "stop" if asked.loss_limit is None else "stop_limit", asked.loss_limit, asked.loss),
        ):
            if (limit or stop) is None or (oco and role == "gain"):
                continue
            self.orders[f"{asked.id}/{role}"] = Order(
                f"{asked.id}/{role}", trader, order.symbol, order.buys == oco, type_, order.tif, order.qty, None,
                limit, stop, None, None, order.accepted, order.active, order.expires, order.extended,
                group=asked.id, role=role, status="accepted" if oco else "held", rests=not oco,
            )  # fmt: skip

    def _admit(self, order: Order, at: datetime, *, closes_only: bool = False) -> bool:
        """Accept the order and hold the shares that it closes, or reject it."""
        if order.tif in CUTOFFS and (order.auction is None or at > order.auction[1] - CUTOFFS[order.tif]):
            return False
        if order.tif in AT_ONCE and self._hours(order, at) is None:
            return False
        position = self.held.get((order.trader.name, order.symbol), ZERO)
        mine = [each for each in self._open(order.symbol) if each.trader is order.trader and each is not order]
        free = abs(position) - sum((each.holds for each in mine), ZERO)
        against = position < 0 if order.buys else position > 0
        closing, qty = self._sizes(order, free if against else ZERO)
        newest = self.newest.get(order.symbol)
        if newest is not None and order.limit is not None:
            side = newest.ask if order.buys else newest.bid
            side = newest.last if newest.bid is None and newest.ask is None else side
            order.rests = side is None or not order.allows(side)
        order.holds, order.only_closes = (ZERO if order.role == "entry" else closing), closing == qty > 0
        if closes_only and closing < qty:
            return False
        if order.role == "entry" and closing:
            return False
        if not order.buys and order.notional is not None and not qty:
            return False  # without a price nobody knows how many shares that is
        opens_short = not order.buys and closing < qty
        return not opens_short or (order.trader.shorts and not (qty - closing) % 1 and order.notional is None)

    def _sizes(self, order: Order, free: Decimal) -> tuple[Decimal, Decimal]:
        """The shares that the order closes and has. Money is sized at the newest price."""
        if order.qty is not None:
            return min(order.qty, max(free, ZERO)), order.qty
        newest = self.newest.get(order.symbol)
        if newest is None:
            return ZERO, ZERO
        price = (newest.ask if order.buys else newest.bid) or newest.last
        qty, more = (_floor((order.notional or ZERO) * part / price, LEAST) for part in (Decimal(1), Decimal("1.01")))
        qty = max(qty, min(more, max(free, ZERO)))
        return min(qty, max(free, ZERO)), qty

    def _cancel(self, asked: Cancel) -> None:
        order = self.orders.get(asked.id)
        if order is not None and order.status in OPEN and not self._is_locked(order, asked.at):
            self._end(order, "canceled", asked.at)

    def _replace(self, asked: Replace) -> None:
        """A new order goes on with the part that had not filled. It has its own place in the queue."""
        old = self.orders.get(asked.id)
        if old is None or old.status not in OPEN or self._is_locked(old, asked.at) or not _fits(old, asked):
            return
        total = asked.qty or old.qty or ZERO
        new = Order(
            asked.new_id, old.trader, old.symbol, old.buys, old.type, old.tif, total - old.filled, None,
            asked.limit or old.limit, asked.stop or old.stop,
            None if old.trail is None else asked.trail or old.trail,
            None if old.trail_percent is None else asked.trail or old.trail_percent,
            asked.at, asked.at + old.trader.latency, self._expiry(old.tif, asked.at, old.trader, extended=old.extended),
            old.extended, self._auction(old.tif, asked.at), old.group, old.role,
        )  # fmt: skip
        new.best = old.best
        new.triggered = old.triggered and asked.stop is None and asked.trail is None
        if old.status == "held":
            new.status = "held"
        else:
            family = [old, *self._others(old)] if old.role in {"gain", "loss"} else [old]
            before = [(each, each.holds) for each in family]
            for each in family:  # its own shares are free for the order that goes on
                each.holds = ZERO
            status, old.status = old.status, "replaced"
            accepted = self._admit(new, asked.at)
            for each, holds in before:
                each.holds = holds
            if not accepted:
                old.status = status
                return
            if old.role:
                new.holds = old.holds
        old.status, old.holds = "replaced", ZERO
        self.orders[new.id] = new

    def _expire(self, at: datetime) -> None:
        over = [order for order in self.orders.values() if order.status in OPEN and self._is_over(order, at)]
        states = [(order, order.holds) for order in over]
        for order in over:
            order.status, order.holds = ("canceled" if order.tif in AT_ONCE else "expired"), ZERO
        for order, holds in states:
            self._after_end(order, holds, at)

    def _is_over(self, order: Order, at: datetime) -> bool:
        """True at its end, once no bar from before that can come."""
        if at < order.expires:
            return False
        newest = self.newest.get(order.symbol)
        if order.tif in AT_ONCE or newest is None or at >= order.expires + STALE_AFTER:
            return True
        return newest.at >= order.expires or newest.at < order.expires - STALE_AFTER

    def _end(self, order: Order, status: str, at: datetime) -> None:
        holds, order.holds, order.status = order.holds, ZERO, status
        self._after_end(order, holds, at)

    def _after_end(self, order: Order, holds: Decimal, at: datetime) -> None:
        """An entry leaves exits for the shares that it has bought. Else the whole group ends."""
        if order.role == "entry" and holds:
            self._activate(order, holds, at)
            return
        for other in self._others(order):
            other.status, other.holds = "canceled", ZERO

    def _activate(self, entry: Order, qty: Decimal, at: datetime) -> None:
        """The exits work from now on. Two of them hold the same shares, once."""
        exits = [other for other in self._others(entry) if other.status == "held"]
        for leg in exits:
            leg.status, leg.qty, leg.active = "accepted", qty, max(leg.active, at)
            leg.holds = ZERO if len(exits) > 1 and leg.role == "loss" else qty

    def _others(self, order: Order) -> list[Order]:
        return [
            other
            for other in self._open(order.symbol)
            if order.group and other.group == order.group and other is not order
        ]

    def _open(self, symbol: str) -> list[Order]:
        return [order for order in self.orders.values() if order.symbol == symbol and order.status in OPEN]

    def _working(self, symbol: str) -> list[Order]:
        return [order for order in self._open(symbol) if order.status != "held"]

    # The calendar.

    def _expiry(self, tif: str, at: datetime, trader: Trader, *, extended: bool) -> datetime:
        if tif in AT_ONCE:
            return at + trader.latency + STALE_AFTER
        if tif == "gtc":
            return at + trader.latency + GTC_LASTS
        if tif == "opg":
            return next(day.closes for day in self.sessions if at < day.opens)
        if tif == "cls":
            return [day.opens for day in self.sessions if at < day.closes][1]
        ends = (day.ends if extended else day.closes for day in self.sessions)
        return next(end for end in ends if at < end)

    def _auction(self, tif: str, at: datetime) -> tuple[date, datetime] | None:
        if tif not in CUTOFFS:
            return None
        times = [(day.day, day.opens if tif == "opg" else day.closes) for day in self.sessions]
        return next(((day, due) for day, due in times if at < due), None)

    def _is_locked(self, order: Order, at: datetime) -> bool:
        return order.auction is not None and -CUTOFFS[order.tif] < at - order.auction[1] < OVERDUE

    # The price at which an order fills on an update, in the bar's open, in its range, or on the quote at its end.

    def _match(self, order: Order, update: Update) -> tuple[str, Decimal | None]:
        in_bar, on_quote = self._bar_counts(order, update), self._quote_counts(order, update)
        quote = _market(update, buys=order.buys) if on_quote else None
        if quote is not None and not order.allows(quote):
            quote = None
        if order.waits_for_stop():
            return self._match_stop(order, update, quote, in_bar=in_bar, on_quote=on_quote)
        if order.limit is not None:
            return self._match_limit(order, order.limit, update, quote, in_bar=in_bar)
        if in_bar and update.bid is None and update.ask is None:
            return "open", _bar_market(order, update)
        return "quote", quote

    def _match_stop(
        self, order: Order, update: Update, quote: Decimal | None, *, in_bar: bool, on_quote: bool
    ) -> tuple[str, Decimal | None]:
        """The bar's open, its far end and the last price trigger a stop. A trailing stop follows in between."""
        near, far = (update.high, update.low) if order.buys else (update.low, update.high)
        if in_bar and order.reached(update.open):
            order.triggered = order.rests = True  # it rests from the next update on
            found = ("open", update.open) if order.limit is None else _stop_limit_at_open(order, order.limit, update)
            return found or ("quote", quote)
        if in_bar:
            order.follow(update.open)
            stop = order.stop_price()
            if stop is not None and order.reached(near):
                order.triggered = order.rests = True
                return ("range", stop) if order.allows(stop) else ("quote", quote)
            order.follow(far)
        if on_quote:
            order.follow(update.last)
            order.triggered = order.reached(update.last)
            order.rests = order.rests or order.triggered
        return "quote", quote if order.triggered else None

    def _match_limit(
        self, order: Order, limit: Decimal, update: Update, quote: Decimal | None, *, in_bar: bool
    ) -> tuple[str, Decimal | None]:
        """A limit that rests gets its limit, or the better price after a gap. One that arrives gets the quote."""
        start = update.bar_start or update.since
        opened = in_bar and start is not None and self._is_gap(order, update, start)
        passed = in_bar and (update.low < limit if order.buys else update.high > limit)
        beyond = in_bar and order.allows(update.open) and update.open != limit
        waited = update.since is not None and update.since > order.active
        rests = (order.rests or waited) and order.tif not in AT_ONCE
        if opened and beyond:
            return "open", update.open
        if passed and (rests or not beyond):  # where the bar did not open beyond its limit, it rested from then on
            return "range", limit
        if quote is not None:
            return "quote", limit if rests and not self._is_gap(order, update, update.at) else quote
        if beyond and update.bid is None and update.ask is None:
            price = _bar_market(order, update)
            return "open", price if order.allows(price) else limit
        return ("range", limit) if passed else ("quote", None)

    def _bar_counts(self, order: Order, update: Update) -> bool:
        """True if the bar started while the order was in the market, in a session of its own."""
        start = update.bar_start or update.since
        if not order.trader.in_bars or start is None or start < order.active or order.tif in AT_ONCE:
            return False
        hours = self._hours(order, start)
        if hours is None or start >= order.expires:
            return False
        return update.bar_start is not None or update.at <= min(hours[1], order.expires)

    def _quote_counts(self, order: Order, update: Update) -> bool:
        return order.active < update.at < order.expires and self._hours(order, update.at) is not None

    def _is_gap(self, order: Order, update: Update, at: datetime) -> bool:
        """True if the session opened since the update before, or a bar of its own comes without one before."""
        if update.since is None:
            return update.bar_start is not None
        hours = self._hours(order, at)
        return hours is not None and update.since < hours[0]

    def _hours(self, order: Order, at: datetime) -> tuple[datetime, datetime] | None:
        """The session at that time in which the order trades."""
        spans = [(day.begins, day.ends) if order.extended else (day.opens, day.closes) for day in self.sessions]
        return next(((begin, end) for begin, end in spans if begin <= at < end), None)


def _market(update: Update, *, buys: bool) -> Decimal | None:
    """The ask or the bid, or none where it is missing, of size 0 or crossed; near the last where there is no quote."""
    bid, ask = update.bid, update.ask
    if bid is None and ask is None:
        return _assumed(update.last, buys=buys)
    if bid is not None and ask is not None and bid > ask:
        return None
    return (ask if update.ask_size != 0 else None) if buys else (bid if update.bid_size != 0 else None)


def _bar_market(order: Order, bar: Update) -> Decimal:
    """The open of a bar without a quote, half the assumed spread worse, within the bar."""
    price = _assumed(bar.open, buys=order.buys)
    return min(price, bar.high) if order.buys else max(price, bar.low)


def _stop_limit_at_open(order: Order, limit: Decimal, bar: Update) -> tuple[str, Decimal] | None:
    if order.allows(bar.open) and bar.open != limit:
        return "open", bar.open
    return ("range", limit) if (bar.low < limit if order.buys else bar.high > limit) else None


def _precedence(stage: str, order: Order, last: Decimal) -> tuple[int, Decimal, datetime, str]:
    eager = Decimal("Infinity")
    if order.limit is not None:
        eager = order.limit / last if order.buys else last / order.limit
    return ["open", "range", "quote", "auction"].index(stage), -eager, order.accepted, order.id


def _pool(order: Order, stage: str, on: Update | Auction) -> tuple[str, Decimal | None]:
    """The liquidity that the order takes from, and its size where that is known."""
    if isinstance(on, Auction):
        return "auction", on.volume
    size = on.ask_size if order.buys else on.bid_size
    if stage == "quote" and size is not None:
        return ("ask" if order.buys else "bid"), size
    return "bar", on.volume


def _slipped(order: Order, price: Decimal, stage: str, bar: Update, taken: Decimal) -> Decimal:
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


def _assumed(price: Decimal, *, buys: bool) -> Decimal:
    return _against(price * (1 + HALF_SPREAD if buys else 1 - HALF_SPREAD), buys=buys)


def _against(price: Decimal, *, buys: bool) -> Decimal:
    """Rounded against the trader, to four decimals from one on."""
    step = Decimal("0.0001") if price >= 1 else LEAST
    return price.quantize(step, rounding=ROUND_CEILING if buys else ROUND_FLOOR)


def _floor(number: Decimal, unit: Decimal) -> Decimal:
    return number // unit * unit


def _fits(old: Order, asked: Replace) -> bool:
    """True if the order can be changed in this way."""
    if old.qty is None or (asked.qty is not None and (asked.qty <= old.filled or old.role in {"gain", "loss"})):
        return False
    if asked.trail is not None and old.type != "trailing_stop":
        return False
    if asked.limit is not None and old.limit is None:
        return False
    return asked.stop is None or (old.stop is not None and old.type != "trailing_stop")
