"""One more bar of 500 symbols: its 10 indicators, computed and stored, and computed alone. `make bench-indicators`."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sqlalchemy import text

from bench.report import Goal, Row, comparison, interleaved, run_benchmark
from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.usecases import indicators
from services.marketdata.usecases.update_indicators import Memory, update
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.indicators import AddIndicator, GivenParameters, IndicatorName, complete
from shared.indicators.bars import Array, Bars, days_of
from shared.indicators.formulas import bars_before, compute, numbers
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service

SYMBOLS = 500
#: Bars of a minute before the first update.
HISTORY = 1500
MINUTE = timedelta(minutes=1)
BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
MILLISECONDS = 100


@dataclass
class IndicatorDatabase:
    """Each ``add_bars`` moves ``now`` on by a minute."""

    context: ServiceContext
    memory: Memory
    now: datetime

    def add_bars(self, count: int = 1) -> None:
        with self.context.engine.begin() as connection:
            connection.execute(_ADD_BARS, {"symbols": SYMBOLS, "begin": self.now, "count": count})
        self.now += count * MINUTE

    def update(self) -> int:
        return update(self.context, self.memory, keep_bars=10_000, progress=lambda _done, _total: None)["bars_computed"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few runs")
    options = parser.parse_args()
    return run_benchmark("indicators", [partial(measure, runs=5 if options.quick else 30)])


def measure(*, runs: int) -> Sequence[Row]:
    """Time updates, in turn with TA-Lib on arrays that are at hand: nothing is read, stored or kept."""
    with indicator_database() as made:
        bars = random_bars()
        pairs = interleaved(partial(timed_update, made), partial(bare, bars), runs + 2)[2:]
    name = f"an update of {SYMBOLS} symbols x {len(IndicatorName)} indicators, durable, beside TA-Lib alone"
    return [comparison(name, "ms", pairs, Goal("ours", "<=", MILLISECONDS))]


def timed_update(made: IndicatorDatabase) -> float:
    made.add_bars()
    begun = time.perf_counter()
    written = made.update()
    took = time.perf_counter() - begun
    assert written == SYMBOLS
    return took * 1000


def random_bars() -> Bars:
    chance = np.random.default_rng(1)
    closes: Array = 100 + np.cumsum(chance.normal(size=HISTORY)) / 10
    volumes: Array = chance.integers(1, 1000, HISTORY).astype(np.float64)
    starts = np.arange(HISTORY, dtype=np.int64) * 60_000_000
    return Bars(starts, closes + 0.1, closes - 0.1, closes, volumes, days_of(starts))


def bare(bars: Bars) -> float:
    given = [(name, complete(name, GivenParameters())) for name in IndicatorName]
    wanted = [
        (name, numbers(parameters), bars.between(-1 - max(1, bars_before(name, parameters, "1m")), None))
        for name, parameters in given
    ]
    begun = time.perf_counter()
    for _ in range(SYMBOLS):
        for name, parameters, window in wanted:
            compute(name, parameters, window)
    return (time.perf_counter() - begun) * 1000


@contextmanager
def indicator_database() -> Iterator[IndicatorDatabase]:
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder, PostgresCluster(Path(folder) / "postgres") as url:
        engine = make_engine(service_urls(url)["marketdata"], name="bench")
        migrate_service(engine, "marketdata")
        made = IndicatorDatabase(ServiceContext("marketdata", engine, lambda: made.now), Memory(), BEGIN)
        with engine.begin() as connection:
            add_instruments(connection, [Instrument(f"S{number}", "bench") for number in range(1, SYMBOLS + 1)])
        made.add_bars(HISTORY)
        with made.context.unit_of_work() as uow:
            for number in range(1, SYMBOLS + 1):
                for name in IndicatorName:
                    added = AddIndicator(symbol=f"S{number}", interval="1m", name=name, requested_at=uow.now)
                    indicators.add(uow, added)
        print(f"computed {made.update():,} bars", flush=True)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield made
        engine.dispose()


_ADD_BARS = text("""
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider)
SELECT 'S' || s, '1m', CAST(:begin AS timestamptz) + n * interval '1 minute', price, price + 1, price - 1, price + 0.5,
       1000 + n % 7, 'bench'
FROM generate_series(1, :symbols) AS s, generate_series(0, :count - 1) AS n,
     LATERAL (SELECT 100 + (s * 7 + n * 13) % 29 AS price) p
""")

if __name__ == "__main__":
    sys.exit(main())
