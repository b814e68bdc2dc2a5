"""The reference for a fill over RabbitMQ: raw pika, and psycopg with statements written for this one purpose.

Both are told by the message which order it fills, so they look up, lock and decide nothing.
"""

import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
from sqlalchemy import make_url

from bench.bus_pika import Handled, Settings, Stop, start_pika

Run = Callable[["psycopg.Connection[Any]", dict[str, Any]], None]


def start_bare(settings: Settings, handled: list[Handled]) -> Stop:
    """One statement that adds one fill, and commits by itself."""
    return _start(settings, handled, lambda session, fill: _run(session, fill, _FILL))


def start_rows(settings: Settings, handled: list[Handled]) -> Stop:
    """Every row that ours writes for a fill, in one transaction and one round trip."""

    def run(session: "psycopg.Connection[Any]", fill: dict[str, Any]) -> None:
        with session.pipeline(), session.transaction():
            _run(session, fill, *_ROWS)

    return _start(settings, handled, run)


def _run(session: "psycopg.Connection[Any]", fill: dict[str, Any], *statements: str) -> None:
    for statement in statements:
        session.execute(statement, fill)


def _start(settings: Settings, handled: list[Handled], run: Run) -> Stop:
    """The time that is noted is that of the commit."""
    database = make_url(settings.database).set(drivername="postgresql").render_as_string(hide_password=False)

    def make_handler() -> Callable[[bytes], None]:
        session = psycopg.connect(database, autocommit=True)
        session.prepare_threshold = 0

        def handle(body: bytes) -> None:
            message = json.loads(body)
            run(session, _fill(message))
            handled.append((time.monotonic(), message["message_id"]))

        return handle

    return start_pika(settings, make_handler)


def _fill(message: dict[str, Any]) -> dict[str, Any]:
    price, order = message["kwargs"]["prices"][0], message["options"]["fills"]
    event = json.dumps({"message_id": str(uuid4()), "actor_name": "Filled", "kwargs": {**price, **order}}).encode()
    return {
        **price,
        **order,
        "message_id": message["message_id"],
        "fill_id": uuid4(),
        "events": [uuid4(), uuid4()],
        "body": event,
    }


_FILL = """
INSERT INTO orders.fills (account_id, order_id, number, id, symbol, side, qty, price, amount, filled_at,
                          price_sequence, quoted_at, bid, ask, last, open, high, low)
VALUES (%(account_id)s, %(order_id)s, 1, %(fill_id)s, %(symbol)s, 'buy', 1, %(ask)s::numeric, %(ask)s::numeric, now(),
        %(sequence)s, %(quoted_at)s, %(bid)s::numeric, %(ask)s::numeric, %(last)s::numeric, %(open)s::numeric,
        %(high)s::numeric, %(low)s::numeric)
"""
_ROWS = (
    """
    INSERT INTO orders.inbox (consumer, message_id, processed_at) VALUES ('raw', %(message_id)s, now())
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO orders.quotes AS q (symbol, sequence, quoted_at) VALUES (%(symbol)s, %(sequence)s, %(quoted_at)s)
    ON CONFLICT (symbol) DO UPDATE SET sequence = excluded.sequence, quoted_at = excluded.quoted_at
    """,
    """
    UPDATE orders.accounts SET cash = cash - %(ask)s::numeric, sequence = sequence + 2 WHERE id = %(account_id)s
    """,
    """
    UPDATE orders.orders SET status = 'filled', filled_qty = 1, filled_avg_price = %(ask)s::numeric, fills = 1,
      reserved = 0, held_for_orders = 0, filled_at = now(), updated_at = now()
    WHERE account_id = %(account_id)s AND id = %(order_id)s
    """,
    _FILL,
    """
    INSERT INTO orders.lots (account_id, symbol, fill_id, opened_at, qty, cost)
    VALUES (%(account_id)s, %(symbol)s, %(fill_id)s, now(), 1, %(ask)s::numeric)
    """,
    """
    INSERT INTO orders.positions AS p (account_id, symbol, qty, cost, updated_at)
    VALUES (%(account_id)s, %(symbol)s, 1, %(ask)s::numeric, now())
    ON CONFLICT (account_id, symbol) DO UPDATE
    SET qty = p.qty + excluded.qty, cost = p.cost + excluded.cost, updated_at = excluded.updated_at
    """,
    """
    INSERT INTO orders.ledger (account_id, kind, at, reference, cash, symbol, qty, cost)
    VALUES (%(account_id)s, 'fill', now(), %(fill_id)s, -%(ask)s::numeric, %(symbol)s, 1,
            %(ask)s::numeric)
    """,
    """
    INSERT INTO orders.trades (account_id, order_id, generation, symbol, side, qty, avg_price, currency, fees,
                               submitted_at, first_fill_at, completed_at)
    VALUES (%(account_id)s, %(order_id)s, 1, %(symbol)s, 'buy', 1, %(ask)s::numeric, 'USD', 0, now(), now(), now())
    """,
    """
    INSERT INTO orders.outbox (message_id, exchange, routing_key, key, shard, mandatory, body, priority)
    SELECT id, 'paperprofit.events', 'orders.order_filled.v1', %(account_id)s, 1, true, %(body)s, 0
    FROM unnest(%(events)s::uuid[]) AS id
    """,
)
