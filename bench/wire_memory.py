"""The memory of a process of orders after prices for a thousand resting orders, and for very many."""

from collections.abc import Sequence

from bench.bus_latency import publisher_of
from bench.bus_servers import Servers
from bench.orders_database import OrdersDatabase
from bench.orders_quotes import rest
from bench.report import Goal, Row, comparison
from bench.wire_fills import OTHERS
from bench.wire_orders import database_on, orders_running
from shared.bus.envelope import encode
from shared.clock import utc_now
from shared.contracts.prices import PricesUpdated

SYMBOLS = 500
ACCOUNTS = 1000
FEW = 1000
TIMEOUT = 120.0


def measure(servers: Servers, *, runs: int, batches: int, many: Sequence[int]) -> Sequence[Row]:
    """``runs`` processes for each number of resting orders, each after ``batches`` messages with all symbols."""
    with database_on(servers, SYMBOLS) as database:
        accounts = database.open_accounts(ACCOUNTS)
        rest(database, accounts, FEW)
        few = [_resident(servers, database, batches) for _ in range(runs)]
        rows, resting = [], FEW
        for count in many:
            rest(database, accounts, count - resting)
            resting = count
            pairs = list(zip([_resident(servers, database, batches) for _ in range(runs)], few, strict=True))
            name = (
                f"memory of a process with {count:,} resting orders beside {FEW:,}, after {batches} x {SYMBOLS} prices"
            )
            rows.append(comparison(name, "MB", pairs, Goal("ratio", "<=", 1.1)))
    return rows


def _resident(servers: Servers, database: OrdersDatabase, batches: int) -> float:
    print(f"memory: {batches} x {SYMBOLS} prices", flush=True)
    with orders_running(servers) as orders, publisher_of(servers) as publisher:
        ids = []
        for _ in range(batches):
            database.now = utc_now()
            message = encode(PricesUpdated.model_validate_json(database.prices()))
            publisher.send(message).result(TIMEOUT)
            ids.append(message.message_id)
        orders.wait_for(ids, seconds=TIMEOUT)
        servers.purge(OTHERS)
        return orders.resident_mb()
