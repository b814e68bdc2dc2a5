"""Ordinary traders of a soak: each looks at its account now and then, trades a little, and leaves few orders open."""

import random
import time
from typing import Any

import httpx2

from bench.embedded_run import EmbeddedRun
from shared.background import Background

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
CASH = "100000"
#: Seconds between two looks of a trader, of which about half bring an order.
PAUSE_SECONDS = (10.0, 20.0)
MOST_OPEN = 3
TIMEOUT = 20.0


class Trader(Background):
    """``orders`` and ``refused`` count the submitted orders, ``failed`` the requests without a proper answer."""

    def __init__(self, run: EmbeddedRun, number: int) -> None:
        super().__init__(f"trader-{number}")
        self._run = run
        self._random = random.Random(number)
        self._headers = _open_account(run, f"soak {number}")
        self.orders = self.refused = self.failed = 0

    def run(self) -> None:
        with httpx2.Client(base_url=self._run.url, headers=self._headers, timeout=TIMEOUT) as client:
            pause = self._random.uniform(0, PAUSE_SECONDS[0])
            while not self.stopping.wait(pause):
                try:
                    self._look_and_trade(client)
                except httpx2.HTTPError:
                    self.failed += 1
                pause = self._random.uniform(*PAUSE_SECONDS)

    def _look_and_trade(self, client: httpx2.Client) -> None:
        client.get("/v2/account").raise_for_status()
        positions = client.get("/v2/positions").raise_for_status().json()
        still_open = client.get("/v2/orders", params={"status": "open"}).raise_for_status().json()
        for order in still_open[MOST_OPEN:]:
            client.delete(f"/v2/orders/{order['id']}")
        if self._random.random() < 0.5:
            self._submit(client, self._order(positions))

    def _order(self, positions: list[dict[str, Any]]) -> dict[str, Any]:
        """Choose a sale of a position, a purchase, or a purchase at a limit below the price, which may rest."""
        held = {each["symbol"]: each for each in positions}
        symbol = self._random.choice(SYMBOLS)
        common = {"symbol": symbol, "time_in_force": "day", "type": "market"}
        if symbol in held:
            if self._random.random() < 0.7:
                return {**common, "side": "sell", "qty": held[symbol]["qty_available"]}
            limit = f"{float(held[symbol]['current_price']) * 0.995:.2f}"
            return {**common, "side": "buy", "qty": "1", "type": "limit", "limit_price": limit}
        return {**common, "side": "buy", "qty": str(self._random.randint(1, 10))}

    def _submit(self, client: httpx2.Client, order: dict[str, Any]) -> None:
        answer = client.post("/v2/orders", json=order)
        self.orders += 1
        self.refused += answer.status_code in {403, 422}
        self.failed += answer.status_code >= 500


class Viewer(Background):
    """Keeps the page's stream open, and connects again once a minute as a closed lid and a reload do."""

    RELOAD_SECONDS = 60.0

    def __init__(self, run: EmbeddedRun) -> None:
        super().__init__("viewer")
        self._run = run
        self.events = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._read(until=time.monotonic() + self.RELOAD_SECONDS)
            except httpx2.HTTPError:
                self.stopping.wait(1)

    def _read(self, until: float) -> None:
        stream = f"{self._run.url}/api/stream"
        with httpx2.stream("GET", stream, headers=self._run.key_headers, timeout=TIMEOUT) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                self.events += line.startswith("event:")
                if self.stopping.is_set() or time.monotonic() > until:
                    return


def _open_account(run: EmbeddedRun, name: str) -> dict[str, str]:
    body = {"name": name, "cash": CASH, "scopes": ["trade"]}
    url = f"{run.url}/api/accounts"
    opened = httpx2.post(url, json=body, headers=run.key_headers, timeout=TIMEOUT).raise_for_status().json()
    return {"APCA-API-KEY-ID": opened["key_id"], "APCA-API-SECRET-KEY": opened["secret_key"]}
