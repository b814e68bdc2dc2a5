"""What several tests need: waiting for a condition, sending messages, prices, and the books' invariants."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from shared.bus.transaction import Unit
from shared.clock import utc_now
from shared.contracts.base import Message
from shared.contracts.orders import OpenAccount, OrderType, Side, SubmitOrder, TimeInForce
from shared.contracts.prices import Price, PricesUpdated

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


def send(unit: Unit, *messages: Message, message_id: UUID | None = None) -> None:
    """Send from the unit's outbox, as its service would."""
    with unit.transaction() as tx:
        for message in messages:
            tx.publish(message, message_id=message_id)


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
    return SubmitOrder(**{**defaults, **fields})


def account(account_id: UUID, cash: str = "100000") -> OpenAccount:
    return OpenAccount(account_id=account_id, name="test", cash=Decimal(cash))


def statuses(engine: Engine, account_id: UUID) -> dict[UUID, str]:
    found = rows(engine, "SELECT id, status FROM orders.orders WHERE account_id = :a", a=account_id)
    return {row.id: row.status for row in found}


def broken_invariants(orders: Engine) -> dict[str, Sequence[Any]]:
    """Every invariant of the books that does not hold, with its rows; empty when all hold."""
    found = {name: rows(orders, statement) for name, statement in INVARIANTS.items()}
    return {name: broken for name, broken in found.items() if broken}


_SIGNED = "sum(CASE side WHEN 'buy' THEN qty ELSE -qty END)"
INVARIANTS = {
    "cash is the sum of the ledger": """
        SELECT a.id, a.cash, l.total FROM orders.accounts a
        JOIN (SELECT account_id, sum(amount) AS total FROM orders.ledger GROUP BY 1) l ON l.account_id = a.id
        WHERE a.cash <> l.total""",
    "cash is the deposits and the fills, recomputed": """
        SELECT a.id, a.cash, d.paid, f.moved FROM orders.accounts a
        LEFT JOIN (SELECT account_id, sum(amount) AS paid FROM orders.ledger WHERE kind IN ('deposit', 'withdrawal')
                   GROUP BY 1) d ON d.account_id = a.id
        LEFT JOIN (SELECT account_id, sum((CASE side WHEN 'buy' THEN -1 ELSE 1 END) * round(qty * price, 2) - fee)
                   AS moved FROM orders.fills GROUP BY 1) f ON f.account_id = a.id
        WHERE a.cash <> COALESCE(d.paid, 0) + COALESCE(f.moved, 0)""",
    "a position is the sum of its fills": f"""
        SELECT * FROM (SELECT account_id, symbol, {_SIGNED} AS qty FROM orders.fills GROUP BY 1, 2) f
        FULL JOIN orders.positions p USING (account_id, symbol)
        WHERE COALESCE(f.qty, 0) <> COALESCE(p.qty, 0)""",
    "a position is its open lots": """
        SELECT * FROM orders.positions p
        JOIN (SELECT account_id, symbol, sum(qty) AS qty, sum(cost) AS cost FROM orders.lots GROUP BY 1, 2) l
        USING (account_id, symbol) WHERE l.qty <> p.qty OR l.cost <> p.cost""",
    "cash + cost of lots - realised P&L = deposits": """
        SELECT a.id FROM orders.accounts a
        WHERE a.cash + COALESCE((SELECT sum(cost) FROM orders.lots l WHERE l.account_id = a.id), 0)
                     - COALESCE((SELECT sum(realized_pl) FROM orders.trades t WHERE t.account_id = a.id), 0)
           <> (SELECT sum(amount) FROM orders.ledger l
               WHERE l.account_id = a.id AND kind IN ('deposit', 'withdrawal'))""",
    "what is reserved is the sum over open orders": """
        SELECT a.id, a.reserved FROM orders.accounts a
        WHERE a.reserved <> COALESCE((SELECT sum(o.reserved) FROM orders.orders o WHERE o.account_id = a.id
                                      AND o.status IN ('accepted', 'partially_filled')), 0)""",
    "an ended order reserves nothing": """
        SELECT id FROM orders.orders WHERE reserved <> 0 AND status NOT IN ('accepted', 'partially_filled')""",
    "filled is the sum of an order's fills, at most its quantity": """
        SELECT o.id FROM orders.orders o
        LEFT JOIN (SELECT account_id, order_id, sum(qty) AS qty FROM orders.fills GROUP BY 1, 2) f
          ON f.account_id = o.account_id AND f.order_id = o.id
        WHERE o.filled_qty <> COALESCE(f.qty, 0) OR o.filled_qty > o.qty
           OR (o.status = 'filled') <> (o.filled_qty = o.qty)""",
    "a fill lies on its quote, which is newer than the order": """
        SELECT f.id FROM orders.fills f JOIN orders.orders o ON o.account_id = f.account_id AND o.id = f.order_id
        WHERE f.quoted_at <= o.accepted_at OR f.filled_at < f.quoted_at
           OR f.price <> CASE f.side WHEN 'buy' THEN COALESCE(f.ask, f.price) ELSE COALESCE(f.bid, f.price) END
           OR (o.type = 'limit' AND o.side = 'buy' AND f.price > o.limit_price)
           OR (o.type = 'limit' AND o.side = 'sell' AND f.price < o.limit_price)""",
    "nothing fills after its cancel": """
        SELECT f.id FROM orders.fills f JOIN orders.orders o ON o.account_id = f.account_id AND o.id = f.order_id
        WHERE o.status IN ('canceled', 'expired', 'rejected')
          AND (o.filled_qty = o.qty OR f.filled_at > COALESCE(o.canceled_at, o.expired_at, o.updated_at))""",
    "every ledger entry of a fill has its fill, once": """
        SELECT fill_id FROM orders.ledger WHERE kind = 'fill' GROUP BY fill_id
        HAVING count(*) <> 1 OR NOT EXISTS (SELECT FROM orders.fills f WHERE f.id = ledger.fill_id)""",
    "a dead letter has a reason": "SELECT id FROM orders.dead_letters WHERE reason = '' OR error = ''",
}
