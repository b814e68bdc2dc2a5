"""A worker that evaluates 12 strategies on 500 symbols each, minute by minute, and the size of a day of decisions.

The reference reads the same new bars and prices, and inserts as many rows with the same columns, and nothing else.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from bench.report import Goal, NotMeasured, Row, comparison, figure, interleaved
from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.persistence.sessions import add_markets
from services.strategy.persistence import strategies
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.protections import Watch
from services.strategy.usecases.evaluate import evaluate
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import MARKETS
from shared.contracts.strategy import StrategyState
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service

SERVICES = ("marketdata", "orders", "valuation", "strategy")
MINUTES, MEGABYTE, MINUTE = 390, 1_000_000, timedelta(minutes=1)
#: Bars of each symbol at the beginning.
HISTORY = 420
RULES = {"long": {"entry": {"left": {"indicator": "rsi", "period": 14}, "op": "crosses_above", "right": 30}}}
#: Twelve strategies, which look at all symbols.
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sma_crossover", {"fast": 10, "slow": 20}),
    ("sma_crossover", {"fast": 20, "slow": 50}),
    ("ema_crossover", {"fast": 8, "slow": 13}),
    ("macd", {"fast": 5, "slow": 9, "signal": 4}),
    ("rsi_reversion", {}),
    ("bollinger_reversion", {}),
    ("donchian_breakout", {}),
    ("momentum_ranking", {}),
    ("dollar_cost_averaging", {}),
    ("vwap_reversion", {}),
    ("opening_range_breakout", {}),
    ("rules", RULES),
)


@dataclass
class Evaluations:
    """The databases of the services. ``now`` moves on by a minute with each new bar."""

    marketdata: Engine
    strategy: Engine
    symbols: Sequence[str]
    ids: Sequence[UUID]
    now: datetime

    @property
    def context(self) -> ServiceContext:
        return ServiceContext("strategy", self.strategy, lambda: self.now)

    def add_bars(self) -> None:
        """A minute goes by, with a bar and a price of each symbol."""
        self.now += MINUTE
        with self.marketdata.begin() as connection:
            connection.execute(_ADD_BARS, {"at": self.now - MINUTE, "back": 0})
            connection.execute(_SET_PRICES, {"at": self.now})

    def evaluate(self) -> float:
        """The seconds of an evaluation after a new bar."""
        self.add_bars()
        begun = time.perf_counter()
        counts = evaluate(self.context, uuid4(), lambda _: True, seconds=60)
        seconds = time.perf_counter() - begun
        if counts["decisions"] != len(KINDS) * len(self.symbols) or counts.get("failed"):
            raise NotMeasured(f"an evaluation made {counts}")
        return seconds

    def bare(self) -> float:
        """The seconds of reading the same new bars and prices, and of inserting as many decisions."""
        self.add_bars()
        begun = time.perf_counter()
        with self.strategy.begin() as connection:
            connection.execute(_READ_BARS, {"since": self.now - 4 * MINUTE}).all()
            connection.execute(_READ_PRICES).all()
            rows = [
                {"strategy_id": str(strategy_id), "symbol": symbol}
                for strategy_id in self.ids
                for symbol in self.symbols
            ]
            connection.execute(_INSERT, {"rows": json.dumps(rows), "run_id": uuid4(), "now": self.now})
        return time.perf_counter() - begun


def measure(*, runs: int, symbols: int) -> Sequence[Row]:
    """The first evaluation, ``runs`` of those that follow beside the reference, and the bytes of a day."""
    with _evaluations(symbols) as found:
        first = found.evaluate()
        for _ in range(3):
            found.evaluate()
        size = _bytes_of_a_decision(found.strategy) * symbols * MINUTES / MEGABYTE
        found.bare()
        pairs = interleaved(found.evaluate, found.bare, runs)
    what = f"{len(KINDS)} strategies on {symbols} symbols"
    return [
        figure(f"first evaluation of {what}", "s", [first]),
        comparison(f"evaluation of {what}, beside bare statements", "s", pairs, Goal("ours", "<=", 1)),
        figure(
            f"decisions of a strategy on {symbols} symbols in {MINUTES} minutes", "MB", [size], Goal("ours", "<=", 200)
        ),
    ]


def _bytes_of_a_decision(engine: Engine) -> float:
    with engine.begin() as connection:
        found: float = connection.execute(_SIZE).scalar_one()
    return float(found)


@contextmanager
def _evaluations(symbols: int) -> Iterator[Evaluations]:
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder, PostgresCluster(Path(folder) / "postgres") as url:
        urls = service_urls(url)
        engines = {name: make_engine(urls[name], name="bench") for name in SERVICES}
        for name in SERVICES:
            migrate_service(engines[name], name)
        names = [f"S{number}" for number in range(symbols)]
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        with engines["marketdata"].begin() as connection:
            add_markets(connection, MARKETS.values())
            add_instruments(connection, [Instrument(name, name) for name in names])
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(_ADD_BARS, {"at": now - MINUTE, "back": HISTORY})
            connection.execute(_SET_PRICES, {"at": now})
        account_id = uuid4()
        with engines["orders"].begin() as connection:
            connection.execute(_ADD_ACCOUNT, {"id": account_id})
        ids = [uuid4() for _ in KINDS]
        with engines["strategy"].begin() as connection:
            for number, (kind, parameters) in enumerate(KINDS):
                row = StrategyRow(
                    id=ids[number], name=f"strategy {number}", account_id=account_id, kind=kind, parameters=parameters,
                    symbols=tuple(names), interval="1m", state=StrategyState.RUNNING, watch=Watch(since=now),
                )  # fmt: skip
                strategies.add(connection, row, now)
        for name in ("marketdata", "strategy"):
            with engines[name].connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(
                    text(f"ANALYZE {'marketdata.market_data' if name == 'marketdata' else 'strategy.strategies'}")
                )
        try:
            yield Evaluations(engines["marketdata"], engines["strategy"], names, ids, now)
        finally:
            for engine in engines.values():
                engine.dispose()


#: Closes that wander by a sine of their own, so that strategies cross and break out at times.
_ADD_BARS = text("""
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider)
SELECT i.symbol, '1m', t.at, c.close, c.close + 0.02, c.close - 0.02, c.close, 1000, 'bench'
FROM marketdata.instruments i
CROSS JOIN LATERAL (SELECT CAST(:at AS timestamptz) - interval '1 minute' * n AS at FROM generate_series(0, :back) n) t
CROSS JOIN LATERAL (
  SELECT round(CAST(100 + 5 * sin(extract(epoch FROM t.at) / 600 + hashtext(i.symbol) % 100)
                        + sin(extract(epoch FROM t.at) / 47) AS numeric), 2) AS close) c
