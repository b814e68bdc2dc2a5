"""The tape: quotes made from recorded days, and what a trader does between them, drawn by a seed.

Each symbol has a few quotes a day, whose last prices are the recorded open, low, high and close and prices between
them; the last trade lies at the bid, at the ask or between the two, as trades do. The actions after a quote come
before the next quote of its symbol. Orders arrive within sessions only, so each has a quote before its day ends.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from services.marketdata.domain.quote import TICK
from services.marketdata.domain.recorded import RecordedDay
from services.marketdata.providers.replay import recording

SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
#: The autumn of 2008 and what followed: nights with gaps, and days with wide ranges.
FIRST_DAY = date(2008, 3, 3)
DAYS, QUOTES_A_DAY = 400, 8
OPENS, CLOSES, APART = time(14, 30, tzinfo=UTC), time(21, tzinfo=UTC), timedelta(minutes=50)
#: Most orders are smaller than any quote's size; some are larger than many.
SMALL, LARGE, SIZES = (1, 80), (150, 1500), (100, 1000)


@dataclass(frozen=True)
class Quote:
    """Prices in US dollars, sizes in shares. ``number`` counts the quotes of all symbols from one."""

    number: int
    symbol: str
    at: datetime
    bid: Decimal
    ask: Decimal
    last: Decimal
    bid_size: int
    ask_size: int


@dataclass(frozen=True)
class Submit:
    """An order, or an entry with the exits ``gain`` and ``loss``, which are orders ``id`` + 1 and ``id`` + 2.

    ``ends_at``: the end of the session, where the order is one of the day.
    """

    id: int
    symbol: str
    at: datetime
    side: str
    type: str
    time_in_force: str
    qty: int
    ends_at: datetime
    limit: Decimal | None = None
    stop: Decimal | None = None
    trail: Decimal | None = None
    gain: Decimal | None = None
    loss: Decimal | None = None

    @property
    def is_bracket(self) -> bool:
        return self.gain is not None


@dataclass(frozen=True)
class Cancel:
    id: int
    symbol: str
    at: datetime


@dataclass(frozen=True)
class Replace:
    """A field that is None stays as it is. ``qty`` is the order's whole quantity."""

    id: int
    symbol: str
    at: datetime
    qty: int | None = None
    limit: Decimal | None = None
    stop: Decimal | None = None


Event = Quote | Submit | Cancel | Replace


def make_tape(seed: int, days: int = DAYS) -> list[Event]:
    """The same events for the same seed, in the order of their times."""
    random = Random(seed)
    recorded = {symbol: [bar for bar in recording()[symbol] if bar.date >= FIRST_DAY] for symbol in SYMBOLS}
    trader = _Trader(random)
    events: list[Event] = []
    for day in range(days):
        for quote in _quotes(random, {symbol: recorded[symbol][day] for symbol in SYMBOLS}, day):
            events += [quote, *trader.after(quote)]
    return sorted(events, key=lambda event: event.at)


def _quotes(random: Random, bars: Mapping[str, RecordedDay], day: int) -> Iterator[Quote]:
    """A day's quotes, a few of each symbol. One symbol's come a second after the other's."""
    lasts = {symbol: _lasts(random, bar) for symbol, bar in bars.items()}
    for nth in range(QUOTES_A_DAY):
        for place, (symbol, bar) in enumerate(bars.items()):
            at = datetime.combine(bar.date, OPENS) + nth * APART + timedelta(seconds=place)
            last = lasts[symbol][nth]
            below, above = random.choice([(0, 1), (1, 0), (0, 2), (2, 0), (1, 1), (1, 2), (2, 1)])
            number = (day * QUOTES_A_DAY + nth) * len(bars) + place + 1
            sizes = random.randint(*SIZES), random.randint(*SIZES)
            yield Quote(number, symbol, at, last - below * TICK, last + above * TICK, last, *sizes)


def _lasts(random: Random, bar: RecordedDay) -> list[Decimal]:
    between = [bar.low, bar.high]
    while len(between) < QUOTES_A_DAY - 2:
        between.append(_cents(bar.low + (bar.high - bar.low) * random.randint(0, 1000) / 1000))
    random.shuffle(between)
    return [_cents(price) for price in (bar.open, *between, bar.close)]


def _cents(price: Decimal) -> Decimal:
    return price.quantize(TICK)


