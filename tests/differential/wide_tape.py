"""A tape for the reference of the stated rules: every kind of order and of quote, drawn by a seed.

Last trades lie outside of the quote, quotes have one side, are crossed or have no size, prices jump overnight, and days
are short. Several accounts want the same liquidity. Every event has a time of its own.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from tests.differential.events import Auction, Cancel, Event, Replace, Session, Submit, Trader, Update

SHARE = Decimal("0.5")
TRADERS = (
    Trader(1, shorts=True, in_bars=True, share=Decimal(1)),
    Trader(2, in_bars=True, share=SHARE),
    Trader(3, in_bars=True, slippage=Decimal(5)),
    Trader(4, shorts=True, share=SHARE),
    Trader(5, shorts=True, in_bars=True, latency=timedelta(seconds=40)),
    Trader(6, in_bars=True, share=SHARE),
    Trader(7, shorts=True, in_bars=True, volume_slippage=Decimal("0.1")),
)
#: Symbol → its first price. The cheap one trades in hundredths of a cent.
SYMBOLS = {"BIG": Decimal("104.50"), "MID": Decimal("20.10"), "LOW": Decimal("0.8200")}
FIRST_DAY = date(2026, 11, 23)
#: Minutes after midnight UTC: updates before the open, in the session, after the close, and in the night.
EARLY, LATE = (10 * 60, 13 * 60), 23 * 60
SIZES = (0, 40)
TIMES_IN_FORCE = ["day", "gtc", "ioc", "fok", "opg", "cls"]
KINDS = {"market": 20, "limit": 30, "stop": 12, "stop_limit": 10, "trailing_stop": 10, "group": 18}


def sessions(days: int) -> list[Session]:
    """New York's weekdays from the first day on, and a week more. Every third day is short."""
    found: list[Session] = []
    day = FIRST_DAY
    while len(found) < days + 5:
        if day.weekday() < 5:
            closes, ends = (time(18), time(22)) if len(found) % 3 == 2 else (time(21), time(23, 59))
            clocks = (time(9), time(14, 30), closes, ends)
            found.append(Session(day, *(datetime.combine(day, clock, UTC) for clock in clocks)))
        day += timedelta(days=1)
    return found


def make_wide_tape(seed: int, days: int) -> list[Event]:
    """The same events for the same seed, in the order of their times."""
    return list(Drawing(seed, days).events())


