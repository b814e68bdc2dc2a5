"""What an earlier release wrote is carried over: the books are proven, and what was open fills."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from shutil import copy
from uuid import UUID

import pytest
from sqlalchemy import Engine

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.persistence.sessions import add_markets
from services.orders.persistence.invariants import broken
from services.orders.usecases.execute import fill_on
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import MARKETS
from shared.storage.engine import make_engine
from shared.storage.migrate import JOBS_ROLE, ROOT, migrate, migrate_service, migrations_of
from tests.conftest import database
from tests.support import price, rows

ACCOUNT, BUYING, BOUGHT, SOLD, STOP, ENTRY, EXIT = (UUID(int=n) for n in range(1, 8))


@pytest.fixture
def earlier(postgres: str, template: dict[str, str], tmp_path: Path) -> Iterator[Engine]:
    """Orders as the release before this had it, in a database of its own."""
    with database(postgres, template, migrated=False) as urls:
        yield from orders_of_the_earlier_release(urls, tmp_path)


def orders_of_the_earlier_release(urls: dict[str, str], tmp_path: Path) -> Iterator[Engine]:
    marketdata = make_engine(urls["marketdata"], name="marketdata")
    migrate_service(marketdata, "marketdata")
    with marketdata.begin() as connection:
        add_markets(connection, MARKETS.values())
        add_instruments(connection, [Instrument("AAPL", "AAPL")])
    marketdata.dispose()
    engine = make_engine(urls["orders"], name="orders")
    migrate(engine, "jobs", ROOT / "shared" / "jobs" / "migrations", role=JOBS_ROLE)
    for revision in sorted(migrations_of("orders").glob("000[1-5]_*.py")):
        copy(revision, tmp_path)
    migrate(engine, "orders", tmp_path)
    yield engine
    engine.dispose()


def test_an_account_with_open_orders_and_a_round_trip_is_carried_over(earlier: Engine) -> None:
    """Ten bought at 100, four sold at 110; a limit and a stop wait, and fill afterwards."""
    with earlier.begin() as connection:
        connection.exec_driver_sql(AS_IT_WAS)
    migrate_service(earlier, "orders")
    with earlier.connect() as connection:
        assert dict(broken(connection)) == {}
    (fill,) = rows(earlier, "SELECT * FROM orders.ledger WHERE kind = 'fill' AND reference = :id", id=EXIT)
    assert (fill.cash, fill.qty, fill.cost, fill.realized) == (440, -4, -400, 40)
    assert {(row.currency, row.rate) for row in rows(earlier, "SELECT * FROM orders.fills")} == {("USD", 1)}
    with ServiceContext("orders", earlier).unit_of_work() as uow:
        assert fill_on(uow, [price("AAPL", "90", sequence=8)], at=uow.now) == 2
    with earlier.connect() as connection:
        assert dict(broken(connection)) == {}
    held = rows(earlier, "SELECT qty FROM orders.positions")
    assert [row.qty for row in held] == [Decimal(6) + 5 - 6]


def test_what_was_traded_is_in_the_currency_of_its_account(earlier: Engine) -> None:
    """An earlier release refused all else, so nothing of it was ever converted."""
    with earlier.begin() as connection:
        connection.exec_driver_sql(AS_IT_WAS.replace("'USD'", "'EUR'"))
    migrate_service(earlier, "orders")
    with earlier.connect() as connection:
        assert dict(broken(connection)) == {}
    fills = rows(earlier, "SELECT v.currency, v.rate FROM orders.fills_v1 v")
    assert [tuple(row) for row in fills] == [("EUR", 1)] * 2
    orders = rows(earlier, "SELECT currency, filled_avg_rate FROM orders.orders")
    assert [tuple(row) for row in orders] == [("EUR", 1)] * 4


AS_IT_WAS = f"""
INSERT INTO orders.accounts (id, number, name, currency, cash, reserved, sequence, created_at)
VALUES ('{ACCOUNT}', 'PA1', 'old', 'USD', 99440, 475, 5, now() - interval '1 day');
INSERT INTO orders.orders (account_id, id, client_order_id, symbol, side, type, time_in_force, qty, limit_price,
                           stop_price, status, filled_qty, filled_avg_price, reserved, submitted_at, accepted_at,
                           filled_at, updated_at)
VALUES ('{ACCOUNT}', '{BOUGHT}', 'a', 'AAPL', 'buy', 'market', 'gtc', 10, NULL, NULL, 'filled', 10, 100, 0,
        now() - interval '3 h', now() - interval '3 h', now() - interval '2 h', now()),
       ('{ACCOUNT}', '{SOLD}', 'b', 'AAPL', 'sell', 'market', 'gtc', 4, NULL, NULL, 'filled', 4, 110, 0,
        now() - interval '3 h', now() - interval '3 h', now() - interval '1 h', now()),
       ('{ACCOUNT}', '{BUYING}', 'c', 'AAPL', 'buy', 'limit', 'gtc', 5, 95, NULL, 'accepted', 0, NULL, 475,
        now() - interval '1 h', now() - interval '1 h', NULL, now()),
       ('{ACCOUNT}', '{STOP}', 'd', 'AAPL', 'sell', 'stop', 'gtc', 6, NULL, 92, 'accepted', 0, NULL, 0,
        now() - interval '1 h', now() - interval '1 h', NULL, now());
INSERT INTO orders.fills (account_id, order_id, number, id, symbol, side, qty, price, amount, filled_at, price_sequence,
                          quoted_at, bid, ask, last)
VALUES ('{ACCOUNT}', '{BOUGHT}', 1, '{ENTRY}', 'AAPL', 'buy', 10, 100, 1000, now() - interval '2 h', 1,
        now() - interval '2 h', 99, 100, 100),
       ('{ACCOUNT}', '{SOLD}', 1, '{EXIT}', 'AAPL', 'sell', 4, 110, 440, now() - interval '1 h', 2,
        now() - interval '1 h', 110, 111, 110);
INSERT INTO orders.lots VALUES ('{ACCOUNT}', 'AAPL', '{ENTRY}', now() - interval '2 h', 6, 600);
INSERT INTO orders.positions VALUES ('{ACCOUNT}', 'AAPL', 6, 600, now());
INSERT INTO orders.round_trips (account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at, cost,
                           proceeds, realized_pl)
VALUES ('{ACCOUNT}', gen_random_uuid(), 'AAPL', 4, '{ENTRY}', '{EXIT}', now() - interval '2 h', now() - interval '1 h',
        400, 440, 40);
INSERT INTO orders.ledger (account_id, at, kind, amount, fill_id)
VALUES ('{ACCOUNT}', now() - interval '1 day', 'deposit', 100000, NULL),
       ('{ACCOUNT}', now() - interval '2 h', 'fill', -1000, '{ENTRY}'),
       ('{ACCOUNT}', now() - interval '1 h', 'fill', 440, '{EXIT}');
INSERT INTO orders.sequences (consumer, key, sequence) VALUES ('orders.prices', 'AAPL', 7);
"""