class _Trader:
    """Sends about nine orders in ten quotes, and changes or cancels some that may still be open."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._next = 1
        #: Per symbol, the orders that have seen a quote, and those that have not.
        self._seen: dict[str, list[Submit]] = {symbol: [] for symbol in SYMBOLS}
        self._new: dict[str, list[Submit]] = {symbol: [] for symbol in SYMBOLS}

    def after(self, quote: Quote) -> Iterator[Event]:
        self._seen[quote.symbol] = [*self._seen[quote.symbol], *self._new[quote.symbol]][-12:]
        self._new[quote.symbol] = []
        if quote.at + APART >= datetime.combine(quote.at, CLOSES):
            return
        at = quote.at + timedelta(minutes=1)
        if self._random.random() < 0.9:
            order = self._order(quote, at)
            self._new[quote.symbol].append(order)
            yield order
        if self._seen[quote.symbol] and self._random.random() < 0.25:
            old = self._random.choice(self._seen[quote.symbol])
            yield self._change(old, quote, at + timedelta(minutes=1))

    def _order(self, quote: Quote, at: datetime) -> Submit:
        kinds = {"market": 25, "limit": 30, "stop": 13, "stop_limit": 12, "trailing_stop": 12, "bracket": 8}
        (kind,) = self._random.choices(list(kinds), list(kinds.values()))
        order_id, self._next = self._next, self._next + (3 if kind == "bracket" else 1)
        large = (
            kind != "bracket" and self._random.random() < 0.06
        )  # NautilusTrader aborts where both exits fill in parts
        common: dict[str, Any] = {
            "id": order_id,
            "symbol": quote.symbol,
            "at": at,
            "side": self._random.choice(["buy", "sell"]),
            "qty": self._random.randint(*(LARGE if large else SMALL)),
            "ends_at": datetime.combine(quote.at, CLOSES),
        }
        return Submit(**common, **self._terms(kind, common["side"] == "buy", quote.last))

    def _terms(self, kind: str, buys: bool, last: Decimal) -> dict[str, Any]:
        lasting = self._random.choice(["day", "gtc"])
        at_once = self._random.choice(["day", "gtc", "ioc", "fok"])
        sign = 1 if buys else -1
        match kind:
            case "market":
                return {"type": kind, "time_in_force": at_once}
            case "limit":
                return {"type": kind, "time_in_force": at_once, "limit": self._near(last, -sign, -5)}
            case "stop":
                return {"type": kind, "time_in_force": lasting, "stop": self._near(last, sign, -2)}
            case "stop_limit":
                stop = self._near(last, sign, -2)
                limit = self._near(stop, sign, -4)
                return {"type": kind, "time_in_force": lasting, "stop": stop, "limit": limit}
            case "trailing_stop":
                trail = _cents(last * self._random.randint(2, 40) / 1000)
                return {"type": kind, "time_in_force": lasting, "trail": trail}
        entry = self._random.choice(["market", "limit"])
        entry_limit = self._near(last, -sign, -5) if entry == "limit" else None
        base = entry_limit or last
        exits = {"gain": self._near(base, sign, 8, 60), "loss": self._near(base, -sign, 8, 60)}
        return {"type": entry, "time_in_force": "gtc", "limit": entry_limit, **exits}

    def _near(self, price: Decimal, sign: int, least: int, most: int = 30) -> Decimal:
        """Between ``least`` and ``most`` thousandths away, above for a positive sign."""
        return _cents(price * (1000 + sign * self._random.randint(least, most)) / 1000)

    def _change(self, old: Submit, quote: Quote, at: datetime) -> Event:
        sign = 1 if old.side == "buy" else -1
        plain = old.type in {"limit", "stop", "stop_limit"} and not old.is_bracket
        if not plain or old.time_in_force in {"ioc", "fok"} or self._random.random() < 0.3:
            return Cancel(old.id, old.symbol, at)
        qty = max(1, old.qty + self._random.randint(-9, 40)) if self._random.random() < 0.5 else None
        if old.type == "stop":
            return Replace(old.id, old.symbol, at, qty, stop=self._near(quote.last, sign, -2))
        return Replace(old.id, old.symbol, at, qty, limit=self._near(quote.last, -sign, -5))


def to_json(event: Event) -> str:
    """One line with its kind and its fields that are not None. Times are nanoseconds since 1970."""
    fields = {name: _plain(value) for name, value in asdict(event).items() if value is not None}
    return json.dumps({"kind": type(event).__name__.lower(), **fields})


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return int(value.timestamp()) * 10**9
    return str(value) if isinstance(value, Decimal) else value
