"""Orders and quotes in few words: ``order("buy 10 AAPL limit 99.50")``, ``quote("AAPL 99.90/100.10 100")``."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.orders.domain.order import Order
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce
from shared.contracts.prices import Price

ACCOUNT = UUID(int=1)
ACCEPTED = datetime(2026, 11, 23, 15, tzinfo=UTC)
#: Quotes are of this time unless told otherwise: newer than the orders.
QUOTED = ACCEPTED + timedelta(seconds=1)


def order(text: str, number: int = 1, **fields: Any) -> Order:
    """An open order, ``<side> <qty> <symbol> <type> [<limit or stop price>]``."""
    return Order(**{"account_id": ACCOUNT, "id": UUID(int=number), "accepted_at": ACCEPTED, **_terms(text), **fields})


def submission(text: str, number: int = 1, **fields: Any) -> SubmitOrder:
    """The command that asks for such an order."""
    common = {
        "account_id": ACCOUNT,
        "order_id": UUID(int=number),
        "client_order_id": str(number),
        "time_in_force": TimeInForce.GTC,
        "submitted_at": ACCEPTED,
    }
    return SubmitOrder(**{**common, **_terms(text), **fields})


def _terms(text: str) -> dict[str, Any]:
    side, qty, symbol, kind, *at = text.split()
    terms = {"side": Side(side), "qty": Decimal(qty), "symbol": symbol, "type": OrderType(kind)}
    return {**terms, **{f"{kind}_price": Decimal(price) for price in at}}


def quote(text: str, *, at: datetime = QUOTED, sequence: int = 1) -> Price:
    """A price, ``<symbol> [<bid>/<ask>] <last>``; either side of the quote may be left empty."""
    symbol, *sides, last = text.split()
    bid, _, ask = "".join(sides).partition("/")
    return Price(
        symbol=symbol,
        bid=Decimal(bid) if bid else None,
        ask=Decimal(ask) if ask else None,
        last=Decimal(last),
        open=Decimal(last),
        high=Decimal(last),
        low=Decimal(last),
        close=Decimal(last),
        volume=Decimal(0),
        quoted_at=at,
        sequence=sequence,
        provider="test",
    )
