"""The replay: each symbol's recorded bars one after the other as live quotes, then the simulated walk.

Every symbol starts at its own first bar, so that all of them move from the first second. The walk goes on from a
symbol's last price after its last bar, so that the demo never ends.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Self

from services.marketdata.domain import simulated
from services.marketdata.domain.quote import SPREAD_BPS, Quote, quote_of_bar, spread_around
from services.marketdata.domain.recorded import RecordedDay
from shared.money import ZERO

NAME = "replay"
_LEAST_SIZE = Decimal(100)
_VOLUME_PER_SIZE = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A symbol's place in the replay: ``cursor`` counts its steps so far, ``last`` is the newest step's price."""

    cursor: int
    last: Decimal


@dataclass(frozen=True, slots=True)
class ReplayState:
    """The places of all symbols. A symbol without one starts at its first bar."""

    seed: int
    places: Mapping[str, Place]

    def as_json(self) -> dict[str, Any]:
        """``{"seed": 1, "places": {"IBM": {"cursor": 2, "last": "103.12"}}}``."""
        places = {symbol: {"cursor": place.cursor, "last": str(place.last)} for symbol, place in self.places.items()}
        return {"seed": self.seed, "places": places}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        places = {symbol: Place(place["cursor"], Decimal(place["last"])) for symbol, place in data["places"].items()}
        return cls(data["seed"], places)


class Replay:
    """``spread_bps`` is the whole spread assumed around a recorded price, in basis points of it."""

    def __init__(self, bars: Mapping[str, tuple[RecordedDay, ...]], *, spread_bps: Decimal = SPREAD_BPS) -> None:
        self._bars = bars
        self._spread_bps = spread_bps

    def next_quotes(self, state: ReplayState, symbols: Iterable[str], now: datetime) -> tuple[list[Quote], ReplayState]:
        """The next quote of each of the symbols that were recorded, and the state after it."""
        quotes, places = [], dict(state.places)
        for symbol in symbols:
            if symbol not in self._bars:
                continue
            bars, place = self._bars[symbol], self._place(symbol, state)
            if place.cursor < len(bars):
                bar = bars[place.cursor]
                quote = self._quote(bar, quoted_size(bar.volume), now)
            else:
                quote = simulated.next_quote(
                    symbol, place.last, place.cursor, state.seed, now, spread_bps=self._spread_bps
                )
            quotes.append(quote)
            places[symbol] = Place(place.cursor + 1, quote.last)
        return quotes, ReplayState(state.seed, places)

    def current_quotes(self, state: ReplayState, symbols: Iterable[str], now: datetime) -> list[Quote]:
        """The state's prices again, with a bar in which nothing traded. Before the first bar: its open."""
        quotes = []
        for symbol in symbols:
            if symbol not in self._bars:
                continue
            bars, place = self._bars[symbol], self._place(symbol, state)
            newest = bars[min(max(place.cursor, 1), len(bars)) - 1]
            last = place.last
            untraded = replace(newest, open=last, high=last, low=last, close=last, volume=ZERO)
            provider = NAME if place.cursor <= len(bars) else simulated.NAME
            quotes.append(self._quote(untraded, quoted_size(newest.volume), now, provider))
        return quotes

    def day(self, state: ReplayState, symbols: Collection[str]) -> date | None:
        """The day of the newest bar of that symbol which is the furthest back. None before the first bar."""
        played = [
            bars[min(place.cursor, len(bars)) - 1].date
            for symbol, place in state.places.items()
            if symbol in symbols and place.cursor and (bars := self._bars.get(symbol))
        ]
        return min(played, default=None)

    def days(self) -> tuple[date, date]:
        """The first and the last recorded day."""
        series = self._bars.values()
        return min(bars[0].date for bars in series), max(bars[-1].date for bars in series)

    def at(self, day: date, seed: int) -> ReplayState:
        """The state in which the next bar of each symbol is its first one on that day or later."""
        places = {}
        for symbol, bars in self._bars.items():
            cursor = bisect_left(bars, day, key=lambda bar: bar.date)
            if cursor:
                places[symbol] = Place(cursor, bars[cursor - 1].close)
        return ReplayState(seed, places)

    def _place(self, symbol: str, state: ReplayState) -> Place:
        return state.places.get(symbol) or Place(0, self._bars[symbol][0].open)

    def _quote(self, bar: RecordedDay, size: Decimal, now: datetime, provider: str = NAME) -> Quote:
        return quote_of_bar(bar, now, provider, sides=spread_around(bar.close, self._spread_bps), size=size)


def quoted_size(volume: Decimal) -> Decimal:
    """A hundredth of the bar's volume in whole shares, at least a round lot."""
    return max(_LEAST_SIZE, volume // _VOLUME_PER_SIZE)


#: The keys of a state that control keeps: a step of the replay leaves them as they are.
_KEPT = ("paused", "speed")


def kept(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part of the state that a step does not change."""
    return {name: state[name] for name in _KEPT if name in state} if state else {}


def is_paused(state: Mapping[str, Any] | None) -> bool:
    return bool((state or {}).get("paused"))


def midnight(day: date) -> datetime:
    """The start of a daily bar."""
    return datetime.combine(day, time(), UTC)
