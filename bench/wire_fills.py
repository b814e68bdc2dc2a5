"""The time from a price in RabbitMQ to the commit of the fill that it brings about, beside raw pika and psycopg."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import dramatiq
import psutil
from sqlalchemy import text

from bench.bus_consume import Consuming, handled_by
from bench.bus_latency import (
    WARM_UP_SECONDS,
    Latency,
    percentiles,
    publish_steadily,
    publisher_of,
    wait_until_attached,
)
from bench.bus_servers import RAW, Servers, properties
from bench.orders_database import OrdersDatabase
from bench.report import Goal, NotMeasured, Row, comparison
from bench.wire_orders import cpu_seconds, database_on, orders_running
from shared.bus.envelope import Outgoing, encode
from shared.clock import utc_now
from shared.contracts.prices import PricesUpdated

PER_SECOND = 100
ACCOUNTS = 200
#: What else receives the prices.
OTHERS = "valuation.prices"
TIMEOUT = 60.0


class Taken(NamedTuple):
    """``cpu`` of the consuming process, in milliseconds a message."""

    latency: Latency
    cpu: float


def measure(servers: Servers, *, runs: int, seconds: int) -> Sequence[Row]:
    """``runs`` of each in turn. A price message has one price, and each fills one market order."""
    count = (WARM_UP_SECONDS + seconds) * PER_SECOND
    rows = []
    with database_on(servers, symbols=count) as database:
        market = _Market(servers, database, database.open_accounts(ACCOUNTS))
        taken = []
        for number in range(runs):
            print(f"price to committed fill: run {number + 1} of {runs}, {seconds} s each", flush=True)
            taken.append((market.ours(), market.raw("raw-fill"), market.raw("raw-rows")))
    name = f"price message to committed fill, 1 price and 1 fill each, {PER_SECOND}/s for {seconds} s, durable"
    for beside, place, goals in (
        ("raw pika and one bare INSERT of a fill", 1, (2, 3)),
        ("raw pika and psycopg that pipelines the same rows", 2, (None, None)),
    ):
        for part, goal in zip(("p50", "p99"), goals, strict=True):
            pairs = [(getattr(run[0].latency, part), getattr(run[place].latency, part)) for run in taken]
            limit = None if goal is None else Goal("ratio", "<=", goal)
            rows.append(comparison(f"{part} {name}; beside {beside}", "ms", pairs, limit))
        cpu = [(run[0].cpu, run[place].cpu) for run in taken]
        rows.append(comparison(f"CPU of the consuming process a fill; beside {beside}", "ms", cpu))
    return rows


class _Market:
    """Each run has a price of each symbol, and one order for each."""

    def __init__(self, servers: Servers, database: OrdersDatabase, accounts: Sequence[UUID]) -> None:
        self._servers = servers
        self._database = database
        self._accounts = accounts

    def ours(self) -> Taken:
        """By the service itself, with all its threads and its relay."""
        with orders_running(self._servers) as orders, publisher_of(self._servers) as publisher:
            messages = self._messages()
            used = orders.cpu_seconds()
            sent = publish_steadily(lambda n: publisher.send(messages[n]), len(messages), PER_SECOND)
            handled = orders.wait_for([message.message_id for message in messages], seconds=TIMEOUT)
            used = orders.cpu_seconds() - used
        self._servers.purge(OTHERS)
        filled = self._database.count("SELECT count(*) FROM orders.orders WHERE status = 'filled'")
        self._clear()
        if filled != len(messages):
            raise NotMeasured(f"{filled} of {len(messages)} orders were filled")
        return _taken(messages, sent, handled, used)

    def raw(self, kind: str) -> Taken:
        """By one of ``bus_worker.KINDS``, a process with one connection and one session."""
        self._servers.purge(RAW)
        with self._servers.channel() as channel, Consuming(self._servers, kind, threads=1).running(1) as workers:
            channel.confirm_delivery()
            wait_until_attached(self._servers, RAW)
            messages = self._messages()
            process = psutil.Process(workers[0].pid)
            used = cpu_seconds(process)
            sent = publish_steadily(
                lambda n: channel.basic_publish("", RAW, messages[n].body, properties(), mandatory=True),
                len(messages),
                PER_SECOND,
            )
            self._servers.wait_until_empty(RAW)
            used = cpu_seconds(process) - used
            handled = {UUID(int=number): at for at, number in handled_by(workers)}
        self._clear()
        return _taken(messages, sent, handled, used)

    def _messages(self) -> list[Outgoing]:
        """A price of each symbol, for which an order is placed just before."""
        database, accounts = self._database, self._accounts
        wanted = [(accounts[n % len(accounts)], symbol, "buy", None) for n, symbol in enumerate(database.symbols)]
        database.now = utc_now() - timedelta(seconds=2)
        orders = database.place(wanted)
        prices = PricesUpdated.model_validate_json(database.prices()).prices
        return [
            _telling(encode(PricesUpdated(prices=(price,))), account, order)
            for price, (account, *_), order in zip(prices, wanted, orders, strict=True)
        ]

    def _clear(self) -> None:
        """No order of a run is there for the next one."""
        with self._database.engine.begin() as connection:
            connection.execute(_DROP_TRADES)
            connection.execute(_DROP_FILLS)
            connection.execute(_DROP_ORDERS)
        self._database.tidy()


def _telling(message: Outgoing, account: UUID, order: UUID) -> Outgoing:
    """The message, which also says which order it fills, for who does not find out."""
    envelope: dramatiq.Message[None] = dramatiq.Message.decode(message.body)
    told = {"account_id": str(account), "order_id": str(order)}
    return message._replace(body=envelope.copy(options={"fills": told}).encode())


def _taken(messages: Sequence[Outgoing], sent: Sequence[float], handled: Mapping[UUID, float], used: float) -> Taken:
    if len(handled) != len(messages):
        raise NotMeasured(f"{len(handled)} of {len(messages)} prices were handled")
    taken = [1000 * (handled[m.message_id] - at) for m, at in zip(messages, sent, strict=True)]
    return Taken(percentiles(taken[WARM_UP_SECONDS * PER_SECOND :]), 1000 * used / len(messages))


_DROP_TRADES = text("DELETE FROM orders.trades")
_DROP_FILLS = text("DELETE FROM orders.fills")
_DROP_ORDERS = text("DELETE FROM orders.orders")
