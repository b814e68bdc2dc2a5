"""A backtest: a strategy over bars, with the exchange's own matching.

At the end of a bar first the orders fill on it, then the strategy decides.

Bars at which no order is open and the strategy cannot act are only valued. The result is the same, to the cent.
"""

import gc
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from services.strategy.backtest.dividends import Dividends
from services.strategy.backtest.margin_calls import MarginCalls
from services.strategy.backtest.series import Series, moments
from services.strategy.backtest.setup import Backtest, Progress, Setup, exchange_of, rates_of
from services.strategy.backtest.trader import BacktestTrader
from services.strategy.strategies.guard import SECONDS, StrategyFailed, Watchdog, gathered
from services.strategy.strategies.needs import indicators_of
from services.strategy.strategies.strategy import SymbolStrategy
from services.strategy.strategies.view import Account, Bar, History, Quote, SymbolView, View
from shared.contracts.orders import OrderStatus
from shared.contracts.prices import Price
from shared.exchange.matching.fills import Fill
from shared.exchange.order import Order
from shared.indicators.bars import Array

#: Moments between two reports of progress.
STEP = 1000
DAY = timedelta(days=1)
_QUOTED_AT = attrgetter("quoted_at")


def run(
    setup: Setup,
    series: Sequence[Series],
    progress: Progress | None = None,
    *,
    prices: Sequence[Price] = (),
    seconds: float = SECONDS,
) -> Backtest:
    """Run the strategy over the series, bar by bar. ``progress`` gets the bars done and their number, and may raise.

    With ``prices``, sorted by ``quoted_at``, orders fill on these alone, and the strategy decides at the ends of bars.
    A decision fails if the strategy raises or takes longer than ``seconds``, and the backtest goes on as live trading
    does. Raises StrategyFailed where every decision failed.
    """
    watchdog = Watchdog(seconds)
    running = _Running(setup, series, prices, watchdog)
    result = running.result
    total = sum(len(each.bars) for each in series)
    due = 0

    def report() -> None:
        nonlocal due
        if progress is not None and result.bars >= due:
            progress(result.bars, total)
            due += STEP

    with watchdog, without_old_garbage():
        for now, places in running.leaping(report) if len(series) == 1 else moments(series):
            report()
            running.step(now, places)
    if result.failures and not result.decisions:
        raise StrategyFailed(result.failures[-1][1] if result.halted is None else result.halted[1])
    if progress is not None:
        progress(total, total)
    return result


