"""What the tests of the HTTP surface share: a key, an order, and a look at what is stored."""

from embedded.system import System
from tests.support import value

KEY = {"APCA-API-KEY-ID": "TESTKEY", "APCA-API-SECRET-KEY": "test-secret-key"}
ORDER = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}


def stored(system: System) -> tuple[int, int, int]:
    """How many submissions, orders and outgoing messages there are."""
    engine = system.units["gateway"].engine
    return (
        value(engine, "SELECT count(*) FROM gateway.submissions"),
        value(system.units["orders"].engine, "SELECT count(*) FROM orders.orders"),
        value(engine, "SELECT count(*) FROM gateway.outbox"),
    )
