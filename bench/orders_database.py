"""Orders on a durable PostgreSQL of its own: instruments, accounts and orders at will, and what they become."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import Engine, event, text

from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.orders.actors import fill_on_prices
from shared.bus import inbox
from shared.bus.tracing import tracing
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.prices import Price, PricesUpdated
from shared.storage import driver
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service

MARKET = Decimal(100)
SERVICES = ("marketdata", "orders", "valuation")


class Counted(psycopg.Cursor[Any]):
    """A cursor that counts what is executed, whoever does: SQLAlchemy, or our code on the driver's connection."""

    executed: ClassVar[int] = 0

    def execute(self, *arguments: Any, **options: Any) -> Any:
        Counted.executed += 1
        return super().execute(*arguments, **options)


def count_together(run: Callable[..., Any]) -> Callable[..., Any]:
    """The same for statements that go without a cursor."""

    def counted(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> Any:
        Counted.executed += len(calls)
        return run(used, prepared, calls)

    return counted


driver.run_prepared = count_together(driver.run_prepared)


@dataclass
class OrdersDatabase:
    """``now`` moves on by a second with each batch of prices, so every quote is newer than the orders before it."""

    engine: Engine
    symbols: Sequence[str]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    sequence: int = 0

    @property
    def context(self) -> ServiceContext:
        return ServiceContext("orders", self.engine, lambda: self.now)

    def open_accounts(self, count: int) -> list[UUID]:
        """Each with more cash than it can spend."""
        accounts = [uuid4() for _ in range(count)]
        with self.engine.begin() as connection:
            connection.execute(_OPEN, {"ids": accounts, "now": self.now})
        return accounts

    def place(self, orders: Sequence[tuple[UUID, str, str, Decimal | None]]) -> list[UUID]:
        """Open orders of one share each, (account, symbol, side, limit price or None for the market)."""
        ids = [uuid4() for _ in orders]
        columns = {
            "accounts": [account for account, *_ in orders],
            "symbols": [symbol for _, symbol, *_ in orders],
            "sides": [side for _, _, side, _ in orders],
            "limits": [limit for *_, limit in orders],
        }
        with self.engine.begin() as connection:
            connection.execute(_PLACE, {**columns, "ids": ids, "now": self.now})
        return ids

    def prices(self, symbols: Sequence[str] | None = None, last: Decimal = MARKET) -> bytes:
        """A message with the next price of each symbol, as it comes over the wire."""
        self.now += timedelta(seconds=1)
        self.sequence += 1
        half, size = Decimal("0.01"), Decimal(1000)
        prices = tuple(
            Price(
                symbol=symbol, bid=last - half, ask=last + half, bid_size=size, ask_size=size, last=last, open=last,
                high=last, low=last, close=last, volume=size, quoted_at=self.now, sequence=self.sequence,
                provider="bench",
            )
            for symbol in symbols or self.symbols
        )  # fmt: skip
        return PricesUpdated(prices=prices).model_dump_json().encode()

    def handle(self, body: bytes) -> None:
        """All that a worker does with the message, but for taking it from RabbitMQ and acknowledging it."""
        event = PricesUpdated.model_validate_json(body)
        with tracing(None), self.context.unit_of_work() as uow:
            inbox.record(uow, "bench", str(uuid4()))
            fill_on_prices(event, uow)

    def count(self, statement: str) -> int:
        with self.engine.begin() as connection:
            found: int = connection.execute(text(statement)).scalar_one()
        return found

    def tidy(self) -> None:
        """Tidy up as relays and autovacuum do in a system that runs."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("TRUNCATE orders.outbox"))
            connection.execute(text("VACUUM ANALYZE orders.orders, orders.accounts, orders.positions, orders.lots"))


@contextmanager
def orders_database(symbols: int) -> Iterator[OrdersDatabase]:
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder, PostgresCluster(Path(folder) / "postgres") as url:
        urls = service_urls(url)
        names = prepare(urls, symbols)
        engine = make_engine(urls["orders"], name="bench")
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "cursor_factory", Counted))
        yield OrdersDatabase(engine, names)
        engine.dispose()


def prepare(urls: dict[str, str], symbols: int) -> list[str]:
    """Migrate the services' databases and add so many instruments. Returns their symbols."""
    names = [f"S{number}" for number in range(symbols)]
    for service in SERVICES:
        engine = make_engine(urls[service], name="bench")
        migrate_service(engine, service)
        if service == "marketdata":
            with engine.begin() as connection:
                add_instruments(connection, [Instrument(name, name) for name in names])
        engine.dispose()
    return names


_OPEN = text("""
INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
SELECT id, id, 'bench', 'USD', 1000000000, :now FROM unnest(CAST(:ids AS uuid[])) AS id
""")
_PLACE = text("""
INSERT INTO orders.orders (account_id, id, order_group, client_order_id, symbol, side, type, time_in_force, qty,
  limit_price,
                           trigger_direction, trigger_price, status, held_for_orders, submitted_at, accepted_at,
                           active_at, updated_at)
SELECT account_id, id, id, id, symbol, side, CASE WHEN price IS NULL THEN 'market' ELSE 'limit' END, 'gtc', 1, price,
       CASE WHEN price IS NULL OR side = 'buy' THEN 'below' ELSE 'above' END, COALESCE(price, 'Infinity'), 'accepted',
       CASE side WHEN 'sell' THEN 1 ELSE 0 END, :now, :now, :now, :now
FROM unnest(CAST(:accounts AS uuid[]), CAST(:ids AS uuid[]), CAST(:symbols AS text[]), CAST(:sides AS text[]),
            CAST(:limits AS numeric[])) AS o (account_id, id, symbol, side, price)
""")
