"""A backtest: a strategy over bars, with the exchange's own matching."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from services.strategy.backtest.exchange import BacktestExchange
from services.strategy.backtest.series import Series, moments
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.ordering import order_for
from services.strategy.strategies.sizing import Sized, Sizing, Terms, size
from services.strategy.strategies.strategy import Strategy
from services.strategy.strategies.view import Account, Bar, SymbolView, View
from shared.contracts.accounts import AccountSettings
from shared.exchange.market_rules import MarketRules

#: Moments between two reports of progress.
STEP = 1000
SEED = UUID(int=0)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A strategy with its account. ``begin`` is the time from which it decides: bars before it are the warm-up."""

    strategy: Strategy[Any]
    sizing: Sizing = field(default_factory=Sizing)
    cash: Decimal = Decimal(100_000)
    settings: AccountSettings = field(default_factory=AccountSettings)
    rules: MarketRules = field(default_factory=MarketRules)
    currency: str = "USD"
    begin: datetime | None = None
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


def run(setup: Setup, series: Sequence[Series], progress: Callable[[int, int], None] | None = None) -> Backtest:
    """Run the strategy over the series, bar by bar. ``progress`` gets the bars done and their number, and may raise.

    At the end of a bar first the orders fill on it, then the strategy decides. Its orders fill on later bars.
    """
    running = _Running(setup, series)
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
    def __init__(self, setup: Setup, series: Sequence[Series]) -> None:
        self._setup, self._series = setup, series
        interval = min((each.interval for each in series), default=timedelta(days=1))
        exchange = BacktestExchange(setup.seed, setup.cash, setup.settings, setup.rules, setup.currency)
        self.result = Backtest(exchange)
        wanted = setup.strategy.indicators()
        self._views = [SymbolView(each.symbol, each.history(wanted), -1) for each in series]
        self._symbols: dict[str, SymbolView] = {}
        self._interval = interval
        self._begin = setup.begin
        self._seen: Account | None = None

    def step(self, now: datetime, places: Sequence[tuple[int, int]]) -> None:
        exchange, result = self.result.exchange, self.result
        opened: dict[str, tuple[Bar, datetime | None]] = {}
        if exchange.open_orders:
            exchange.expire(now)
        for number, index in places:
            series, view = self._series[number], self._views[number]
            view.at, bar = index, series.bars[index]
            if index == 0:
                self._symbols[series.symbol] = view
            if series.symbol in exchange.open_orders:
                opened[series.symbol] = (bar, series.bars[index - 1].start + series.interval if index else None)
            exchange.last[series.symbol] = bar.close
        result.bars += len(places)
        if opened:
            for fill in exchange.fill(opened, now):
                self._symbols[fill.order.symbol].position = exchange.position(fill.order.symbol)
            self._seen = None
        equity = exchange.equity
        result.equity.append((now, equity))
        if self._begin is None or now > self._begin:
            self._decide(View(now, self._symbols, self._account(equity), self._interval))

    def _account(self, equity: Decimal) -> Account:
        """The account as the strategy sees it. Without positions and orders it stays as it was."""
        if self._seen is None or self._seen.equity != equity or self.result.exchange.held:
            account = self.result.exchange.account
            self._seen = Account(equity, account.cash, account.buying_power, account.currency)
        return self._seen

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
            client_order_id=str(uuid5(order_id, decision.symbol)),
            strategy_id=exchange.seed,
            at=view.now,
        )
        refusal = exchange.submit(order, view.now)
        self._seen = None
        symbol.position = exchange.position(decision.symbol)
        return Decided(view.now, decision, sized, order_id, refusal.message if refusal else None)
