"""The provider ``replay``: recorded prices, one bar at each step, and their control.

The recorded prices that come with the service are daily ones. ``TapeProvider`` replays the bars of a file.
"""

import gzip
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

from services.marketdata.domain import replay
from services.marketdata.domain.bar import Bar
from services.marketdata.domain.quote import SPREAD_BPS
from services.marketdata.domain.recorded import RecordedDay, recorded_bars
from services.marketdata.domain.replay import Replay, ReplayState, is_paused, kept, midnight
from services.marketdata.domain.replay_control import controlled
from services.marketdata.domain.replay_tape import Tape
from services.marketdata.providers.stateful import Answer, ProviderState
from shared.bar_files import WrongFile, read_file
from shared.contracts.bars import WrongBar
from shared.contracts.replay import ReplayControl
from shared.resilience.rate_limits import Rate

RECORDING = Path(__file__).parents[1] / "data" / "daily_prices.csv.gz"
#: The bars of a file, which are held in memory: about 300 MB.
MOST_BARS = 500_000


class Controlled(ABC):
    """A replay that can be paused, moved and sped up. Its state says so to every replica."""

    name = replay.NAME
    rate: Rate | None = None
    official = False

    def control(self, state: ProviderState | None, control: ReplayControl) -> ProviderState:
        """The state after the change."""
        after = controlled(state or self.begin(), control)
        return {**after, **self.place_at(after, control.at)} if control.at is not None else after

    @abstractmethod
    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        """The newest prices again."""

    @abstractmethod
    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        """The next bars. None while it is paused."""

    @abstractmethod
    def begin(self) -> ProviderState:
        """The state before the first bar."""

    @abstractmethod
    def place_at(self, state: ProviderState, at: datetime) -> ProviderState:
        """The place from which the next bar is the first that starts at that time or later."""


class ReplayProvider(Controlled):
    """The recorded bars, one at each ``advance``. ``poll`` repeats the newest price and does not move on.

    ``seed`` is that of the walk after the last bar. A stored state keeps the seed that it began with.
    """

    def __init__(
        self, bars: Mapping[str, tuple[RecordedDay, ...]], *, seed: int, spread_bps: Decimal = SPREAD_BPS
    ) -> None:
        self._replay = Replay(bars, spread_bps=spread_bps)
        self._seed = seed

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        return self._replay.current_quotes(self._read(state), symbols, now), state

    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        if is_paused(state):
            return [], state
        quotes, after = self._replay.next_quotes(self._read(state), symbols, now)
        return quotes, {**kept(state), **self._told(after, symbols)}

    def begin(self) -> ProviderState:
        return self._told(self._read(None))

    def place_at(self, state: ProviderState, at: datetime) -> ProviderState:
        return self._told(self._replay.at(at.date(), self._read(state).seed))

    def _read(self, state: ProviderState | None) -> ReplayState:
        fits = state is not None and "places" in state
        return ReplayState.from_json(state) if state is not None and fits else ReplayState(self._seed, {})

    def _told(self, state: ReplayState, symbols: Sequence[str] | None = None) -> ProviderState:
        """The state as it is stored, with what people want to know of it."""
        moved = state.places.keys() if symbols is None else symbols
        day, (first, last) = self._replay.day(state, moved), self._replay.days()
        told = {"at": day and midnight(day).isoformat(), "file": None}
        return {**state.as_json(), **told, "first": midnight(first).isoformat(), "last": midnight(last).isoformat()}


class TapeProvider(Controlled):
    """The bars of a file, one time at each ``advance``. Another file begins at its first bar.

    The state is ``{"file": "spy.csv", "at": "2026-03-09T14:30:00+00:00"}``, with what people want to know of it.
    """

    def __init__(self, file: str, bars: Iterable[Bar], *, spread_bps: Decimal = SPREAD_BPS) -> None:
        self._tape = Tape(bars, spread_bps=spread_bps)
        self._file = file

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        return self._tape.current_quotes(self._at(state), symbols, now), state

    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        if is_paused(state):
            return [], state
        quotes, at = self._tape.next_quotes(self._at(state), set(symbols), now)
        return quotes, {**kept(state), **self._told(at)} if quotes else state

    def begin(self) -> ProviderState:
        return self._told(None)

    def place_at(self, state: ProviderState, at: datetime) -> ProviderState:
        del state
        return self._told(self._tape.before(at))

    def _at(self, state: ProviderState | None) -> datetime | None:
        mine = state is not None and state.get("file") == self._file and state.get("at")
        return datetime.fromisoformat(mine) if mine else None

    def _told(self, at: datetime | None) -> ProviderState:
        ends = {"first": self._tape.first.isoformat(), "last": self._tape.last.isoformat()}
        return {"file": self._file, "at": at and at.isoformat(), **ends}


@cache
def recording() -> Mapping[str, tuple[RecordedDay, ...]]:
    """The recorded daily prices that come with the service: symbol → bars, oldest first."""
    with gzip.open(RECORDING, "rt", encoding="ascii", newline="") as lines:
        return recorded_bars(lines)


def recording_between(first: date | None, last: date | None) -> Mapping[str, tuple[RecordedDay, ...]]:
    """The recorded prices of the symbols that have any in that time. Raises WrongFile if none has."""
    chosen = {
        symbol: tuple(bar for bar in bars if (first or bar.date) <= bar.date <= (last or bar.date))
        for symbol, bars in recording().items()
    }
    found = {symbol: bars for symbol, bars in chosen.items() if bars}
    if not found:
        raise WrongFile("there are no recorded prices in that time: choose one between 2000-03-01 and 2013-03-01")
    return found


def bars_of_file(path: Path, first: date | None, last: date | None, now: datetime) -> list[Bar]:
    """The bars of a file that start in that time. Raises WrongFile for the first that is wrong.

    A replay has one interval, and at most MOST_BARS bars.
    """
    bars: list[Bar] = []
    for line, read in read_file(path, now, interval=None, provider=replay.NAME):
        if isinstance(read, WrongBar):
            raise WrongFile(f"{path.name}, line {line}, {read}")
        if (first or read.start.date()) <= read.start.date() <= (last or read.start.date()):
            bars.append(Bar(*read))
            if len(bars) > MOST_BARS:
                raise WrongFile(f"{path.name}: has more than {MOST_BARS} bars: choose a shorter time")
    if not bars:
        raise WrongFile(f"{path.name}: has no bars in that time")
    intervals = sorted({bar.interval for bar in bars})
    if len(intervals) > 1:
        raise WrongFile(f"{path.name}: has bars of {', '.join(intervals)}: a replay needs a file of one interval")
    return bars
