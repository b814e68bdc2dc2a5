"""A durable PostgreSQL of its own with accounts that hold positions, and the services that value them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, Engine, text

from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.persistence.sessions import add_markets
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import MARKETS
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service

SERVICES = ("marketdata", "orders", "valuation")


@dataclass
class ValuationDatabase:
    """``now`` moves on with each event of prices."""

    marketdata: Engine
    orders: Engine
    valuation: Engine
    symbols: int
    now: datetime

    @property
    def context(self) -> ServiceContext:
        return ServiceContext("valuation", self.valuation, lambda: self.now)

    def pass_time(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction of valuation without a time limit."""
        with self.valuation.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            yield connection


@contextmanager
def valuation_database(*, symbols: int, accounts: int, positions: int) -> Iterator[ValuationDatabase]:
    """Accounts with cash, each with the same number of positions in symbols S0, S1, …, long and short."""
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder, PostgresCluster(Path(folder) / "postgres") as url:
        urls = service_urls(url)
        engines = {name: make_engine(urls[name], name="bench") for name in SERVICES}
        for name in SERVICES:
            migrate_service(engines[name], name)
        now = datetime.now(UTC)
        with engines["marketdata"].begin() as connection:
            add_markets(connection, MARKETS.values())
            add_instruments(connection, [Instrument(f"S{number}", f"S{number}") for number in range(symbols)])
            connection.execute(_PRICE, {"now": now})
        with engines["orders"].begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(_ADD_ACCOUNTS, {"accounts": accounts, "now": now})
            connection.execute(_ADD_DEPOSITS)
            connection.execute(_ADD_POSITIONS, {"each": positions // accounts, "symbols": symbols, "now": now})
        for name in SERVICES:
            with engines[name].connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("SET statement_timeout = 0"))
                connection.execute(text("VACUUM ANALYZE"))
        yield ValuationDatabase(engines["marketdata"], engines["orders"], engines["valuation"], symbols, now)
        for engine in engines.values():
            engine.dispose()


_PRICE = text("""
UPDATE marketdata.instruments SET last_price = 50 + random() * 100, bid = 50, ask = 150, quoted_at = :now, sequence = 1
""")
_ADD_ACCOUNTS = text("""
INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
SELECT gen_random_uuid(), 'N' || n, 'bench', 'USD', 10000, :now FROM generate_series(1, :accounts) n
""")
_ADD_DEPOSITS = text("""
INSERT INTO orders.ledger (account_id, at, kind, reference, cash, capital)
SELECT id, created_at, 'deposit', gen_random_uuid(), 10000, 10000 FROM orders.accounts
""")
_ADD_POSITIONS = text("""
INSERT INTO orders.positions (account_id, symbol, qty, cost, updated_at)
SELECT a.id, 'S' || ((a.place * 7 + n * 13) % :symbols), CASE n % 5 WHEN 0 THEN -10 ELSE 10 END,
       CASE n % 5 WHEN 0 THEN -1000 ELSE 1000 END, :now
FROM (SELECT id, row_number() OVER () AS place FROM orders.accounts) a, generate_series(1, :each) n
ON CONFLICT DO NOTHING
""")
