"""People who trade while everything breaks: they hand in an order until it is answered, and cancel once."""

from dataclasses import dataclass, field
from random import Random
from threading import Event

import httpx2

from tests.deployment import KEY

#: Each of these fills on the next price, whatever it is; what is bought is sold.
FILLABLE: tuple[dict[str, str], ...] = (
    {"symbol": "AAPL", "side": "buy"},
    {"symbol": "AAPL", "side": "sell"},
    {"symbol": "IBM", "side": "buy", "type": "limit", "limit_price": "5000"},
    {"symbol": "IBM", "side": "sell", "type": "limit", "limit_price": "0.5"},
    {"symbol": "MSFT", "side": "buy", "qty": "0.5", "time_in_force": "day"},
    {"symbol": "MSFT", "side": "sell", "qty": "0.5", "time_in_force": "day"},
)
#: This one rests until it is canceled.
RESTING = {"symbol": "IBM", "side": "buy", "type": "limit", "limit_price": "1.00"}
ANSWERED = {200, 403, 422}


@dataclass
class Trader:
    """``name`` begins the client order ids: one order for each of ``answered`` must be found afterwards."""

    gateway: str
    name: str
    random: Random
    stopping: Event = field(default_factory=Event)
    answered: dict[str, str | None] = field(default_factory=dict)
    asked_to_cancel: set[str] = field(default_factory=set)
    canceled: set[str] = field(default_factory=set)
    failures: int = 0

    def run(self) -> None:
        with httpx2.Client(base_url=self.gateway, headers=KEY, timeout=20) as client:
            while not self.stopping.wait(self.random.uniform(0.005, 0.08)):
                if self.random.random() < 0.5:
                    self._submit(client, self.random.choice(FILLABLE))
                else:
                    order_id = self._submit(client, RESTING)
                    if order_id is not None and self.random.random() < 0.8:
                        self._cancel(client, order_id)

    def _submit(self, client: httpx2.Client, order: dict[str, str]) -> str | None:
        """The order's id, or None where it was refused."""
        number = f"{self.name}-{len(self.answered)}"
        body = {"qty": "1", "type": "market", "time_in_force": "gtc", "client_order_id": number, **order}
        while True:
            try:
                answer = client.post("/v2/orders", json=body)
            except httpx2.HTTPError:
                self.failures += 1
            else:
                if answer.status_code in ANSWERED:
                    self.answered[number] = answer.json()["id"] if answer.status_code == 200 else None
                    return self.answered[number]
                self.failures += 1
            Event().wait(0.1)  # a bot's own pause between tries

    def _cancel(self, client: httpx2.Client, order_id: str) -> None:
        """Once: who asks once is told once what became of it, whether this answer arrives or not."""
        self.asked_to_cancel.add(order_id)
        try:
            answer = client.delete(f"/v2/orders/{order_id}")
        except httpx2.HTTPError:
            self.failures += 1
        else:
            if answer.status_code == 204:
                self.canceled.add(order_id)