@contextmanager
def without_old_garbage() -> Iterator[None]:
    """Leave all objects that there are, such as the bars, out of the collections of garbage of the block."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class BarView(SymbolView):
    """A symbol of a backtest on bars alone: its newest price is the close of its newest bar."""

    __slots__ = ("interval",)

    def __init__(self, symbol: str, history: History, interval: timedelta) -> None:
        self.interval = interval
        super().__init__(symbol, history, -1)

    @property
    def quote(self) -> Quote | None:
        bar = self.bar
        return None if bar is None else Quote(bar.close, bar.start + self.interval)

    @quote.setter
    def quote(self, quote: Quote | None) -> None:
        """Leave the quote as it follows from the bar."""


class _Running:
    """A backtest at one moment."""

    def __init__(self, setup: Setup, series: Sequence[Series], prices: Sequence[Price], watchdog: Watchdog) -> None:
        self._setup, self._series = setup, series
        self._exchange = exchange = exchange_of(setup, series)
        self.result = Backtest(exchange)
        values = gathered(_values, (setup, series))
        self._views = [
            BarView(each.symbol, each.with_values(own), each.interval)
            if not prices
            else SymbolView(each.symbol, each.with_values(own), -1)
            for each, own in zip(series, values, strict=True)
        ]
        self._symbols: dict[str, SymbolView] = {}
        self._interval = min((each.interval for each in series), default=DAY)
        self._prices = deque((at, {each.symbol: each for each in batch}) for at, batch in groupby(prices, _QUOTED_AT))
        self._on_bars = not prices
        self._quotes: dict[str, Quote] = {}
        self._dividends = Dividends(setup.dividends) if setup.dividends else None
        self._rates = rates_of(setup)
        self._bears_interest = bool(setup.settings.loan_rate or setup.settings.borrow_rate)
        self._margin = setup.settings.multiplier > 1 or setup.settings.shorting
        self._calls = MarginCalls(exchange)
        self.result.margin_calls = self._calls.happened
        #: True if something may happen at every bar besides fills.
        self._events = bool(prices) or self._dividends is not None or self._rates is not None
        self._marks = self._margin or self._bears_interest
        self._zone = ZoneInfo(setup.time_zone)
        #: Day order → the day on which it trades.
        self._days: dict[UUID, date] = {}
        self._trader = BacktestTrader(setup, exchange, self.result, series, watchdog, on_bars=self._on_bars)
        self._sessions = [each if each.calendar.days else None for each in series]
        self._shows = not self._on_bars or any(self._sessions)
        self._acts = gathered(lambda found: _acts(setup, series, found), values)
        #: Numbers of the series whose newest bar may be acted on.
        self._acting: set[int] = set()

    def step(self, now: datetime, places: Sequence[tuple[int, int]]) -> None:
        """Let all happen that happens until the end of these bars."""
        exchange, result = self._exchange, self.result
        if not self._is_quiet:
            self._happen(now)
            opened = self._advance(places)
            if opened:
                self._fill(opened, now)
            if exchange.open_orders:
                self._end(exchange.overdue(now), now)
            if self._margin and (exchange.held or self._calls.is_open) and self._calls.check(now):
                self._refresh()
        else:
            self._advance(places)
        result.bars += len(places)
        exchange.record.equity.append((now, exchange.equity))
        begin = self._setup.begin
        if result.halted is None and (begin is None or now > begin):
            if self._acts is None or self._acting:
                self._decide(now)
            else:
                result.decisions += len(self._symbols)
                self._trader.failures = 0

    def leaping(self, report: Callable[[], None]) -> Iterator[tuple[datetime, Sequence[tuple[int, int]]]]:
        """The moments of a single series at which something happens. Those between are valued at once."""
        (series,) = self._series
        count, ends = len(series.bars), series.ends
        stops = np.flatnonzero(self._acts[0]).tolist() if self._acts is not None else None
        place = index = 0
        while index < count:
            if stops is not None and self._is_quiet:
                while place < len(stops) and stops[place] < index:
                    place += 1
                # a report of progress is never leapt over
                end = min(stops[place] if place < len(stops) else count, index - index % STEP + STEP)
                if end > index:
                    report()
                    self._leap(index, end)
                    index = end
                    continue
            yield ends[index], ((0, index),)
            index += 1

    @property
    def _is_quiet(self) -> bool:
        """True if nothing happens before the strategy acts."""
        busy = self._events or self._exchange.open_orders
        return not busy and not (self._marks and (self._exchange.held or self._calls.is_open))

    def _leap(self, begin: int, end: int) -> None:
        """Value the account at the bars from ``begin`` to before ``end``, at which the strategy only holds."""
        (series,), (view,), exchange, result = self._series, self._views, self._exchange, self.result
        view.at = end - 1
        if not begin:
            self._symbols[series.symbol] = view
        self._acting.clear()
        ends, bars = series.ends[begin:end], series.bars[begin:end]
        exchange.last[series.symbol] = bars[-1].close
        result.bars += len(bars)
        if result.halted is None:
            first = self._setup.begin
            self._trader.failures = 0
            result.decisions += len(bars) if first is None else len(bars) - bisect_right(ends, first)
        exchange.value(series.symbol, ends, bars)

    def _advance(self, places: Sequence[tuple[int, int]]) -> list[tuple[int, Bar, datetime | None]]:
        """Move the views to the bars. Returns those of symbols with open orders: number, bar, end of the bar before."""
        exchange, acts, opened = self._exchange, self._acts, []
        for number, index in places:
            series, view = self._series[number], self._views[number]
            bar = series.bars[index]
            view.at = index
            if not index:
                self._symbols[series.symbol] = view
            if self._on_bars:
                if series.symbol in exchange.open_orders:
                    before = series.bars[index - 1].start + series.interval if index else None
                    opened.append((number, bar, before))
                exchange.last[series.symbol] = bar.close
            else:
                exchange.last.setdefault(series.symbol, bar.close)
            if acts is not None:
                if acts[number][index]:
                    self._acting.add(number)
                elif self._acting:
                    self._acting.discard(number)
        return opened

    def _fill(self, opened: Sequence[tuple[int, Bar, datetime | None]], now: datetime) -> None:
        exchange = self._exchange
        self._end_day_orders(opened, now)
        bars = {}
        hours = {}
        for number, bar, before in opened:
            series = self._series[number]
            if series.symbol in exchange.open_orders:
                bars[series.symbol] = (bar, before)
                if series.calendar.days and series.interval < DAY:
                    hours[series.symbol] = series.calendar.hours(bar.start, now)
        if bars:
            self._moved(exchange.fill(bars, now, hours))
        if self._interval >= DAY:
            self._end([order for symbol in bars for order in exchange.day_orders(symbol)], now)

    def _happen(self, now: datetime) -> None:
        """All that comes before the orders fill on the bars: rates, dividends, interest and prices."""
        exchange = self._exchange
        if self._rates is not None:
            self._rates.follow(exchange, now)
        if self._dividends is not None:
            self._dividends.happen(exchange, now)
        if self._bears_interest and exchange.held:
            self._charge_interest(now)
        while self._prices and self._prices[0][0] <= now:
            at, batch = self._prices.popleft()
            self._moved(exchange.take(batch, at))
            for symbol, price in batch.items():
                self._quotes[symbol] = Quote(price.last, price.quoted_at, price.bid, price.ask)

    def _charge_interest(self, now: datetime) -> None:
        """Charge what the nights since the bar before cost."""
        equity = self.result.equity
        before = equity[-1][0] if equity else now
        nights = (now.date() - before.date()).days
        if nights:
            self._exchange.charge_interest(nights, now)

    def _end_day_orders(self, opened: Sequence[tuple[int, Bar, datetime | None]], now: datetime) -> None:
        """Expire day orders whose day is over: that of the first bar after them. One with a session has an end."""
        over = []
        for number, bar, _ in opened:
            for order in self._exchange.day_orders(self._series[number].symbol):
                if order.expires_at is None:
                    day = bar.start.astimezone(self._zone).date()
                    if self._days.setdefault(order.id, day) != day:
                        over.append(order)
        self._end(over, now)

    def _end(self, over: Sequence[Order], now: datetime) -> None:
        if over:
            self._exchange.end(over, OrderStatus.EXPIRED, now)
            for order in over:
                self._symbols[order.symbol].position = self._exchange.position(order.symbol)

    def _moved(self, fills: Sequence[Fill]) -> None:
        for fill in fills:
            self._symbols[fill.order.symbol].position = self._exchange.position(fill.order.symbol)

    def _refresh(self) -> None:
        for symbol, view in self._symbols.items():
            view.position = self._exchange.position(symbol)

    def _decide(self, now: datetime) -> None:
        if self._exchange.currencies:
            for view in self._views:
                rate = self._exchange.rate(view.symbol)
                view.rate = None if rate is None else rate.last
        if self._shows:
            for view, series in zip(self._views, self._sessions, strict=True):
                if series is not None:
                    view.session = series.calendar.session_at(now)
                if not self._on_bars:
                    view.quote = self._quotes.get(view.symbol)
        self._trader.decide(View(now, self._symbols, self._account, self._interval))

    def _account(self) -> Account:
        """The account as the strategy sees it."""
        account = self._exchange.account
        shorting = self._setup.settings.shorting
        return Account(account.equity, account.cash, account.buying_power, account.currency, shorting)


def _values(given: tuple[Setup, Sequence[Series]]) -> list[dict[str, Array]]:
    setup, series = given
    wanted = indicators_of(setup.strategy, setup.sizing)
    return [each.values(wanted) for each in series]


def _acts(setup: Setup, series: Sequence[Series], values: Sequence[dict[str, Array]]) -> list[NDArray[np.bool_]] | None:
    """For each series the bars at which the strategy may act, or None where it looks at every bar."""
    if not isinstance(setup.strategy, SymbolStrategy) or setup.protections.on_results:
        return None
    found = []
    for each, own in zip(series, values, strict=True):
        mask = setup.strategy.may_act(own, each.columns.closes)
        if mask is None:
            return None
        found.append(mask)
    return found
