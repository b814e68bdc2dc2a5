"""The rate at which rows leave an outbox. RabbitMQ confirms each before it is deleted."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika
from sqlalchemy import Engine, text

from bench.bus_servers import OURS, Servers, broker_name, cancel
from bench.report import NotMeasured
from shared.bus import outbox
from shared.bus.amqp.publisher import Publisher
from shared.bus.envelope import encode
from shared.bus.relay import WINDOW, Relay
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.storage.driver import together

CONNECT_TIMEOUT = 15.0
TIMEOUT = 120.0
_FILLING = 1000


def relay_rate(servers: Servers, rows: int) -> float:
    """The rate of our relay, from its start to the empty outbox."""
    with _full_outbox(servers, rows) as engine:
        publisher = Publisher(servers.url, name="bench")
        relay = Relay(ServiceContext("gateway", engine), publisher, poll=0.1)
        try:
            if not publisher.connected.wait(CONNECT_TIMEOUT):
                raise NotMeasured("our publisher did not connect")
            return _rate(rows, lambda: _run_until_empty(relay, engine))
        finally:
            relay.stop()
            publisher.stop()


def _run_until_empty(relay: Relay, engine: Engine) -> None:
    relay.start()
    deadline = time.monotonic() + TIMEOUT
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(text("SELECT EXISTS (SELECT FROM gateway.outbox)")).scalar_one():
            if time.monotonic() > deadline:
                raise NotMeasured("our relay did not empty the outbox")
            time.sleep(0.01)


def confirm_each_rate(servers: Servers, rows: int) -> float:
    """The rate of a plain relay with the same rows and windows, which waits for every confirm."""
    with _full_outbox(servers, rows) as engine, servers.channel() as channel:
        channel.confirm_delivery()
        return _rate(rows, lambda: _confirm_each(channel, engine))


def _confirm_each(channel: Any, engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while window := connection.execute(_NEXT, {"window": WINDOW}).all():
            for row in window:
                properties = pika.BasicProperties(
                    delivery_mode=2, message_id=str(row.message_id), content_type="application/json"
                )
                channel.basic_publish(row.exchange, row.routing_key, row.body, properties, mandatory=row.mandatory)
            connection.execute(_DELETE, {"ids": [row.id for row in window]})


_NEXT = text("""
SELECT id, message_id, exchange, routing_key, mandatory, body FROM gateway.outbox ORDER BY id LIMIT :window
""")
_DELETE = text("DELETE FROM gateway.outbox WHERE id = ANY(:ids)")


def _rate(rows: int, relay: Callable[[], None]) -> float:
    begun = time.monotonic()
    relay()
    return rows / (time.monotonic() - begun)


@contextmanager
def _full_outbox(servers: Servers, rows: int) -> Iterator[Engine]:
    """The gateway's outbox with rows of a thousand keys, and an empty queue for them."""
    servers.purge(OURS)
    with servers.engine("gateway") as engine:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM gateway.outbox"))
            for first in range(0, rows, _FILLING):
                numbers = range(first, min(first + _FILLING, rows))
                messages = [encode(cancel(number)) for number in numbers]
                together(connection, *outbox.adding(connection, "gateway", messages, utc_now()))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE gateway.outbox"))
        yield engine
    _expect_all(servers, rows)


def _expect_all(servers: Servers, rows: int) -> None:
    with servers.channel() as channel:
        arrived = channel.queue_purge(broker_name(OURS)).method.message_count
    if arrived != rows:
        raise NotMeasured(f"{arrived} of {rows} relayed messages arrived")
