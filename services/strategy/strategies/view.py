"""The view of a strategy: bars, indicators, quotes, positions, the account and the time, all as values.

Live trading, a replay and a backtest build the same views. A view ends at one moment: it holds no bar that ended later.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from shared.money import ZERO


@dataclass(frozen=True, slots=True)
class Bar:
    """One interval of a symbol in today's shares: prices in its currency, volume in units. ``start`` is aware."""

    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


@dataclass(frozen=True)
class Indicator:
    """An indicator that a strategy wants computed: its name, such as ``sma``, and its parameters.

    ``output`` chooses one of an indicator with several values, such as ``signal`` of ``macd``.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    output: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """A symbol's bars, oldest first, and its indicators by the strategy's own names, one value for each bar.

    A value is None until the indicator has enough bars.
    """

    bars: Sequence[Bar]
    indicators: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, slots=True)
class Quote:
    """The newest price. ``bid`` and ``ask`` are None where the provider has none."""

    last: Decimal
    at: datetime
    bid: Decimal | None = None
    ask: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """The strategy's own shares of a symbol: negative where it is short.

    ``entered_at`` is the market's time of the oldest open lot, ``entry_price`` the average price of a share in the
    instrument's currency. ``buying`` and ``selling`` are the shares of the strategy's open orders. ``others`` are the
    shares of the account that are not the strategy's.
    """

    qty: Decimal = ZERO
    entry_price: Decimal | None = None
    entered_at: datetime | None = None
    buying: Decimal = ZERO
    selling: Decimal = ZERO
    others: Decimal = ZERO

    @property
    def is_open(self) -> bool:
        """True if shares are held or ordered."""
        return bool(self.qty or self.buying or self.selling)


@dataclass(frozen=True, slots=True)
class Account:
    """The account in its own currency. ``shorting``: it may sell short."""

    equity: Decimal
    cash: Decimal
    buying_power: Decimal
    currency: str = "USD"
    shorting: bool = True


@dataclass(frozen=True, slots=True)
class Session:
    """Regular trading of the market's day. Both times are None for a market that never closes."""

    open_at: datetime | None = None
    close_at: datetime | None = None


NO_POSITION = Position()
WHOLE = Decimal(1)
NO_SESSION = Session()


class SymbolView:
    """One symbol at one moment. ``at`` is the index of its newest complete bar, -1 where there is none.

    A backtest moves one view along its history. A strategy must not keep it.
    """

    __slots__ = ("_history", "at", "position", "quote", "rate", "session", "symbol")

    def __init__(
        self,
        symbol: str,
        history: History,
        at: int,
        position: Position = NO_POSITION,
        quote: Quote | None = None,
        session: Session = NO_SESSION,
        rate: Decimal | None = WHOLE,
    ) -> None:
        self.symbol = symbol
        self._history = history
        self.at = at
        self.position = position
        self.quote = quote
        self.session = session
        #: The price of a unit of the symbol's currency in the account's, None where it is not known.
        self.rate = rate

    @property
    def value_held(self) -> Decimal | None:
        """The value of the position at the newest close, in the account's currency. None where it is not known."""
        close = self.close
        return None if close is None or self.rate is None else self.position.qty * close * self.rate

    @property
    def bar(self) -> Bar | None:
        """The newest complete bar."""
        return self._history.bars[self.at] if self.at >= 0 else None

    @property
    def close(self) -> Decimal | None:
        """The close of the newest complete bar."""
        return self._history.bars[self.at].close if self.at >= 0 else None

    def bars(self, count: int) -> Sequence[Bar]:
        """The last ``count`` complete bars, oldest first. Fewer where there are not so many."""
        return self._history.bars[max(0, self.at + 1 - count) : self.at + 1]

    def bars_since_entry(self) -> Sequence[Bar]:
        """The complete bars that began after the position was entered, oldest first."""
        entered, bars = self.position.entered_at, self._history.bars
        if entered is None:
            return ()
        return bars[bisect_left(bars, entered, 0, self.at + 1, key=lambda bar: bar.start) : self.at + 1]

    def value(self, name: str, back: int = 0) -> float | None:
        """The indicator's value at the newest bar, or ``back`` bars before it. None where it has none."""
        index = self.at - back
        return self._history.indicators[name][index] if index >= 0 else None

    def last_two(self, name: str) -> tuple[float | None, float | None]:
        """The indicator's value at the newest bar, and at the one before it."""
        values = self._history.indicators[name]
        return (values[self.at], values[self.at - 1]) if self.at > 0 else (self.value(name), None)


class View:
    """All symbols of a strategy at one moment. ``interval`` is the length of a bar.

    The account may be given as a function, which is called where a strategy or the size of an order asks for it.
    """

    __slots__ = ("_account", "interval", "now", "symbols")

    def __init__(
        self,
        now: datetime,
        symbols: Mapping[str, SymbolView],
        account: Account | Callable[[], Account],
        interval: timedelta,
    ) -> None:
        self.now = now
        self.symbols = symbols
        self._account = account
        self.interval = interval

    @property
    def account(self) -> Account:
        if not isinstance(self._account, Account):
            self._account = self._account()
        return self._account