class Drawing:
    """Draws what traders and the market do next. ``lasts`` are the last prices, by symbol."""

    def __init__(self, seed: int, days: int) -> None:
        self._random = Random(seed)
        self._days = sessions(days)[:days]
        self.lasts = dict(SYMBOLS)
        self._updated: dict[str, datetime] = {}
        self._numbers = self._orders = 0
        #: Orders that may still be open, with their terms.
        self._known: list[Submit] = []

    def events(self) -> Iterator[Event]:
        for session in self._days:
            yield from self._day(session)

    def _day(self, session: Session) -> Iterator[Event]:
        for symbol in SYMBOLS:
            self.lasts[symbol] = self._tick(self.lasts[symbol] * self._random.randint(930, 1070) / 1000)
        opened = closed = False
        for at in self._times(session):
            if not opened and at > session.opens:
                yield from self._auctions(session, "opg", session.opens)
                opened = True
            if not closed and at > session.closes:
                yield from self._auctions(session, "cls", session.closes)
                closed = True
            yield from self._around(at)

    def _times(self, session: Session) -> list[datetime]:
        """The beginnings of two minutes each, most of them in the regular session."""
        long = int((session.closes - session.opens) / timedelta(minutes=5))
        regular = [session.opens + timedelta(minutes=5 * n, seconds=7) for n in range(long)]
        before = [session.begins + timedelta(minutes=40 * n, seconds=7) for n in range(-2, 8)]
        after = [session.closes + timedelta(minutes=20 * n, seconds=7) for n in range(12)]
        return sorted(
            set(self._random.sample(regular, 16))
            | set(self._random.sample(before, 3))
            | {after[0], self._random.choice(after)}
        )

    def _around(self, at: datetime) -> Iterator[Event]:
        """Orders of several traders, and then an update of each symbol."""
        for symbol in SYMBOLS:
            for _ in range(self._random.choice([0, 1, 1, 2, 3])):
                at += timedelta(seconds=1)
                yield self.order(symbol, at)
            if self._known and self._random.random() < 0.6:
                at += timedelta(seconds=1)
                yield self._change(self._random.choice(self._known[-self._random.choice([6, 25]) :]), at)
        for symbol in SYMBOLS:
            at += timedelta(seconds=self._random.choice([1, 20]))
            yield self.update(symbol, at)

    def _auctions(self, session: Session, tif: str, at: datetime) -> Iterator[Event]:
        for nth, symbol in enumerate(SYMBOLS):
            if self._random.random() < 0.9:
                volume = self._random.choice([None, Decimal(self._random.randint(0, 60))])
                price = self._near(self.lasts[symbol], 1, -8, 8)
                self._numbers += 1
                held_at = at + timedelta(milliseconds=nth)
                yield Auction(self._numbers, symbol, tif, session.day, held_at, price, volume)

    def update(self, symbol: str, at: datetime) -> Update:
        """The next price. The market may have jumped."""
        random, first = self._random, self.lasts[symbol]
        path = [first, *(self._near(first, 1, -9, 9) for _ in range(random.choice([1, 3])))]
        if random.random() < 0.1:
            path[0] = self._near(first, 1, -40, 40)  # a gap
        last = self.lasts[symbol] = path[-1]
        before = self._updated.get(symbol)
        same_day = before if before is not None and before.date() == at.date() else None
        self._updated[symbol] = at
        self._numbers += 1
        return Update(
            self._numbers, symbol, at, *self._quote(last), last, path[0], max(path), min(path),
            Decimal(random.randint(*SIZES) * random.choice([0, 1, 5])),
            since=before if random.random() < 0.95 else None,
            bar_start=random.choice([None, same_day, at - timedelta(seconds=random.randint(30, 360))]),
            known=at + random.choice([*[timedelta(0)] * 40, timedelta(minutes=5), timedelta(minutes=-5)]),
        )  # fmt: skip

    def _quote(self, last: Decimal) -> tuple[Decimal | None, Decimal | None, Decimal | None, Decimal | None]:
        """Bid, ask and their sizes, with the last trade inside of the quote or not."""
        random = self._random
        middle = last if random.random() < 0.8 else self._near(last, 1, -6, 6)
        bid, ask = (self._near(middle, sign, 0, 3) for sign in (-1, 1))
        kind = random.choices(["usual", "none", "bid", "ask", "crossed", "locked"], [80, 6, 4, 4, 3, 3])[0]
        sizes = [random.choice([None, *[Decimal(random.randint(*SIZES))] * 9, ZERO]) for _ in range(2)]
        if kind == "usual":
            bid, ask = (bid, ask) if bid < ask else (bid - self._step(bid), ask)
        if kind == "locked":
            ask = bid
        if kind == "crossed":
            bid, ask = self._near(middle, 1, 2, 4), self._near(middle, -1, 2, 4)
        has_bid, has_ask = kind not in {"none", "ask"}, kind not in {"none", "bid"}
        return (
            bid if has_bid else None, ask if has_ask else None,
            sizes[0] if has_bid else None, sizes[1] if has_ask else None,
        )  # fmt: skip

    def order(self, symbol: str, at: datetime) -> Submit:
        """An order of one of the traders, near the last price."""
        self._orders += 1
        last, side = self.lasts[symbol], self._random.choice(["buy", "buy", "sell", "sell", "buy"])
        common: dict[str, Any] = {
            "id": str(self._orders), "trader": self._random.choice(TRADERS).name, "symbol": symbol, "at": at,
            "side": side,
        }  # fmt: skip
        made = Submit(**common, **self._terms(side == "buy", last))
        if made.tif not in {"ioc", "fok"}:
            self._known = [*self._known, made][-25:]
        return made

    def _terms(self, buys: bool, last: Decimal) -> dict[str, Any]:
        random, sign = self._random, 1 if buys else -1
        kind = random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "group":
            return self._group(buys, last)
        terms: dict[str, Any] = {"type": kind, **self._size(kind)}
        fractional = terms.get("qty") is None or terms["qty"] % 1
        at_once = kind in {"market", "limit"}
        terms["tif"] = "day" if fractional else random.choice(TIMES_IN_FORCE if at_once else ["day", "gtc"])
        if kind == "limit":
            terms["limit"] = self._near(last, -sign, -9, 15)
            terms["extended"] = terms["tif"] in {"day", "gtc"} and random.random() < 0.4
        if kind in {"stop", "stop_limit"}:
            terms["stop"] = self._near(last, sign, -3, 15)
        if kind == "stop_limit":
            terms["limit"] = self._near(terms["stop"], sign, -4, 15)
        if kind == "trailing_stop":
            trail = {"trail": self._tick(last * random.randint(3, 25) / 1000)}
            terms |= random.choice([trail, {"trail_percent": Decimal(random.randint(3, 25)) / 10}])
        return terms

    def _size(self, kind: str) -> dict[str, Any]:
        random = self._random
        if kind == "market" and random.random() < 0.25:
            return {"notional": Decimal(random.randint(500, 200_000)) / 100}
        if random.random() < 0.1:
            return {"qty": Decimal(random.randint(10**9, 30 * 10**9)) / 10**9}
        return {"qty": Decimal(random.choice([random.randint(1, 30), random.randint(30, 60)]))}

    def _group(self, buys: bool, last: Decimal) -> dict[str, Any]:
        """A bracket, an oto with either exit, or an oco order. A stop-loss may have a limit."""
        random = self._random
        order_class = random.choice(["bracket", "bracket", "oto", "oco", "oco"])
        up = 1 if buys != (order_class == "oco") else -1
        wrong = random.choices(["gain", "loss", None], [1, 1, 18])[0]  # at the market, or on the wrong side of it
        away = {name: (-3, 3) if name == wrong else (12, 30) for name in ("gain", "loss")}
        loss = self._near(last, -up, *away["loss"])
        exits: dict[str, Any] = {"gain": self._near(last, up, *away["gain"]), "loss": loss}
        if random.random() < 0.3:
            exits["loss_limit"] = self._near(loss, -up, 2, 9)
        terms = {
            "qty": Decimal(random.randint(2, 30)),
            "tif": random.choice(["day", "gtc"]),
            "order_class": order_class,
        }
        if order_class == "oco":
            return {**terms, **exits, "type": "limit", "limit": exits["gain"]}
        if order_class == "oto":
            exits = random.choice([{"gain": exits["gain"]}, {k: v for k, v in exits.items() if k != "gain"}])
        if random.random() < 0.4:
            return {**terms, **exits, "type": "market"}
        return {**terms, **exits, "type": "limit", "limit": self._near(last, -up, -9, 9)}

    def _change(self, old: Submit, at: datetime) -> Event:
        random, up = self._random, 1 if old.side == "buy" else -1
        role = random.choice(["", "", *(f"/{name}" for name in ("gain", "loss") if getattr(old, name) is not None)])
        if role == "/gain" and old.order_class == "oco":
            role = ""
        if random.random() < 0.25:
            return Cancel(old.id + role, at)
        change: dict[str, Any] = {}
        if role == "/gain":
            change["limit"] = self._near(old.gain or self.lasts[old.symbol], up, -3, 3)
        elif role == "/loss":
            change["stop"] = self._near(old.loss or self.lasts[old.symbol], up, -3, 3)
        else:
            change = self._own_change(old, up)
        new = f"{old.id}{role}~{self._numbers}.{random.randint(0, 999)}"
        if not role:
            self._known.append(Submit(**{**vars(old), "id": new, "order_class": "simple", "gain": None, "loss": None}))
        return Replace(old.id + role, new, at, **change)

    def _own_change(self, old: Submit, up: int) -> dict[str, Any]:
        random, last = self._random, self.lasts[old.symbol]
        changes: dict[str, Any] = {"qty": Decimal(random.randint(1, 40)), "tif": random.choice(TIMES_IN_FORCE)}
        own = old.limit or last
        if old.order_class == "oco":
            return random.choice([{"limit": self._near(own, up, -3, 3)}, {"tif": random.choice(["day", "gtc"])}])
        if old.limit is not None:
            changes["limit"] = (
                self._near(last, -up, -9, 15) if old.order_class == "simple" else self._near(own, up, -3, 3)
            )
        if old.stop is not None:
            changes["stop"] = self._near(last, up, -3, 15)
        if old.type == "trailing_stop":
            changes["trail"] = (
                self._tick(last * random.randint(3, 25) / 1000) if old.trail else Decimal(random.randint(3, 25)) / 10
            )
        names = random.sample(sorted(changes), random.randint(1, min(2, len(changes))))
        return {name: changes[name] for name in names}

    def _near(self, price: Decimal, sign: int, least: int, most: int) -> Decimal:
        """Between ``least`` and ``most`` thousandths away, above for a positive sign."""
        return self._tick(price * (1000 + sign * self._random.randint(least, most)) / 1000)

    def _tick(self, price: Decimal) -> Decimal:
        return max(price.quantize(self._step(price)), self._step(price))

    def _step(self, price: Decimal) -> Decimal:
        return Decimal("0.01") if price >= 1 else Decimal("0.0001")


ZERO = Decimal(0)
