"""Load all that the strategies of one evaluation look at: each kind of row once, for all of them together."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from services.strategy.persistence import decisions, holdings, market
from services.strategy.persistence.holdings import Held, HoldingKey, Ordered, Results
from services.strategy.persistence.market import INTERVALS, AccountRow, InstrumentRow, SeriesKey
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.columns import Days
from services.strategy.strategies.needs import MOST_BARS
from services.strategy.strategies.protections import Protections, market_day
from services.strategy.strategies.sizing import Sizing
from services.strategy.strategies.strategy import Strategy
from services.strategy.strategies.view import Indicator, Session
from services.strategy.usecases.memory import Memory, Remembered
from shared.contracts.indicators import IndicatorName
from shared.contracts.markets import DEFAULT_MARKET

#: The time of which the sessions are known. Those of bars before it count for nothing.
SESSIONS_BACK = timedelta(days=14)


@dataclass(frozen=True)
class Prepared:
    """A strategy that is ready to look: its object, the indicators that it reads, and the bars that these need."""

    row: StrategyRow
    strategy: Strategy[Any]
    indicators: Mapping[str, Indicator]
    count: int
    sizing: Sizing
    protections: Protections


@dataclass(frozen=True)
class Loaded:
    """The rows of one evaluation."""

    now: datetime
    bars: Mapping[SeriesKey, Remembered]
    instruments: Mapping[str, InstrumentRow]
    rates: Mapping[tuple[str, str], Decimal]
    accounts: Mapping[UUID, AccountRow]
    sessions: Mapping[str, Session]
    held: Mapping[HoldingKey, Held]
    #: Account and symbol → all shares of the account.
    positions: Mapping[HoldingKey, Decimal]
    ordered: Mapping[HoldingKey, Ordered]
    results: Mapping[UUID, Results]
    closed_at: Mapping[HoldingKey, datetime]
    entries: Mapping[UUID, int]
    traded: AbstractSet[HoldingKey]
    #: Market → its trading days of late, where an indicator depends on them and the market closes at times.
    days: Mapping[str, Days]


def load(connection: Connection, prepared: Sequence[Prepared], memory: Memory, now: datetime) -> Loaded:
    """Read the rows for these strategies, in a number of statements that does not depend on theirs."""
    rows = [each.row for each in prepared]
    symbols = sorted({symbol for row in rows for symbol in row.symbols})
    held = holdings.held(connection, rows)
    instruments = market.instruments(connection, symbols)
    cooling = [each for each in prepared if each.protections.cool_down_minutes]
    longest = max((each.protections.cool_down_minutes or 0 for each in cooling), default=0)
    counted = [each.row for each in prepared if each.protections.max_trades_per_day]
    markets = sorted({each.market for each in instruments.values()})
    bars = memory.read(connection, _wanted(prepared, held, now), instruments, now)
    pairs = [(row, symbol, bars[symbol, row.interval].bars) for row in rows for symbol in row.symbols]
    newest = [(row.id, symbol, known[-1].start) for row, symbol, known in pairs if known]
    return Loaded(
        now=now,
        bars=bars,
        instruments=instruments,
        rates=market.rates(connection),
        accounts=market.accounts(connection, [row.account_id for row in rows]),
        sessions=market.sessions(connection, markets, now),
        held=held,
        positions=holdings.positions(connection, rows),
        ordered=holdings.ordered(connection, rows, now),
        results=holdings.results(connection, [each.row for each in prepared if each.protections.on_results]),
        closed_at=holdings.closed_at(connection, [each.row for each in cooling], now - timedelta(minutes=longest)),
        entries=holdings.entries_since(connection, {row.id: day_of(row, instruments, now)[0] for row in counted}),
        traded=decisions.traded(connection, newest),
        days=market.trading_days(connection, markets, now - SESSIONS_BACK, now) if _by_session(prepared) else {},
    )


def _by_session(prepared: Sequence[Prepared]) -> bool:
    """True if an indicator begins anew with each session."""
    return any(each.name == IndicatorName.VWAP for one in prepared for each in one.indicators.values())


def day_of(row: StrategyRow, instruments: Mapping[str, InstrumentRow], now: datetime) -> tuple[datetime, date]:
    """The begin and the date of the present day, by the clock of the first symbol's market."""
    first = instruments.get(row.symbols[0])
    return market_day(first.market if first else DEFAULT_MARKET, now)


def _wanted(prepared: Sequence[Prepared], held: Mapping[HoldingKey, Held], now: datetime) -> dict[SeriesKey, int]:
    """The bars to read of each series: those that a strategy needs, and those since its position was entered."""
    wanted: dict[SeriesKey, int] = {}
    for each in prepared:
        length = INTERVALS[each.row.interval]
        for symbol in each.row.symbols:
            count, lots = each.count, held.get((each.row.id, symbol))
            if lots is not None:
                count = max(count, min(MOST_BARS, ceil((now - lots.entered_at) / length) + 2))
            key = symbol, each.row.interval
            wanted[key] = max(wanted.get(key, 0), count)
    return wanted
