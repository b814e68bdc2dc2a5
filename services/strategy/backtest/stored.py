"""The database's part of a backtest: stored bars as series, and results."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from services.strategy.backtest.dividends import Dividend
from services.strategy.backtest.request import WrongRequest
from services.strategy.backtest.series import ALWAYS, Calendar, Series
from services.strategy.strategies.view import Bar, Session
from shared.contracts.backtests import BacktestRequest
from shared.contracts.bars import LENGTHS

#: The bars of one backtest, which are all in memory.
MOST_BARS = 2_000_000


def series_of(connection: Connection, request: BacktestRequest, warm_up: int) -> list[Series]:
    """The series of the request's symbols in today's shares, each with so many bars before ``from``.

    Raises WrongRequest for a symbol without bars, and for more bars than a backtest may have.
    """
    symbols = list(dict.fromkeys(request.symbols))
    bars = _bars(connection, symbols, request, warm_up)
    for symbol, found in bars.items():
        _check(symbol, found, request)
    instruments = {row.symbol: row for row in connection.execute(_INSTRUMENTS, {"symbols": symbols})}
    first = min(found[0].start for found in bars.values())
    calendars = _calendars(connection, sorted({row.market for row in instruments.values()}), first, request.end)
    made = []
    for symbol, found in bars.items():
        known = instruments.get(symbol)
        calendar = calendars[known.market] if known is not None else ALWAYS
        currency = known.currency if known is not None else None
        made.append(Series(symbol, found, LENGTHS[request.interval], calendar, currency))
    return made


def pairs_of(connection: Connection, request: BacktestRequest, series: Sequence[Series]) -> list[Series]:
    """The bars of the currency pairs that convert the series' currencies to the account's.

    Raises WrongRequest for a currency without stored bars of its pair.
    """
    own = request.settings.currency
    found = []
    for currency in sorted({each.currency or own for each in series} - {own}):
        names = [f"{currency}/{own}", f"{own}/{currency}"]
        bars = _bars(connection, names, request, 1)
        pair = next((name for name in names if bars[name]), None)
        if pair is None:
            symbol = next(each.symbol for each in series if each.currency == currency)
            raise WrongRequest(
                f"symbols: {symbol} trades in {currency}, and there are no bars of {request.interval} of {names[0]} or "
                f"{names[1]} in that time; POST /api/bars/backfill fetches them"
            )
        found.append(Series(pair, bars[pair], LENGTHS[request.interval]))
    return found


def _bars(
    connection: Connection, symbols: Sequence[str], request: BacktestRequest, warm_up: int
) -> dict[str, list[Bar]]:
    given = {
        "symbols": list(symbols),
        "interval": str(request.interval),
        "begin": request.begin,
        "end": request.end,
        "warm_up": warm_up,
        "most": MOST_BARS // len(symbols) + 1,
    }
    bars: dict[str, list[Bar]] = {symbol: [] for symbol in symbols}
    rows = connection.execution_options(yield_per=10_000).execute(_BARS, given)
    for symbol, start, opened, high, low, close, volume in rows:
        bars[symbol].append(Bar(start, opened, high, low, close, volume))
    for found in bars.values():
        found.sort(key=lambda bar: bar.start)
    return bars


def _calendars(connection: Connection, markets: Sequence[str], begin: datetime, end: datetime) -> dict[str, Calendar]:
    days: dict[str, dict[date, Session]] = {market: {} for market in markets}
    for row in connection.execute(_DAYS, {"markets": list(markets), "begin": begin, "end": end}):
        days[row.market][row.day] = Session(row.open_at, row.close_at)
    return {market: Calendar(market, known) for market, known in days.items()}


def dividends_of(connection: Connection, request: BacktestRequest) -> list[Dividend]:
    """The dividends of the symbols that went ex in the time of the request, a share of today."""
    given = {"symbols": list(request.symbols), "begin": request.begin, "end": request.end}
    return [Dividend(*row) for row in connection.execute(_DIVIDENDS, given)]


def _check(symbol: str, bars: list[Bar], request: BacktestRequest) -> None:
    if not bars or bars[-1].start < request.begin:
        raise WrongRequest(
            f"symbols: {symbol} has no bars of {request.interval} from {request.begin:%Y-%m-%d %H:%M} to "
            f"{request.end:%Y-%m-%d %H:%M}; POST /api/bars/backfill fetches them"
        )
    if len(bars) > MOST_BARS // len(request.symbols):
        raise WrongRequest(f"from: the symbols have more than {MOST_BARS} bars; choose a shorter time or fewer symbols")


def save(
    connection: Connection,
    run_id: UUID,
    kind: str,
    request: Mapping[str, Any],
    outcome: Mapping[str, Any],
    now: datetime,
) -> None:
    """Save the result of a run, once: a run that is repeated replaces it with the same."""
    rest = {name: value for name, value in outcome.items() if name != "figures"}
    values = {
        "run_id": run_id,
        "at": now,
        "kind": kind,
        "request": json.dumps(request),
        "figures": json.dumps(outcome["figures"], allow_nan=False),
        "outcome": json.dumps(rest, allow_nan=False),
    }
    connection.execute(_SAVE, values)


def save_trial(connection: Connection, run_id: UUID, number: int, trial: Mapping[str, Any], now: datetime) -> None:
    """Save one trial of an optimisation."""
    values = {"run_id": run_id, "number": number, "at": now, "trial": json.dumps(trial, allow_nan=False)}
    connection.execute(_SAVE_TRIAL, values)


def trials(connection: Connection, run_id: UUID) -> list[dict[str, Any]]:
    """The trials of an optimisation, in their order."""
    return list(connection.execute(_TRIALS, {"run_id": run_id}).scalars())


_BARS = text("""
SELECT given.symbol, b.start_at, b.open, b.high, b.low, b.close, b.volume
FROM unnest(CAST(:symbols AS text[])) AS given (symbol)
CROSS JOIN LATERAL (
  SELECT * FROM marketdata.adjusted_bars_v1(
    given.symbol, :interval, '1970-01-01', CAST(:begin AS timestamptz), 'split', :warm_up)
  UNION ALL
  SELECT * FROM marketdata.adjusted_bars_v1(
    given.symbol, :interval, CAST(:begin AS timestamptz), CAST(:end AS timestamptz), 'split', :most)
) b
""")
_INSTRUMENTS = text("SELECT symbol, market, currency FROM marketdata.instruments_v1 WHERE symbol = ANY(:symbols)")
_DAYS = text("""
SELECT d.market, d.day, d.open_at, d.close_at
FROM marketdata.markets_v1 m JOIN marketdata.trading_days_v1 d ON d.market = m.code
WHERE m.code = ANY(:markets) AND NOT m.always_open
  AND d.day BETWEEN CAST(CAST(:begin AS timestamptz) AS date) - 1 AND CAST(CAST(:end AS timestamptz) AS date) + 10
