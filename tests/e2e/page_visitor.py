"""A user of the page: an account with a key, a browser of their own with tabs, and prices for them to see."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2 as httpx
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect
from sqlalchemy import text

from embedded.system import System
from tests.support import eventually, price, prices, send

#: The key of the demo account, which may open accounts.
KEY = {"APCA-API-KEY-ID": "TESTKEY", "APCA-API-SECRET-KEY": "test-secret-key"}
ORDER = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
FAR_LIMIT = {"type": "limit", "limit_price": "1", "time_in_force": "gtc", "qty": "1"}
#: Chromium logs each refused request by itself.
REFUSED_REQUEST = "Failed to load resource"
_STORE_PRICE = text("""
UPDATE marketdata.instruments SET sequence = :sequence, provider = :provider, last_price = :last, bid = :bid,
  ask = :ask, quoted_at = :quoted_at WHERE symbol = :symbol
""")
_sequences = itertools.count(1)


@dataclass(frozen=True)
class Site:
    """The running system, its address, and the browser."""

    system: System
    url: str
    browser: Browser

    def push(self, last: Mapping[str, str], provider: str = "test") -> None:
        """Write and publish the prices of some symbols as marketdata does, in one batch."""
        batch = [
            price(symbol, each, sequence=next(_sequences)).model_copy(update={"provider": provider})
            for symbol, each in last.items()
        ]
        with self.system.contexts["marketdata"].engine.begin() as connection:
            for each in batch:
                connection.execute(_STORE_PRICE, each.model_dump())
        send(self.system.contexts["marketdata"], prices(*batch))

    def streams(self, account_id: UUID) -> int:
        """Return the number of open streams of the account."""
        return sum(stream.account_id == account_id for stream in tuple(self.system.hub._streams))


@dataclass(frozen=True)
class Visitor:
    """A user. ``errors`` are the errors that their pages have logged or not caught."""

    site: Site
    context: BrowserContext
    api: httpx.Client
    account_id: UUID
    key: dict[str, str]
    errors: list[str] = field(default_factory=list)

    def sign_in(self) -> None:
        """Open a session in the browser without the form."""
        assert self.context.request.post(f"{self.site.url}/api/session", data=self.key).status == 200

    def tab(self, *, live: bool = True) -> Page:
        """Open the page in a new tab and, unless told otherwise, wait until it is live."""
        page = self.context.new_page()
        page.goto(self.site.url, wait_until="domcontentloaded")
        if live:
            expect(page.locator("#connection")).to_have_text("live")
            expect(page.locator("#account-number")).not_to_have_text("…")
        return page

    def order(self, **terms: Any) -> Any:
        """Place an order, by default a day market buy of 10 AAPL."""
        given = {**ORDER, **terms}
        if "notional" in terms:
            del given["qty"]
        answer = self.api.post("/v2/orders", json=given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def orders(self) -> Any:
        """Return the newest orders of the account."""
        return self.api.get("/v2/orders", params={"status": "all"}).json()

    def filled(self, last: str, **terms: Any) -> None:
        """Place an order, publish this price, and wait until the order is filled."""
        placed = self.order(**terms)
        self.site.push({placed["symbol"]: last})
        eventually(lambda: self.api.get(f"/v2/orders/{placed['id']}").json()["status"] == "filled")


def open_visitor(site: Site, context: BrowserContext, **settings: Any) -> Visitor:
    """Open an account with 100,000 in cash whose key may trade and operate."""
    asked = {"name": "visitor", "cash": "100000", "settings": settings, "scopes": ["trade", "operate"]}
    opened = httpx.post(f"{site.url}/api/accounts", json=asked, headers=KEY).json()
    key = {name: opened[name] for name in ("key_id", "secret_key")}
    headers = {"APCA-API-KEY-ID": key["key_id"], "APCA-API-SECRET-KEY": key["secret_key"]}
    api = httpx.Client(base_url=site.url, headers=headers)
    eventually(lambda: api.get("/v2/account").status_code == 200)
    visitor = Visitor(site, context, api, UUID(opened["account_id"]), key)

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(REFUSED_REQUEST):
            visitor.errors.append(message.text)

    context.on("console", note)
    context.on("weberror", lambda error: visitor.errors.append(str(error.error)))
    return visitor
