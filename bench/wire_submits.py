"""The time that orders takes to accept an order over RabbitMQ, and how many it accepts in a second."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import takewhile
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from bench.bus_latency import WARM_UP_SECONDS, Latency, percentiles, publish_steadily, publisher_of
from bench.bus_servers import Servers
from bench.orders_database import MARKET, OrdersDatabase
from bench.report import Goal, NotMeasured, Row, figure
from bench.wire_orders import Orders, database_on, orders_running
from shared.bus.amqp.listener import Listener
from shared.bus.amqp.publisher import Publisher
from shared.bus.envelope import Outgoing, after, encode
from shared.clock import utc_now
from shared.contracts.base import routing_key
from shared.contracts.orders import NewOrder, OrderAccepted, OrderType, Side, SubmitOrder, SubmitOrders, TimeInForce
from shared.contracts.routing import exchange_of

SYMBOLS = 100
ACCOUNTS = 500
#: Orders a second that are offered one by one, until it is too much.
RATES = (200, 300, 400, 500, 600, 800, 1000, 1250, 1500, 2000)
WANTED = 500
P50_AT_RATE, P50_ALONE = 15.0, 5.0
MANY = (100, 500, 1000)
MANY_WANTED = 2000
TIMEOUT = 120.0


class Taken(NamedTuple):
    """``cpu`` of the worker, in milliseconds an order."""

    latency: Latency
    cpu: float


def measure(servers: Servers, *, runs: int, seconds: int, alone: int, commands: int) -> Sequence[Row]:
    """``alone`` orders one after the other, ``seconds`` at each rate, ``commands`` with many orders in each."""
    with (
        database_on(servers, SYMBOLS) as database,
        orders_running(servers) as orders,
        _trading(servers, database) as trader,
    ):
        return [
            *_alone(trader, orders, runs, alone),
            *_steady(trader, orders, runs, seconds),
            *_many(trader, orders, runs, commands),
        ]


def _alone(trader: "_Trader", orders: Orders, runs: int, alone: int) -> list[Row]:
    print(f"submit to accepted: {runs} runs of {alone} orders, one at a time", flush=True)
    trader.one_by_one(orders, alone)
    taken = [trader.one_by_one(orders, alone) for _ in range(runs)]
    name = f"submit to accepted, one at a time, {alone} orders"
    return [
        figure(f"p50 {name}", "ms", [each.latency.p50 for each in taken], Goal("ours", "<=", P50_ALONE)),
        figure(f"p99 {name}", "ms", [each.latency.p99 for each in taken]),
        figure(f"CPU of the worker an order, {name}", "ms", [each.cpu for each in taken]),
    ]


def _steady(trader: "_Trader", orders: Orders, runs: int, seconds: int) -> list[Row]:
    """Up to the rate at which more than half of the orders wait for too long."""
    rows, sustained = [], [float(_highest(trader, orders, seconds)) for _ in range(runs)]
    at_rate = [trader.steadily(orders, WANTED, seconds) for _ in range(runs)]
    name = f"submit to accepted, {WANTED}/s for {seconds} s, {ACCOUNTS} accounts, 1 process"
    rows.append(figure(f"p50 {name}", "ms", [t.latency.p50 for t in at_rate], Goal("ours", "<=", P50_AT_RATE)))
    rows.append(figure(f"p99 {name}", "ms", [t.latency.p99 for t in at_rate]))
    rows.append(figure(f"CPU of the worker an order, {name}", "ms", [t.cpu for t in at_rate]))
    name = f"highest of the rates {_steps()} with a p50 of {P50_AT_RATE:g} ms at most, 1 process"
    return [*rows, figure(name, "orders/s", sustained, Goal("ours", ">=", WANTED))]


def _highest(trader: "_Trader", orders: Orders, seconds: int) -> int:
    """Each rate has a second try: one pause of the machine is not yet too much."""
    print(f"submit to accepted: {seconds} s at each of {_steps()}", flush=True)

    def is_kept(rate: int) -> bool:
        return any(trader.steadily(orders, rate, seconds).latency.p50 <= P50_AT_RATE for _ in range(2))

    return max(takewhile(is_kept, RATES), default=0)


def _steps() -> str:
    return ", ".join(map(str, RATES))


def _many(trader: "_Trader", orders: Orders, runs: int, commands: int) -> list[Row]:
    rows = []
    for size in MANY:
        print(f"submit to accepted: {runs} runs of {commands} commands with {size} orders", flush=True)
        trader.at_once(orders, 1, size)
        taken = [trader.at_once(orders, commands, size) for _ in range(runs)]
        goal = Goal("ours", ">=", MANY_WANTED) if size == max(MANY) else None
        name = f"{commands} commands of {size} orders each, submit to the last accepted, 1 process"
        rows.append(figure(name, "orders/s", [rate for rate, _ in taken], goal))
        rows.append(figure(f"CPU of the worker an order, {name}", "ms", [cpu for _, cpu in taken]))
    return rows


class _Trader:
    """Hands in orders to buy far below the market as the gateway does, each after the one before it of its account."""

    def __init__(self, publisher: Publisher, symbols: Sequence[str], accounts: Sequence[UUID]) -> None:
        self.accepted: dict[UUID, float] = {}
        self._publisher = publisher
        self._symbols = symbols
        self._accounts = accounts
        self._newest: dict[UUID, UUID] = {}
        self._number = 0
        self._ordered = 0

    def hear(self, _name: str, event: dict[str, Any]) -> None:
        self.accepted[UUID(event["order_id"])] = time.monotonic()

    def one_by_one(self, orders: Orders, number: int) -> Taken:
        used, taken = orders.cpu_seconds(), []
        for _ in range(number):
            ((order, message),) = self._singles(1)
            begun = time.monotonic()
            self._publisher.send(message)
            self._wait_for([order], pause=0.0002)
            taken.append(1000 * (self.accepted[order] - begun))
        return Taken(percentiles(taken), 1000 * (orders.cpu_seconds() - used) / number)

    def steadily(self, orders: Orders, rate: int, seconds: int) -> Taken:
        made = self._singles((WARM_UP_SECONDS + seconds) * rate)
        used = orders.cpu_seconds()
        sent = publish_steadily(lambda n: self._publisher.send(made[n][1]), len(made), rate)
        self._wait_for([order for order, _ in made])
        used = orders.cpu_seconds() - used
        taken = [1000 * (self.accepted[order] - at) for (order, _), at in zip(made, sent, strict=True)]
        latency = percentiles(taken[WARM_UP_SECONDS * rate :])
        print(f"  {rate}/s: {latency}, {1000 * used / len(made):.2f} ms CPU an order", flush=True)
        return Taken(latency, 1000 * used / len(made))

    def at_once(self, orders: Orders, commands: int, size: int) -> tuple[float, float]:
        """Orders a second from the first command to the last acceptance, and the worker's CPU an order."""
        made = [self._batch(size) for _ in range(commands)]
        asked = [order for ordered, _ in made for order in ordered]
        used, begun = orders.cpu_seconds(), time.monotonic()
        for _, message in made:
            self._publisher.send(message)
        self._wait_for(asked)
        seconds = max(self.accepted[order] for order in asked) - begun
        return len(asked) / seconds, 1000 * (orders.cpu_seconds() - used) / len(asked)

    def _singles(self, number: int) -> list[tuple[UUID, Outgoing]]:
        """Each of another account than the one before it."""
        made = []
        for _ in range(number):
            command = SubmitOrder(account_id=self._next_account(), **self._terms())
            made.append((command.order_id, self._linked(command)))
        return made

    def _batch(self, size: int) -> tuple[list[UUID], Outgoing]:
        command = SubmitOrders(
            account_id=self._next_account(), orders=tuple(NewOrder(**self._terms()) for _ in range(size))
        )
        return [order.order_id for order in command.orders], self._linked(command)

    def _next_account(self) -> UUID:
        self._number += 1
        return self._accounts[self._number % len(self._accounts)]

    def _terms(self) -> dict[str, Any]:
        self._ordered += 1
        order_id = uuid4()
        return {
            "order_id": order_id,
            "client_order_id": str(order_id),
            "symbol": self._symbols[(self._ordered + self._number // len(self._accounts)) % len(self._symbols)],
            "side": Side.BUY,
            "type": OrderType.LIMIT,
            "time_in_force": TimeInForce.GTC,
            "qty": Decimal(1),
            "limit_price": MARKET / 2,
            "submitted_at": utc_now(),
        }

    def _linked(self, command: SubmitOrder | SubmitOrders) -> Outgoing:
        """As the outbox of the gateway chains them."""
        message, previous = encode(command), self._newest.get(command.account_id)
        self._newest[command.account_id] = message.message_id
        return message if previous is None else after(message, previous)

    def _wait_for(self, orders: Sequence[UUID], *, pause: float = 0.02) -> None:
        deadline = time.monotonic() + TIMEOUT
        for order in orders:
            while order not in self.accepted:
                if time.monotonic() > deadline:
                    raise NotMeasured(f"not all of {len(orders)} orders were accepted")
                time.sleep(pause)


@contextmanager
def _trading(servers: Servers, database: OrdersDatabase) -> Iterator[_Trader]:
    """A trader that hears of its orders on a queue of its own, as a process of the gateway does."""
    with publisher_of(servers) as publisher:
        trader = _Trader(publisher, database.symbols, database.open_accounts(ACCOUNTS))
        accepted = (exchange_of(OrderAccepted), routing_key(OrderAccepted, OrderAccepted.service))
        listener = Listener(servers.url, name="gateway.bench", bindings=[accepted], callback=trader.hear)
        listener.start()
        try:
            if not listener.attached.wait(TIMEOUT):
                raise NotMeasured("nobody listens to what is accepted")
            yield trader
        finally:
            listener.stop()
