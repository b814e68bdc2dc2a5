"""Helpers of several tests: waiting for a condition, sending messages, prices, and the books' invariants."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Engine, text

from services.orders.persistence.invariants import broken
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.contracts.accounts import AccountSettings, OpenAccount
from shared.contracts.base import Message
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce
from shared.contracts.prices import Price, PricesUpdated
from shared.storage import driver

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, seconds: float = 15, what: str = "the condition") -> T:
    """Poll until ``probe`` answers something true, and return that."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s (last: {answer!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def rows(engine: Engine, statement: str, **values: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(statement), values))


def value(engine: Engine, statement: str, **values: Any) -> Any:
    with engine.connect() as connection:
        return connection.execute(text(statement), values).scalar_one()


def send(context: ServiceContext, *messages: Message, message_id: UUID | None = None) -> None:
    """Send from the unit's outbox, as its service would."""
    with context.unit_of_work() as uow:
        for message in messages:
            uow.publish(message, message_id=message_id)


def price(
    symbol: str, last: str | int | Decimal, *, at: datetime | None = None, sequence: int = 1, spread: str = "0.02"
) -> Price:
    """A quote around ``last``, as of now unless told otherwise."""
    middle, half = Decimal(last), Decimal(spread) / 2
    return Price(
        symbol=symbol,
        bid=middle - half,
        ask=middle + half,
        bid_size=Decimal(100),
        ask_size=Decimal(100),
        last=middle,
        open=middle,
        high=middle,
        low=middle,
        close=middle,
        volume=Decimal(1000),
        quoted_at=at or utc_now(),
        sequence=sequence,
        provider="test",
    )


def prices(*each: Price) -> PricesUpdated:
    return PricesUpdated(prices=each)


def order(account_id: UUID, **fields: Any) -> SubmitOrder:
    """A market buy of 10 AAPL unless told otherwise."""
    order_id = fields.pop("order_id", None) or uuid4()
    defaults: dict[str, Any] = {
        "account_id": account_id,
        "order_id": order_id,
        "client_order_id": str(order_id),
        "symbol": "AAPL",
        "side": Side.BUY,
        "type": OrderType.MARKET,
        "time_in_force": TimeInForce.GTC,
        "qty": Decimal(10),
        "submitted_at": utc_now(),
    }
    given = {**defaults, **fields}
    if "notional" in given or given["qty"] % 1:
        given["time_in_force"] = TimeInForce.DAY
    return SubmitOrder(**given)


def account(account_id: UUID, cash: str = "100000", /, **settings: Any) -> OpenAccount:
    known = AccountSettings.model_validate(settings)
    return OpenAccount(account_id=account_id, name="test", cash=Decimal(cash), settings=known)


def statuses(engine: Engine, account_id: UUID) -> dict[UUID, str]:
    found = rows(engine, "SELECT id, status FROM orders.orders WHERE account_id = :a", a=account_id)
    return {row.id: row.status for row in found}


def broken_invariants(orders: Engine) -> dict[str, Sequence[Any]]:
    """Every invariant of the books that does not hold, with its rows, and what no proof of the product covers."""
    with orders.connect() as connection:
        found = dict(broken(connection))
    letters = rows(orders, "SELECT id FROM orders.dead_letters WHERE reason = '' OR error = ''")
    return {**found, **({"a dead letter has a reason": letters} if letters else {})}


@contextmanager
def executed() -> Iterator[list[int]]:
    """Count the statements that this thread sends to the database meanwhile."""
    mine, seen, execute, run = threading.get_ident(), [0], psycopg.Cursor.execute, driver.run_prepared

    def note(*given: Any, **options: Any) -> Any:
        seen[0] += threading.get_ident() == mine
        return execute(*given, **options)

    def note_together(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> Any:
        seen[0] += len(calls) * (threading.get_ident() == mine)
        return run(used, prepared, calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", note)
        patch.setattr(driver, "run_prepared", note_together)
        yield seen
