"""A second engine of the rules in docs/exchange.md, written to be read and to share no code with the product.

It is slow, has no money and no database, and every account has enough cash. A tape of events goes in. Each order comes
out with its fills and its end.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

from tests.differential.events import Auction, Cancel, Event, Replace, Session, Submit, Trader, Update
from tests.differential.reference_prices import (
    AT_ONCE,
    CENT,
    LEAST,
    ZERO,
    Order,
    Prices,
    floor,
    market_price,
    pool_of,
    precedence,
    slipped,
)

STALE_AFTER, AHEAD = timedelta(seconds=120), timedelta(seconds=5)
#: No opg or cls order is accepted, canceled or replaced from this long before its auction until an hour after.
CUTOFFS = {"opg": timedelta(minutes=2), "cls": timedelta(minutes=10)}
OVERDUE, GTC_LASTS = timedelta(hours=1), timedelta(days=90)
OPEN = {"held", "accepted", "partially_filled"}


class Reference:
    """The exchange. ``run`` returns all orders by their ids."""

    def __init__(self, traders: Iterable[Trader], sessions: Sequence[Session]) -> None:
        self.traders = {trader.name: trader for trader in traders}
        self.sessions, self.prices = sessions, Prices(sessions)
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
            (*self.prices.match(order, update), order)
            for order in self._working(update.symbol)
            if order.tif not in CUTOFFS
        ]
        consumed: dict[str, Decimal] = {}
        for stage, price, order in sorted(found, key=lambda each: precedence(each[0], each[2], update.last)):
            if order.status in {"accepted", "partially_filled"}:
                if price is not None:
                    self._fill(order, price, stage, update, consumed)
                had_chance = (
                    self.prices.quote_counts(order, update) and market_price(update, buys=order.buys) is not None
                )
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
        for order in sorted(orders, key=lambda each: precedence("auction", each, auction.price)):
            if order.status in OPEN and order.active < auction.at and order.allows(auction.price):
                self._fill(order, auction.price, "auction", auction, consumed)
            if order.status in OPEN:
                self._end(order, "canceled", auction.at)

    def _fill(
        self, order: Order, price: Decimal, stage: str, on: Update | Auction, consumed: dict[str, Decimal]
    ) -> None:
        """Fill what liquidity and time in force allow."""
        wanted = qty = order.left(price)
        pool, size = pool_of(order, stage, on)
        share = None if size is None else order.trader.share
        if share is not None and size is not None:
            free = max(size * share - consumed.get(pool, ZERO), ZERO)
            qty = min(wanted, floor(free, LEAST if wanted % 1 else Decimal(1)))
        if not qty or (order.tif == "fok" and qty < wanted):
            return
        if isinstance(on, Update) and order.limit is None:
            if order.trader.volume_slippage and not on.volume:
                return
            price = slipped(order, price, stage, on, consumed.get("volume", ZERO) + qty)
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
        spent = order.notional is not None and order.notional - order.paid - len(order.fills) * CENT < CENT
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
        exits = _misplaced(self._base(order), None if oco else asked.gain, asked.loss, sells=order.buys != oco)
        if exits or not self._admit(order, asked.at, is_new=True):
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
                group=asked.id, role=role, status="accepted" if oco else "held", rests=True,
            )  # fmt: skip

    def _admit(self, order: Order, at: datetime, *, is_new: bool) -> bool:
        """Accept the order and hold the shares that it closes, or reject it. Another that goes on is not ``is_new``."""
        if order.tif in CUTOFFS and (order.auction is None or at > order.auction[1] - CUTOFFS[order.tif]):
            return False
        if order.tif in AT_ONCE and self.prices.hours(order, at) is None:
            return False
        newest = self.newest.get(order.symbol)
        if newest is not None and order.limit is not None:
            side = newest.ask if order.buys else newest.bid
            side = newest.last if newest.bid is None and newest.ask is None else side
            order.rests = side is None or not order.allows(side)
        position = self.held.get((order.trader.name, order.symbol), ZERO)
        mine = [each for each in self._open(order.symbol) if each.trader is order.trader and each is not order]
        held, against = sum((each.holds for each in mine), ZERO), -position if order.buys else position
        free = max(against - held, ZERO)
        closing, qty = self._sizes(order, free)
        opening = qty - closing
        order.holds, order.only_closes = (ZERO if order.role == "entry" else closing), not opening and closing > 0
        if not self._is_large_enough(order, qty, free):
            return False
        if order.role == "entry" and is_new and closing:
            return False
        if not opening:
            return order.notional is None or order.buys or qty > 0
        is_whole = order.buys or (order.notional is None and not opening % 1)
        may_open = order.buys or order.trader.shorts
        must_close = (order.group and order.role == "gain" and is_new) or (against > 0 and held > 0)
        return is_whole and may_open and not must_close and not self._opens_against(order, mine)

    def _is_large_enough(self, order: Order, qty: Decimal, free: Decimal) -> bool:
        """True if it is worth a dollar, or whole shares for whole cents, closes all that is free, or is an exit."""
        price = order.limit or order.stop or self._last(order.symbol)
        value = order.notional if order.notional is not None else price and qty * price
        exact = order.qty is not None and not qty % 1 and value is not None and not value % CENT
        return order.role in {"gain", "loss"} or exact or value is None or value >= 1 or qty == free

    def _opens_against(self, order: Order, others: Iterable[Order]) -> bool:
        """True if another order would open a position on the other side."""
        return any(
            (each.left(ZERO) - (ZERO if each.role else each.holds) > 0)
            if each.qty is not None
            else each.buys and not each.only_closes
            for each in others
            if each.buys != order.buys and each.role not in {"gain", "loss"}
        )

    def _sizes(self, order: Order, free: Decimal) -> tuple[Decimal, Decimal]:
        """The shares that the order closes and has. Money is sized at the newest price."""
        if order.qty is not None:
            return min(order.qty, max(free, ZERO)), order.qty
        newest = self.newest.get(order.symbol)
        if newest is None:
            return ZERO, ZERO
        price = (newest.ask if order.buys else newest.bid) or newest.last
        qty, more = (floor((order.notional or ZERO) * part / price, LEAST) for part in (Decimal(1), Decimal("1.01")))
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
        total, tif = asked.qty or old.qty or ZERO, asked.tif or old.tif
        extended = old.extended and tif in {"day", "gtc"}
        new = Order(
            asked.new_id, old.trader, old.symbol, old.buys, old.type, tif, total - old.filled, None,
            asked.limit or old.limit, asked.stop or old.stop,
            None if old.trail is None else asked.trail or old.trail,
            None if old.trail_percent is None else asked.trail or old.trail_percent,
            asked.at, asked.at + old.trader.latency, self._expiry(tif, asked.at, old.trader, extended=extended),
            extended, self._auction(tif, asked.at), old.group, old.role,
        )  # fmt: skip
        if (asked.limit or asked.stop) is not None and self._misplaces(old, new, stop=asked.stop):
            return
        new.best = old.best
        new.triggered = old.triggered and asked.stop is None and asked.trail is None
        if old.status == "held":
            new.status, new.rests = "held", old.rests
        else:
            family = [old, *self._others(old)] if old.role in {"gain", "loss"} else [old]
            before = [(each, each.holds) for each in family]
            for each in family:  # its own shares are free for the order that goes on
                each.holds = ZERO
            status, old.status = old.status, "replaced"
            accepted = self._admit(new, asked.at, is_new=False)
            for each, holds in before:
                each.holds = holds
            if not accepted:
                old.status = status
                return
            if old.role:
                new.holds = old.holds
        for other in self._others(old) if tif != old.tif else ():  # a group has one time in force
            other.tif, other.expires = tif, new.expires
        old.status, old.holds = "replaced", ZERO
        self.orders[new.id] = new

    def _base(self, order: Order) -> Decimal | None:
        """The price around which the exits of an entry lie, or that of the market beyond which a stop does."""
        own = order.limit or order.stop if order.role == "entry" else None
        return own or self._last(order.symbol)

    def _last(self, symbol: str) -> Decimal | None:
        return self.newest[symbol].last if symbol in self.newest else None

    def _misplaces(self, old: Order, new: Order, *, stop: Decimal | None) -> bool:
        """True if the new prices put an exit on the wrong side."""
        others = self._others(old)
        gain, loss = (
            next((each.limit if role == "gain" else each.stop for each in (new, *others) if each.role == role), None)
            for role in ("gain", "loss")
        )
        if new.role == "entry":
            return _misplaced(self._base(new), gain, loss, sells=new.buys)
        if new.role and gain is not None and loss is not None and (gain <= loss if not new.buys else gain >= loss):
            return True
        entry = next((each for each in others if each.role == "entry"), None)
        if new.role and entry is not None:
            return _misplaced(self._base(entry), gain, loss, sells=not new.buys)
        return bool(new.role and stop and _misplaced(self._base(new), None, loss, sells=not new.buys))

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


def _misplaced(base: Decimal | None, gain: Decimal | None, loss: Decimal | None, *, sells: bool) -> bool:
    """True if exits that sell, or buy, do not lie at least a tick above and below the base."""
    if base is None:
        return False
    tick = CENT if base >= 1 else Decimal("0.0001")
    high, low = (gain, loss) if sells else (loss, gain)
    return (high is not None and high < base + tick) or (low is not None and low > base - tick)


def _fits(old: Order, asked: Replace) -> bool:
    """True if the order can be changed in this way."""
    if old.qty is None or (asked.qty is not None and (asked.qty <= old.filled or old.role in {"gain", "loss"})):
        return False
    tif = asked.tif or old.tif
    if ((asked.qty or old.qty) - old.filled) % 1 and tif != "day":
        return False
    if tif not in {"day", "gtc"} and (old.role or old.type not in {"market", "limit"}):
        return False
    no_trail = asked.trail is None or old.type == "trailing_stop"
    no_limit = asked.limit is None or old.limit is not None
    return no_trail and no_limit and (asked.stop is None or old.stop is not None)
