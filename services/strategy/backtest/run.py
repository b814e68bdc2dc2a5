"""A backtest: a strategy over bars, with the exchange's own matching."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from services.strategy.backtest.dividends import Dividend, Dividends
from services.strategy.backtest.exchange import BacktestExchange
from services.strategy.backtest.series import Series, moments
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.ordering import order_for
from services.strategy.strategies.sizing import Sized, Sizing, Terms, size
from services.strategy.strategies.strategy import Strategy
from services.strategy.strategies.view import Account, Bar, SymbolView, View
from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import OrderStatus
from shared.contracts.prices import Price
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.fills import Fill
from shared.exchange.order import Order

#: Moments between two reports of progress.
STEP = 1000
DAY = timedelta(days=1)
SEED = UUID(int=0)
_QUOTED_AT = attrgetter("quoted_at")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A strategy with its account. ``begin`` is the time from which it decides: bars before it are the warm-up."""

    strategy: Strategy[Any]
    sizing: Sizing = field(default_factory=Sizing)
    cash: Decimal = Decimal(100_000)
    settings: AccountSettings = field(default_factory=AccountSettings)
    rules: MarketRules = field(default_factory=MarketRules)
    currency: str = "USD"
    #: The clock by which a day order of intraday bars ends with its day.
    time_zone: str = "America/New_York"
    begin: datetime | None = None
    dividends: tuple[Dividend, ...] = ()
    seed: UUID = SEED


class Decided(NamedTuple):
    """A decision to act, and the order that it became."""

    at: datetime
    decision: Decision
    sized: Sized
    order_id: UUID | None
    refusal: str | None


@dataclass
class Backtest:
    """The result: all that the strategy decided and all that became of it."""

    exchange: BacktestExchange
    decided: list[Decided] = field(default_factory=list)
    equity: list[tuple[datetime, Decimal]] = field(default_factory=list)
    #: The number of decisions, those to hold among them.
    decisions: int = 0
    bars: int = 0


def run(
    setup: Setup,
    series: Sequence[Series],
    progress: Callable[[int, int], None] | None = None,
    *,
    prices: Sequence[Price] = (),
) -> Backtest:
    """Run the strategy over the series, bar by bar. ``progress`` gets the bars done and their number, and may raise.

    At the end of a bar first the orders fill on it, then the strategy decides. Its orders fill on later bars. With
    ``prices``, sorted by ``quoted_at``, orders fill on these alone, and the strategy decides at the ends of bars.
    """
    running = _Running(setup, series, prices)
    total = sum(len(each.bars) for each in series)
    due = 0
    for now, places in moments(series):
        if progress is not None and running.result.bars >= due:
            progress(running.result.bars, total)
            due += STEP
        running.step(now, places)
    if progress is not None:
        progress(total, total)
    return running.result


