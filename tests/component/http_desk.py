"""What the tests of the HTTP surface share: keys, orders, prices, and a look at what is stored."""

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
    """How many submissions, orders and outgoing messages there are."""
    engine = system.contexts["gateway"].engine
    return (
        value(engine, "SELECT count(*) FROM gateway.submissions"),
        value(system.contexts["orders"].engine, "SELECT count(*) FROM orders.orders"),
        value(engine, "SELECT count(*) FROM gateway.outbox"),
    )


def push(system: System, last: str, symbol: str = "AAPL") -> None:
    """A price as marketdata writes and publishes it: the bid a cent below, the ask a cent above."""
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
    """Who trades an account of their own, with its key. Requests under ``/v2``, unless they say otherwise."""

    system: System
    client: TestClient
    account_id: UUID
    key: dict[str, str]

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        whole = path if path.startswith("/api") else f"/v2{path}"
        return self.client.request(method, whole, headers=self.key, **options)

    def get(self, path: str, **query: Any) -> Any:
        return self.ask("GET", path, params=query).json()

    def order(self, **terms: Any) -> Any:
        """A market buy of 10 AAPL for the day unless told otherwise, accepted."""
        given = {**ORDER, **terms}
        if "notional" in terms:
            del given["qty"]
        answer = self.ask("POST", "/orders", json=given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        answer = self.ask(method, path, **options)
        return answer.status_code, answer.json().get("message") or answer.json()["detail"]

    def filled(self, last: str, **terms: Any) -> Any:
        """The order of these terms, filled at about this price."""
        placed = self.order(**terms)
        push(self.system, last, placed["symbol"])
        return self.awaited(placed["id"], "filled")

    def awaited(self, order_id: str, status: str) -> Any:
        """The order, once it has this status."""

        def there() -> Any:
            found = self.get(f"/orders/{order_id}")
            return found if found["status"] == status else None

        return eventually(there, what=f"order {order_id} {status}")

    @contextmanager
    def unanswered(self) -> Iterator[None]:
        """Orders cannot touch the account meanwhile, and the gateway does not wait for it for long."""
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
        return broken_invariants(self.system.contexts["orders"].engine) == {}


def open_account(
    system: System, client: TestClient, cash: str = "100000", currency: str = "USD", **settings: Any
) -> Trader:
    """A new account, once it is open; its key may trade and operate."""
    asked = {"name": "test", "cash": cash, "currency": currency, "settings": settings, "scopes": ["trade", "operate"]}
    opened = client.post("/api/accounts", json=asked, headers=KEY).json()
    key = {"APCA-API-KEY-ID": opened["key_id"], "APCA-API-SECRET-KEY": opened["secret_key"]}
    trader = Trader(system, client, UUID(opened["account_id"]), key)
    eventually(lambda: trader.ask("GET", "/account").status_code == 200)
    return trader
