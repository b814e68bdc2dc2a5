"""A durable PostgreSQL of its own with the tables of marketdata."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine, text

from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.persistence.sessions import add_markets
from shared.contracts.markets import MARKETS
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service


@contextmanager
def marketdata_database(symbols: int) -> Iterator[Engine]:
    """The engine of the service, with instruments S0, S1, …"""
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder, PostgresCluster(Path(folder) / "postgres") as url:
        engine = make_engine(service_urls(url)["marketdata"], name="bench")
        migrate_service(engine, "marketdata")
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            add_markets(connection, MARKETS.values())
            add_instruments(connection, [Instrument(f"S{number}", f"S{number}") for number in range(symbols)])
        yield engine
        engine.dispose()


def vacuum(engine: Engine, table: str) -> None:
    """Do as autovacuum does in a system that runs."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text(f"VACUUM ANALYZE {table}"))
