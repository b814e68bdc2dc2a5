"""People who trade while everything breaks: they submit an order until it is answered, and change it once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from threading import Event
from typing import Any, NamedTuple

import httpx2

from tests.chaos.tickets import changes, ticket
from tests.deployment import KEY

ANSWERED = {200, 403, 422}
#: A cash account, and a margin account that may sell short, fills inside of bars and gets its orders in parts. Orders
#: rest at limits that no price reaches, so both may trade with themselves: most of their orders would be refused.
SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"allow_wash_trades": True},
    {
        "allow_wash_trades": True,
        "multiplier": 2,
        "shorting": True,
        "fills": {
            "fills_on": "bar",
            "participation": "0.003",
            "commission": {"kind": "per_share", "rate": "0.01", "minimum": "0.5"},
            "slippage": {"kind": "fixed", "rate": "2"},
        },
    },
)
CASH = "10000000"


@dataclass(frozen=True)
class Account:
    id: str
    headers: Mapping[str, str]


def open_account(gateway: str, settings: Mapping[str, Any]) -> Account:
    body = {"name": "fault run", "cash": CASH, "settings": settings, "scopes": ["trade", "operate"]}
    opened = httpx2.post(f"{gateway}/api/accounts", json=body, headers=KEY, timeout=20).raise_for_status().json()
    headers = {"APCA-API-KEY-ID": opened["key_id"], "APCA-API-SECRET-KEY": opened["secret_key"]}
    return Account(opened["account_id"], headers)


def close_account(gateway: str, account: Account) -> None:
    """Cancel and drop all that the account has, so that nothing trades on in the next fault run."""
    url = f"{gateway}/api/account/reset"
    httpx2.post(url, json={"cash": "0"}, headers=account.headers, timeout=20).raise_for_status()


class Replace(NamedTuple):
    """A confirmed replace: the order that goes on, None where it was not known yet, and the whole quantity."""

    new_id: str | None
    qty: str


@dataclass
class Trader:
    """``name`` begins the client order ids: one order for each of ``answered`` must be found afterwards.

    ``canceled`` are the orders of which a cancel was confirmed, ``replaced`` those of which a replace was. ``exits``
    are the quantities that oco orders are to close. ``open`` may be asked about; each is, once.
    """

    gateway: str
    account: Account
    name: str
    random: Random
    stopping: Event = field(default_factory=Event)
    answered: dict[str, str | None] = field(default_factory=dict)
    asked_to_cancel: set[str] = field(default_factory=set)
    canceled: set[str] = field(default_factory=set)
    asked_to_replace: set[str] = field(default_factory=set)
    replaced: dict[str, Replace] = field(default_factory=dict)
    exits: dict[str, Decimal] = field(default_factory=dict)
    open: list[dict[str, Any]] = field(default_factory=list)
    last: dict[str, Decimal] = field(default_factory=dict)
    failures: int = 0

    def run(self) -> None:
        with httpx2.Client(base_url=self.gateway, headers=self.account.headers, timeout=20) as client:
            while not self.stopping.wait(self.random.uniform(0.005, 0.08)):
                what = self.random.random()
                if what < 0.05:
                    self._look(client)
                elif what < 0.65 or not self.open:
                    self._submit(client, ticket(self.random, self.last))
                else:
                    self._change(client)

    def _look(self, client: httpx2.Client) -> None:
        """Look at the prices of the positions."""
        answer = self._ask(client, "GET", "/v2/positions")
        if answer is not None and answer.status_code == 200:
            self.last |= {each["symbol"]: Decimal(each["current_price"]) for each in answer.json()}

    def _submit(self, client: httpx2.Client, order: dict[str, Any]) -> None:
        number = f"{self.name}-{len(self.answered)}"
        while True:
            answer = self._ask(client, "POST", "/v2/orders", {**order, "client_order_id": number}, key=number)
            if answer is not None and answer.status_code in ANSWERED:
                break
            Event().wait(0.1)  # a bot's own pause between tries
        self.answered[number] = answer.json()["id"] if answer.status_code == 200 else None
        if answer.status_code == 200:
            self.open += [answer.json(), *(answer.json()["legs"] or ())]
            if order.get("order_class") == "oco":
                self.exits[answer.json()["id"]] = Decimal(order["qty"])

    def _change(self, client: httpx2.Client) -> None:
        """Cancel or replace one of the newest orders. Perhaps do both where no replace was confirmed."""
        order = self.open.pop(self.random.randrange(max(0, len(self.open) - 10), len(self.open)))
        if self.random.random() < 0.5 or (not self._replace(client, order) and self.random.random() < 0.3):
            self._cancel(client, order["id"])

    def _cancel(self, client: httpx2.Client, order_id: str) -> None:
        """Cancel once: the account gets one answer, whether this response arrives or not."""
        self.asked_to_cancel.add(order_id)
        answer = self._ask(client, "DELETE", f"/v2/orders/{order_id}")
        if answer is not None and answer.status_code == 204:
            self.canceled.add(order_id)

    def _replace(self, client: httpx2.Client, order: dict[str, Any]) -> bool:
        """Replace once, too; true where another order goes on."""
        self.asked_to_replace.add(order["id"])
        wanted = changes(self.random, order)
        answer = self._ask(client, "PATCH", f"/v2/orders/{order['id']}", wanted)
        if answer is None or answer.status_code != 200:
            return False
        new = answer.json()
        goes_on = bool(new["id"] != order["id"])
        self.replaced[order["id"]] = Replace(new["id"] if goes_on else None, wanted.get("qty", order["qty"]))
        self.open += [new] if goes_on else []
        return goes_on

    def _ask(
        self, client: httpx2.Client, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> httpx2.Response | None:
        """The answer; None where none arrived. A request that is repeated with its ``key`` gets the first answer."""
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            answer = client.request(method, path, json=body, headers=headers)
        except httpx2.HTTPError:
            self.failures += 1
            return None
        self.failures += answer.status_code >= 500
        return answer
