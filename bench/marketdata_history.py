"""Bars stored in bulk, read and rolled up, each beside bare SQL."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Engine, text

from bench.marketdata_database import marketdata_database, vacuum
from bench.report import Goal, Row, comparison, figure
from services.gateway.instruments import history_queries
from services.marketdata.domain.bar import Bar
from services.marketdata.persistence.bars import roll_up_into, store_bars
from services.marketdata.persistence.partitions import ensure_partitions_between
from shared.storage.driver import driver

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
COLUMNS = "symbol, interval, start_at, open, high, low, close, volume, provider, origin"


def measure_backfill(*, runs: int, bars: int) -> Sequence[Row]:
    """Bars of ten symbols into an empty table, of which a tenth are there already, and COPY of the others."""
    print(f"backfill: {runs} runs of {bars:,} bars", flush=True)
    given = _bars(10, bars // 10)
    with marketdata_database(10) as engine:
        _partitions(engine, bars // 10)
        pairs = []
        for _ in range(runs + 1):
            _clear(engine)
            _copy(engine, given[::10])
            ours = _rate(engine, given, _store)
            _clear(engine)
            pairs.append((ours, _rate(engine, given, _copy)))
        again = [_rate(engine, given, _store) for _ in range(runs)]
    name = "bars backfilled, a tenth of them duplicates, beside raw COPY into the empty table"
    return [
        comparison(name, "bars/s", pairs[1:], Goal("ratio", ">=", 0.5)),
        figure("the same bars once more, so that all are duplicates", "bars/s", again),
    ]


def measure_latest(*, runs: int, bars: int) -> Sequence[Row]:
    """The newest 200 of one symbol, read as the API reads them, with adjustment, and bare."""
    print(f"latest: filling a table with {bars:,} bars", flush=True)
    symbols = 100
    with marketdata_database(symbols) as engine:
        _partitions(engine, bars // symbols)
        _fill(engine, symbols, bars // symbols)
        now = BEGIN + bars // symbols * MINUTE
        filters = {"symbol": "S42", "interval": "1m", "adjustment": "all"}
        ours, bare = [], []
        for _ in range(runs):
            with engine.begin() as connection:
                begun = time.perf_counter()
                found = history_queries.bars(connection, filters, after=None, limit=200, now=now)
                ours.append((time.perf_counter() - begun) * 1000)
                begun = time.perf_counter()
                connection.execute(_BARE, {"symbol": "S42", "from": now - timedelta(days=10)}).all()
                bare.append((time.perf_counter() - begun) * 1000)
            assert len(found) == 200
    name = f"the newest 200 bars of a symbol out of {bars:,}, adjusted, beside the bare SELECT"
    pairs = list(zip(ours, bare, strict=True))
    return [comparison(name, "ms", pairs, Goal("ours", "<=", 5))]


def measure_roll_up(*, runs: int, bars: int) -> Sequence[Row]:
    """Minutes of twenty symbols into hours, and the same aggregates by a bare INSERT … SELECT."""
    print(f"rollup: {runs} runs of {bars:,} bars", flush=True)
    symbols = 20
    with marketdata_database(symbols) as engine:
        _partitions(engine, bars // symbols)
        _fill(engine, symbols, bars // symbols)
        span = {"symbols": None, "begin": BEGIN, "end": BEGIN + bars // symbols * MINUTE}
        pairs = [(_timed_roll_up(engine, span), _timed_bare(engine, span)) for _ in range(runs + 1)]
    name = f"{bars:,} minutes rolled up into hours, beside the bare INSERT … SELECT"
    return [comparison(name, "s", pairs[1:], Goal("ratio", "<=", 2))]


def _timed_roll_up(engine: Engine, span: dict[str, object]) -> float:
    _remove_hours(engine)
    with engine.begin() as connection:
        begun = time.perf_counter()
        roll_up_into(connection, "1h", span)
        return time.perf_counter() - begun


def _timed_bare(engine: Engine, span: dict[str, object]) -> float:
    _remove_hours(engine)
    with engine.begin() as connection:
        begun = time.perf_counter()
        connection.execute(_BARE_ROLL_UP, span)
        return time.perf_counter() - begun


def _remove_hours(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM marketdata.market_data WHERE interval = '1h'"))
    vacuum(engine, "marketdata.market_data")


def _bars(symbols: int, each: int) -> list[Bar]:
    bars = []
    for symbol in range(symbols):
        for number in range(each):
            price = Decimal(10_000 + number % 500) / 100
            volume = Decimal(1000 + number % 77)
            start = BEGIN + number * MINUTE
            bars.append(Bar(f"S{symbol}", "1m", start, price, price + 1, price - 1, price, volume, "bench"))
    return bars


def _rate(engine: Engine, bars: Sequence[Bar], store: object) -> float:
    begun = time.perf_counter()
    store(engine, bars)  # type: ignore[operator]
    return len(bars) / (time.perf_counter() - begun)


def _store(engine: Engine, bars: Sequence[Bar]) -> None:
    with engine.begin() as connection:
        store_bars(connection, bars)


def _copy(engine: Engine, bars: Sequence[Bar]) -> None:
    with (
        engine.begin() as connection,
        driver(connection).cursor() as cursor,
        cursor.copy(f"COPY marketdata.market_data ({COLUMNS}) FROM STDIN") as copy,
    ):
        for bar in bars:
            prices = (bar.open, bar.high, bar.low, bar.close)
            copy.write_row((bar.symbol, bar.interval, bar.start, *prices, bar.volume, bar.provider, "complete"))


def _clear(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE marketdata.market_data"))


def _partitions(engine: Engine, minutes: int) -> None:
    with engine.begin() as connection:
        ensure_partitions_between(connection, BEGIN, BEGIN + minutes * MINUTE, BEGIN)


def _fill(engine: Engine, symbols: int, each: int) -> None:
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(_FILL, {"symbols": symbols, "each": each, "begin": BEGIN})
    vacuum(engine, "marketdata.market_data")


_FILL = text("""
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider, origin)
SELECT 'S' || s, '1m', CAST(:begin AS timestamptz) + k * interval '1 minute', 100 + k % 7, 101 + k % 7, 99 + k % 7,
       100 + k % 7, k % 1000, 'bench', 'complete'
FROM generate_series(0, :symbols - 1) s, generate_series(0, :each - 1) k
""")
_BARE = text("""
SELECT start_at, open, high, low, close, volume FROM marketdata.market_data
WHERE symbol = :symbol AND interval = '1m' AND start_at >= :from ORDER BY start_at DESC LIMIT 200
""")
_BARE_ROLL_UP = text("""
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider, origin)
SELECT symbol, '1h', date_bin(interval '1 hour', start_at, TIMESTAMPTZ '2000-01-01 00:00+00'),
       (array_agg(open ORDER BY start_at))[1], max(high), min(low), (array_agg(close ORDER BY start_at))[count(*)],
       sum(volume), min(provider), 'rolled_up'
FROM marketdata.market_data WHERE interval = '1m' AND start_at >= :begin AND start_at < :end GROUP BY 1, 3
""")
