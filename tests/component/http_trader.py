"""A trader over HTTP, with an account and a key of its own, and prices for it to trade at."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx2
from sqlalchemy import text
from starlette.testclient import TestClient

from embedded.system import System
from tests.support import broken_invariants, eventually, price, prices, send, value

KEY = {"APCA-API-KEY-ID": "TESTKEY", "APCA-API-SECRET-KEY": "test-secret-key"}
ORDER = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
_LOCK_ACCOUNT = text("SELECT FROM orders.accounts WHERE id = :id FOR UPDATE")
_sequences = itertools.count(1)


def stored(system: System) -> tuple[int, int, int]:
    """Return the numbers of submissions, orders and outgoing messages."""
    engine = system.contexts["gateway"].engine
    return (
        value(engine, "SELECT count(*) FROM gateway.submissions"),
        value(system.contexts["orders"].engine, "SELECT count(*) FROM orders.orders"),
        value(engine, "SELECT count(*) FROM gateway.outbox"),
    )


def push(system: System, last: str, symbol: str = "AAPL") -> None:
    """Write and publish a price as marketdata does, with the bid a cent below and the ask a cent above."""
    quote = price(symbol, last, sequence=next(_sequences))
    with system.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE marketdata.instruments SET sequence = %s, provider = 'test', last_price = %s, bid = %s, ask = %s,"
            " quoted_at = %s WHERE symbol = %s",
            (quote.sequence, quote.last, quote.bid, quote.ask, quote.quoted_at, symbol),
        )
    send(system.contexts["marketdata"], prices(quote))


@dataclass(frozen=True)
class Trader:
    """An account with its key. Paths are under ``/v2``, except those that begin with ``/api``."""

    system: System
    client: TestClient
    account_id: UUID
    key: dict[str, str]

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Send a request with the key."""
        whole = path if path.startswith("/api") else f"/v2{path}"
        return self.client.request(method, whole, headers=self.key, **options)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a GET."""
        return self.ask("GET", path, params=query).json()

    def order(self, **terms: Any) -> Any:
        """Submit an order, by default a day market buy of 10 AAPL, and assert that it is accepted or pending."""
        given = {**ORDER, **terms}
        if "notional" in terms:
            del given["qty"]
        answer = self.ask("POST", "/orders", json=given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Return the status and the message of an error."""
        answer = self.ask(method, path, **options)
        return answer.status_code, answer.json().get("message") or answer.json()["detail"]

    def filled(self, last: str, **terms: Any) -> Any:
        """Submit an order, publish this price, and return the order once it is filled."""
        placed = self.order(**terms)
        push(self.system, last, placed["symbol"])
        return self.awaited(placed["id"], "filled")

    def awaited(self, order_id: str, status: str) -> Any:
        """Return the order once it has this status."""

        def there() -> Any:
            found = self.get(f"/orders/{order_id}")
            return found if found["status"] == status else None

        return eventually(there, what=f"order {order_id} {status}")

    @contextmanager
    def unanswered(self) -> Iterator[None]:
        """Lock the account against the orders service, and make the gateway time out early."""
        app: Any = self.client.app
        patient = app.state.gateway
        hasty = patient.settings.model_copy(update={"answer_timeout": 0.05})
        app.state.gateway = replace(patient, settings=hasty)
        try:
            with self.system.contexts["orders"].engine.begin() as connection:
                connection.execute(_LOCK_ACCOUNT, {"id": self.account_id})
                yield
        finally:
            app.state.gateway = patient

    def books_hold(self) -> bool:
        """Return True if no invariant of the books is broken."""
        return broken_invariants(self.system.contexts["orders"].engine) == {}


def open_account(
    system: System, client: TestClient, cash: str = "100000", currency: str = "USD", **settings: Any
) -> Trader:
    """Open an account whose key may trade and operate, and return once it is open."""
    asked = {"name": "test", "cash": cash, "currency": currency, "settings": settings, "scopes": ["trade", "operate"]}
    opened = client.post("/api/accounts", json=asked, headers=KEY).json()
    key = {"APCA-API-KEY-ID": opened["key_id"], "APCA-API-SECRET-KEY": opened["secret_key"]}
    trader = Trader(system, client, UUID(opened["account_id"]), key)
    eventually(lambda: trader.ask("GET", "/account").status_code == 200)
    return trader


def startable(client: TestClient) -> list[str]:
    """The jobs that start without parameters."""
    names = [job["name"] for job in client.get("/api/jobs/status").json()["jobs"]]
    parameters = {name: client.get(f"/api/jobs/{name}").json()["parameters"] or {} for name in names}
    return [name for name in names if not parameters[name].get("required")]
