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
STALE_AFTER = timedelta(seconds=120)
#: No opg or cls order is accepted, canceled or replaced from this long before its auction until an hour after.
CUTOFFS = {"opg": timedelta(minutes=2), "cls": timedelta(minutes=10)}
OVERDUE = timedelta(hours=1)
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
    expires: datetime | None
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
        self.newest[update.symbol] = update
        if update.known - update.at > STALE_AFTER:
            return
        found = []
        for order in self._working(update.symbol):
            if update.at > order.active and order.tif not in CUTOFFS:
                stage, price = _match(order, update)
                found.append((stage, price, order))
        consumed: dict[str, Decimal] = {}
        for stage, price, order in sorted(found, key=lambda each: _precedence(each[0], each[2], update.last)):
            if order.status in {"accepted", "partially_filled"}:
                if price is not None:
                    self._fill(order, price, stage, update, consumed)
                if order.tif in {"ioc", "fok"} and order.status in OPEN:
                    self._end(order, "canceled", update.at)

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
        """Fill what liquidity and time in force allow, then let the order's group know."""
        wanted = qty = order.left(price)
        pool, size = _pool(order, stage, on)
        share = None if size is None else order.trader.share
        if share is not None and size is not None:
            free = max(size * share - consumed.get(pool, ZERO), ZERO)
            qty = min(wanted, _floor(free, LEAST if wanted % 1 else Decimal(1)))
        if not qty or (order.tif == "fok" and qty < wanted):
            return
        if isinstance(on, Update) and order.limit is None:
            price = _slipped(order, price, stage, on)
            qty = min(qty, order.left(price))
        held = self.held.get((order.trader.name, order.symbol), ZERO)
        if not order.buys and not order.trader.shorts and qty > held:
            self._end(order, "canceled" if order.filled else "rejected", on.at)
            return
        if share is not None:
            consumed[pool] = consumed.get(pool, ZERO) + qty
        self.held[order.trader.name, order.symbol] = held + (qty if order.buys else -qty)
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
            self._expiry(asked.tif, asked.at), asked.extended, self._auction(asked.tif, asked.at),
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
                group=asked.id, role=role, status="accepted" if oco else "held",
            )  # fmt: skip

    def _admit(self, order: Order, at: datetime, *, closes_only: bool = False) -> bool:
        """Accept the order and hold the shares that it closes, or reject it."""
        if order.tif in CUTOFFS and (order.auction is None or at > order.auction[1] - CUTOFFS[order.tif]):
            return False
        session = self._session(at)
        if order.tif in {"ioc", "fok"} and not session.opens <= at < session.closes:
            return False
        position = self.held.get((order.trader.name, order.symbol), ZERO)
        mine = [each for each in self._open(order.symbol) if each.trader is order.trader and each is not order]
        free = abs(position) - sum((each.holds for each in mine), ZERO)
        against = position < 0 if order.buys else position > 0
        closing, qty = self._sizes(order, free if against else ZERO)
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
            asked.at, asked.at + old.trader.latency, self._expiry(old.tif, asked.at),
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
        over = [
            order for order in self.orders.values() if order.status in OPEN and order.expires and order.expires <= at
        ]
        states = [(order, order.holds) for order in over]
        for order in over:
            order.status, order.holds = "expired", ZERO
        for order, holds in states:
            self._after_end(order, holds, at)

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

    def _session(self, at: datetime) -> Session:
        """The session that is on, or else the next one."""
        return next(session for session in self.sessions if at < session.closes)

    def _expiry(self, tif: str, at: datetime) -> datetime | None:
        if tif == "gtc":
            return None
        if tif not in CUTOFFS:
            return self._session(at).closes
        days = [session for session in self.sessions if at < session.closes]
        if tif == "opg":
            return next(session.closes for session in days if at < session.opens)
        return days[1].opens

    def _auction(self, tif: str, at: datetime) -> tuple[date, datetime] | None:
        if tif not in CUTOFFS:
            return None
        times = [(session.day, session.opens if tif == "opg" else session.closes) for session in self.sessions]
        return next(((day, due) for day, due in times if at < due), None)

    def _is_locked(self, order: Order, at: datetime) -> bool:
        return order.auction is not None and -CUTOFFS[order.tif] < at - order.auction[1] < OVERDUE


# The price at which an order fills on an update: in the bar's open, its range, or on the quote at its end.


def _match(order: Order, update: Update) -> tuple[str, Decimal | None]:
    if order.trader.in_bars and update.since is not None and update.since >= order.active:
        found = _in_bar(order, update)
        if found is not None:
            return found
    if order.waits_for_stop():
        order.follow(update.last)
        if not order.reached(update.last):
            return "quote", None
        order.triggered = True
    price = _market(update, buys=order.buys)
    return "quote", price if order.allows(price) else None


def _market(update: Update, *, buys: bool) -> Decimal:
    side = update.ask if buys else update.bid
    return side if side is not None else _assumed(update.last, buys=buys)


def _in_bar(order: Order, bar: Update) -> tuple[str, Decimal] | None:
    if order.waits_for_stop():
        return _stop_in_bar(order, bar)
    if order.limit is not None:
        return _limit_in_bar(order, order.limit, bar)
    if bar.bid is not None or bar.ask is not None:
        return None
    price = _assumed(bar.open, buys=order.buys)
    return "open", min(price, bar.high) if order.buys else max(price, bar.low)


def _stop_in_bar(order: Order, bar: Update) -> tuple[str, Decimal] | None:
    stop = order.stop_price()
    if order.reached(bar.open):
        order.triggered = True
        return ("open", bar.open) if order.limit is None else _limit_in_bar(order, order.limit, bar)
    if stop is not None and order.reached(bar.high if order.buys else bar.low):
        order.triggered = True
        return ("range", stop) if order.allows(stop) else None
    order.follow(bar.low if order.buys else bar.high)
    return None


def _limit_in_bar(order: Order, limit: Decimal, bar: Update) -> tuple[str, Decimal] | None:
    if order.allows(bar.open):
        return "open", bar.open
    through = bar.low < limit if order.buys else bar.high > limit
    return ("range", limit) if through else None


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


def _slipped(order: Order, price: Decimal, stage: str, bar: Update) -> Decimal:
    by = price * order.trader.slippage / 10_000
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