class _Running:
    def __init__(self, setup: Setup, series: Sequence[Series], prices: Sequence[Price]) -> None:
        self._setup, self._series = setup, series
        exchange = BacktestExchange(setup.seed, setup.cash, setup.settings, setup.rules, setup.currency)
        self.result = Backtest(exchange)
        wanted = setup.strategy.indicators()
        self._views = [SymbolView(each.symbol, each.history(wanted), -1) for each in series]
        self._symbols: dict[str, SymbolView] = {}
        self._interval = min((each.interval for each in series), default=timedelta(days=1))
        self._begin = setup.begin
        self._prices = deque((at, {each.symbol: each for each in batch}) for at, batch in groupby(prices, _QUOTED_AT))
        self._on_bars = not prices
        self._dividends = Dividends(setup.dividends) if setup.dividends else None
        self._bears_interest = bool(setup.settings.loan_rate or setup.settings.borrow_rate)
        self._zone = ZoneInfo(setup.time_zone)
        #: Day order → the day on which it trades.
        self._days: dict[UUID, date] = {}

    def step(self, now: datetime, places: Sequence[tuple[int, int]]) -> None:
        exchange, result = self.result.exchange, self.result
        self._happen(now, places)
        opened: dict[str, tuple[Bar, datetime | None]] = {}
        for number, index in places:
            series, view = self._series[number], self._views[number]
            view.at, bar = index, series.bars[index]
            if not index:
                self._symbols[series.symbol] = view
            if self._on_bars:
                if series.symbol in exchange.open_orders:
                    opened[series.symbol] = (bar, series.bars[index - 1].start + series.interval if index else None)
                exchange.last[series.symbol] = bar.close
            else:
                exchange.last.setdefault(series.symbol, bar.close)
        result.bars += len(places)
        if opened:
            self._moved(exchange.fill(opened, now))
            if self._interval >= DAY:
                self._end([order for symbol in opened for order in exchange.day_orders(symbol)], now)
        result.equity.append((now, exchange.equity))
        if self._begin is None or now > self._begin:
            self._decide(View(now, self._symbols, self._account, self._interval))

    def _happen(self, now: datetime, places: Sequence[tuple[int, int]]) -> None:
        """All that comes before the orders fill on the bars: dividends, interest, prices, and ends of orders."""
        exchange = self.result.exchange
        if self._dividends is not None:
            self._dividends.happen(exchange, now)
        if self._bears_interest and exchange.held:
            self._charge_interest(now)
        while self._prices and self._prices[0][0] <= now:
            self._moved(exchange.take(*reversed(self._prices.popleft())))
        if exchange.open_orders:
            self._end(exchange.overdue(now), now)
            self._end_day_orders(now, places)

    def _charge_interest(self, now: datetime) -> None:
        """Charge what the nights since the bar before cost."""
        before = self.result.equity[-1][0] if self.result.equity else now
        nights = (now.date() - before.date()).days
        if nights:
            self.result.exchange.charge_interest(nights, now)

    def _end_day_orders(self, now: datetime, places: Sequence[tuple[int, int]]) -> None:
        """Expire day orders whose day is over: the one of the first bar after they were submitted."""
        over = []
        for number, index in places:
            series = self._series[number]
            for order in self.result.exchange.day_orders(series.symbol):
                day = series.bars[index].start.astimezone(self._zone).date()
                if self._days.setdefault(order.id, day) != day:
                    over.append(order)
        self._end(over, now)

    def _end(self, over: Sequence[Order], now: datetime) -> None:
        if over:
            exchange = self.result.exchange
            exchange.end(over, OrderStatus.EXPIRED, now)
            for order in over:
                self._symbols[order.symbol].position = exchange.position(order.symbol)

    def _moved(self, fills: Sequence[Fill]) -> None:
        for fill in fills:
            self._symbols[fill.order.symbol].position = self.result.exchange.position(fill.order.symbol)

    def _account(self) -> Account:
        """The account as the strategy sees it."""
        account = self.result.exchange.account
        return Account(account.equity, account.cash, account.buying_power, account.currency)

    def _decide(self, view: View) -> None:
        for decision in self._setup.strategy.decide(view):
            self.result.decisions += 1
            if decision.action is not Action.HOLD:
                self.result.decided.append(self._act(decision, view))

    def _act(self, decision: Decision, view: View) -> Decided:
        exchange, symbol = self.result.exchange, view.symbols[decision.symbol]
        terms = Terms(view.account, exchange.last[decision.symbol])
        sized = size(decision, symbol, self._setup.sizing, terms)
        if sized.side is None:
            return Decided(view.now, decision, sized, None, None)
        order_id = exchange.order_id()
        order = order_for(
            decision,
            sized,
            sized.side,
            account_id=exchange.seed,
            order_id=order_id,
            client_order_id=str(order_id),
            strategy_id=exchange.seed,
            at=view.now,
        )
        refusal = exchange.submit(order, view.now)
        symbol.position = exchange.position(decision.symbol)
        return Decided(view.now, decision, sized, order_id, refusal.message if refusal else None)
