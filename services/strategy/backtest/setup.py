"""The parts of a backtest, and its result. ``run.py`` runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from services.strategy.backtest.dividends import Dividend
from services.strategy.backtest.exchange import BacktestExchange
from services.strategy.backtest.fx import Rates
from services.strategy.backtest.series import Series
from services.strategy.strategies.decision import Decision
from services.strategy.strategies.judgement import Outcome
from services.strategy.strategies.protections import Protections
from services.strategy.strategies.sizing import Sized, Sizing
from services.strategy.strategies.strategy import Strategy
from shared.contracts.accounts import AccountSettings
from shared.exchange.market_rules import MarketRules

SEED = UUID(int=0)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A strategy with its account. ``begin`` is the time from which it decides: bars before it are the warm-up."""

    strategy: Strategy[Any]
    sizing: Sizing = field(default_factory=Sizing)
    protections: Protections = field(default_factory=Protections)
    cash: Decimal = Decimal(100_000)
    settings: AccountSettings = field(default_factory=AccountSettings)
    rules: MarketRules = field(default_factory=MarketRules)
    currency: str = "USD"
    #: Bars of currency pairs such as EUR/USD, by which money in other currencies is converted.
    pairs: tuple[Series, ...] = ()
    #: The clock by which a day order of intraday bars ends with its day, where no sessions are known.
    time_zone: str = "America/New_York"
    begin: datetime | None = None
    dividends: tuple[Dividend, ...] = ()
    seed: UUID = SEED


class Decided(NamedTuple):
    """A decision to act, and the order that it became."""

    at: datetime
    decision: Decision
    outcome: Outcome
    sized: Sized
    order_id: UUID | None
    refusal: str | None


@dataclass
class Backtest:
    """The result: all that the strategy decided and all that became of it."""

    exchange: BacktestExchange
    decided: list[Decided] = field(default_factory=list)
    #: The number of decisions, those to hold among them.
    decisions: int = 0
    bars: int = 0
    #: The time and the reason for which a protection paused the strategy. It decided nothing after that.
    halted: tuple[datetime, str] | None = None
    #: Decisions that failed: the time and the error of each.
    failures: list[tuple[datetime, str]] = field(default_factory=list)
    margin_calls: list[tuple[datetime, str]] = field(default_factory=list)

    @property
    def equity(self) -> list[tuple[datetime, Decimal]]:
        """The equity at the end of each bar."""
        return self.exchange.record.equity


Progress = Callable[[int, int], None]


def exchange_of(setup: Setup, series: Sequence[Series]) -> BacktestExchange:
    """The exchange with the account of the setup."""
    foreign = {each.symbol: each.currency for each in series if each.currency not in (None, setup.currency)}
    return BacktestExchange(
        setup.seed,
        setup.cash,
        setup.settings,
        setup.rules,
        setup.currency,
        currencies={symbol: currency for symbol, currency in foreign.items() if currency is not None},
    )


def rates_of(setup: Setup) -> Rates | None:
    """The rates to come, or None without pairs."""
    return Rates(setup.pairs, setup.rules) if setup.pairs else None