WHERE i.symbol LIKE 'S%'
ON CONFLICT DO NOTHING
""")
_SET_PRICES = text("""
UPDATE marketdata.instruments i SET last_price = b.close, bid = b.close - 0.01, ask = b.close + 0.01, quoted_at = :at,
  sequence = sequence + 1
FROM marketdata.market_data b
WHERE b.symbol = i.symbol AND b.interval = '1m' AND b.start_at = CAST(:at AS timestamptz) - interval '1 minute'
""")
_ADD_ACCOUNT = text("""
INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
VALUES (:id, 'BENCH', 'bench', 'USD', 1000000000, now())
""")
_READ_BARS = text(
    "SELECT * FROM marketdata.bars_v2 WHERE interval = '1m' AND start_at >= :since ORDER BY symbol, start_at"
)
_READ_PRICES = text("SELECT * FROM marketdata.instruments_v1")
_INSERT = text("""
INSERT INTO strategy.decisions (run_id, at, strategy_id, symbol, version, action, outcome, reason, qty)
SELECT :run_id, :now, v.strategy_id, v.symbol, 1, 'hold', 'held', 'The averages did not cross.', 0
FROM json_to_recordset(CAST(:rows AS json)) AS v (strategy_id uuid, symbol text)
""")
_SIZE = text("""
SELECT pg_total_relation_size('strategy.decisions') / CAST(count(*) AS float8) FROM strategy.decisions
""")