""")
_DIVIDENDS = text("""
SELECT c.symbol, c.effective_at, COALESCE(c.pay_at, c.effective_at), trim_scale(round(c.amount * COALESCE((
  SELECT marketdata.product(s.old_shares) / marketdata.product(s.new_shares) FROM marketdata.adjustments_v1 s
  WHERE s.symbol = c.symbol AND s.kind = 'split' AND s.effective_at > c.effective_at), 1), 9))
FROM marketdata.corporate_actions_v1 c
WHERE c.symbol = ANY(:symbols) AND c.kind = 'dividend' AND c.applied_at IS NOT NULL
  AND c.effective_at >= :begin AND c.effective_at < :end
""")
_SAVE = text("""
INSERT INTO strategy.backtests AS b (run_id, at, kind, request, figures, outcome)
VALUES (:run_id, :at, :kind, CAST(:request AS jsonb), CAST(:figures AS jsonb), CAST(:outcome AS jsonb))
ON CONFLICT (run_id) DO UPDATE SET
  at = excluded.at, request = excluded.request, figures = excluded.figures, outcome = excluded.outcome
""")
_SAVE_TRIAL = text("""
INSERT INTO strategy.backtest_trials AS t (run_id, number, at, trial)
VALUES (:run_id, :number, :at, CAST(:trial AS jsonb))
ON CONFLICT (run_id, number) DO UPDATE SET at = excluded.at, trial = excluded.trial
""")
_TRIALS = text("SELECT trial FROM strategy.backtest_trials WHERE run_id = :run_id ORDER BY number")
