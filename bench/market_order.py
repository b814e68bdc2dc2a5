"""A market order, followed from the request to the page that shows it filled."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2

from bench.event_stream import EventStream, StreamEvent
from bench.report import NotMeasured

FILL_TIMEOUT = 15.0


@dataclass(frozen=True)
class Fill:
    """Seconds until the order was answered, and from the next price until it was filled, and was seen filled."""

    answered: float
    filled: float
    seen: float


def buy_one(client: httpx2.Client, stream: EventStream, symbol: str) -> Fill:
    """Buy one share at the market and wait for the fill. Raises NotMeasured when it is refused or none comes.

    The next price is the first that is later than the order's acceptance: an earlier one may not fill it.
    """
    asked = {"symbol": symbol, "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
    answer = client.post("/v2/orders", json=asked)
    if answer.is_error:
        raise NotMeasured(f"an order was refused: {answer.status_code} {answer.text}")
    order = answer.json()
    quoted_at, filled_at, seen_at = _await_fill(stream, order["id"], symbol, _accepted_at(order))
    filled, seen = filled_at - quoted_at, seen_at - quoted_at
    return Fill(answer.elapsed.total_seconds(), filled.total_seconds(), seen.total_seconds())


def _accepted_at(order: dict[str, Any]) -> datetime:
    """An order that was answered only accepted has not changed since then."""
    return datetime.fromisoformat(order["updated_at" if order["status"] in {"accepted", "new"} else "submitted_at"])


def _await_fill(
    stream: EventStream, order_id: str, symbol: str, accepted_at: datetime
) -> tuple[datetime, datetime, datetime]:
    """The times of the next price, of the fill, and of the event's arrival that shows it."""
    prices: list[datetime] = []

    def shows_the_fill(event: StreamEvent) -> bool:
        quoted_at = event.first_price_after(accepted_at, symbol)
        if quoted_at is not None:
            prices.append(quoted_at)
        return bool(_filled(event, order_id))

    event = stream.first(shows_the_fill, seconds=FILL_TIMEOUT)
    if not prices:
        raise NotMeasured("an order was shown filled before any price that could have filled it")
    return prices[0], datetime.fromisoformat(_filled(event, order_id)[0]["filled_at"]), event.arrived_at


def _filled(event: StreamEvent, order_id: str) -> list[dict[str, Any]]:
    orders: list[dict[str, Any]] = event.data["orders"] if event.name == "orders" else []
    return [order for order in orders if order["id"] == order_id and order["status"] == "filled"]
