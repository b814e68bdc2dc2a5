"""The set-up of RabbitMQ: each service has the rights that it needs and no others, and old queues are retired."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pika
import pika.exceptions
import pytest
from dramatiq import Worker

from shared.bus.actors import Actors
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.management import Management, ManagementRefused
from shared.bus.amqp.setup import LONGEST_BYTES, UNUSED_MS, limit, prepare, retire
from shared.bus.amqp.topology import Kind, definitions, physical_name
from shared.bus.envelope import encode
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.prices import PricesUpdated
from shared.contracts.routing import (
    COMMANDS,
    EVENTS,
    PUBLISHERS,
    SERVICES,
    WORKERS,
    consumed_by,
    exchange_of,
    sent_under,
)
from shared.service import make_middleware
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT
from tests.servers.rabbitmq import RabbitServer, vhost_of
from tests.support import eventually, price, prices, rows

PRICES_KEY = "marketdata.prices_updated.v1"


@pytest.fixture
def users(rabbit: RabbitServer, vhost: str) -> dict[str, str]:
    return rabbit.new_users(vhost)


@contextmanager
def channel_as(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        connection.close()


def publish(url: str, exchange: str, routing_key: str) -> None:
    """Publish and wait for the confirm. Raises where it is refused."""
    with channel_as(url) as channel:
        channel.confirm_delivery()
        channel.basic_publish(exchange, routing_key, b"x")


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        yield
    assert caught.value.reply_code == 403


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_publish_only_its_own_messages(users: dict[str, str], service: str) -> None:
    """Every message of PUBLISHERS under its key, as each service: allowed for its publishers, refused for others."""
    for message, publishers in PUBLISHERS.items():
        exchange, key = exchange_of(message), sent_under(message, service)[0]
        if service in publishers:
            publish(users[service], exchange, key)
        else:
            with refused():
                publish(users[service], exchange, key)


@pytest.mark.parametrize("service", WORKERS)
def test_a_service_cannot_start_jobs_of_another(users: dict[str, str], service: str) -> None:
    """Only the gateway may, for an operator. A service may start its own."""
    other = next(each for each in WORKERS if each != service)
    publish(users[service], COMMANDS, f"{service}.run_job.v1")
    publish(users["gateway"], COMMANDS, f"{other}.run_job.v1")
    with refused():
        publish(users[service], COMMANDS, f"{other}.run_job.v1")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_puts_nothing_into_a_queue_or_exchange_of_another(users: dict[str, str], service: str) -> None:
    """Neither through the default exchange, which reaches every queue, nor through the other's own exchange."""
    other = next(each for each in WORKERS if each != service)
    with refused():
        publish(users[service], "", physical_name("orders.commands", Kind.CLASSIC))
    with refused():
        publish(users[service], f"{other}.internal", f"{other}.jobs")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_only_its_own_queues(users: dict[str, str], service: str) -> None:
    """Consuming or purging another's queue is refused, its own is not."""
    for owner in WORKERS:
        queue = physical_name(f"{owner}.jobs", Kind.CLASSIC)
        with channel_as(users[service]) as channel:
            if owner == service:
                channel.basic_get(queue, auto_ack=True)
            else:
                with refused():
                    channel.basic_get(queue, auto_ack=True)
        if owner != service:
            with channel_as(users[service]) as channel, refused():
                channel.queue_purge(queue)


@pytest.mark.parametrize("service", WORKERS)
def test_a_service_makes_and_deletes_nothing(users: dict[str, str], service: str) -> None:
    """No queue, no exchange, no binding, and its own queues stay."""
    own = physical_name(f"{service}.jobs", Kind.CLASSIC)
    attempts = (
        lambda channel: channel.queue_declare(f"{service}.mine"),
        lambda channel: channel.exchange_declare(f"{service}.mine"),
        lambda channel: channel.queue_bind(own, EVENTS, PRICES_KEY),
        lambda channel: channel.queue_delete(own),
    )
    for attempt in attempts:
        with channel_as(users[service]) as channel, refused():
            attempt(channel)


def test_the_gateway_receives_events_and_no_commands(users: dict[str, str]) -> None:
    """On a queue of its own that it binds to events. It can bind neither commands nor a queue of another service."""
    with channel_as(users["gateway"]) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, EVENTS, PRICES_KEY)
        publish(users["marketdata"], EVENTS, PRICES_KEY)
        eventually(lambda: channel.basic_get(queue)[2] == b"x", what="the event arrives")
        with refused():
            channel.queue_bind(queue, COMMANDS, "orders.submit_order.v1")


@pytest.mark.parametrize("name", ["gateway.mine", "orders.mine", "mine", "amq.gen-mine"])
def test_the_gateway_makes_nothing_under_a_name_of_its_choice(users: dict[str, str], name: str) -> None:
    """No queue of any kind, and no exchange, of which RabbitMQ bounds no number."""
    attempts = (
        lambda channel: channel.queue_declare(name, exclusive=True),
        lambda channel: channel.queue_declare(name, durable=True),
        lambda channel: channel.queue_declare(name, durable=True, arguments={"x-queue-type": "stream"}),
        lambda channel: channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"}),
        lambda channel: channel.exchange_declare(name, durable=True),
    )
    for attempt in attempts:
        with channel_as(users["gateway"]) as channel, refused():
            attempt(channel)


def test_queues_that_the_gateway_makes_durable_are_bounded_in_number_and_length(
    rabbit: RabbitServer, vhost: str, users: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger with its password gets no more than all gateways need, and all of them end where nobody uses them."""
    monkeypatch.setattr("shared.bus.amqp.setup.MOST_SERVER_NAMED", 3)
    management, name = Management(rabbit.management_url), vhost_of(vhost)
    for _ in range(2):
        limit(management, name)
    with channel_as(users["gateway"]) as channel:
        made = [channel.queue_declare("", durable=True).method.queue for _ in range(3)]
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="limit"):
            channel.queue_declare("", durable=True)
    bounds = {"expires": UNUSED_MS, "max-length-bytes": LONGEST_BYTES}
    one = f"queues/{name}/{made[0]}"
    eventually(lambda: rabbit.call("GET", one).get("effective_policy_definition") == bounds, what="it is bounded")
    monkeypatch.setattr("shared.bus.amqp.setup.UNUSED_MS", 100)
    limit(management, name)
    ours = {each["name"] for each in definitions(replicated=False)["queues"]}
    left = f"queues/{name}?disable_stats=true"
    eventually(lambda: {each["name"] for each in rabbit.call("GET", left)} == ours, what="the queues have expired")


def test_connections_of_a_service_are_bounded(
    rabbit: RabbitServer, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger with its password cannot take all of RabbitMQ's memory by connections and channels."""
    monkeypatch.setattr("shared.bus.amqp.setup.MOST_CONNECTIONS", 2)
    monkeypatch.setattr("shared.bus.amqp.setup.MOST_CHANNELS", 3)
    parameters = pika.URLParameters(rabbit.new_users(vhost)["strategy"])
    first, second = (pika.BlockingConnection(parameters) for _ in range(2))
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        pika.BlockingConnection(parameters)
    for _ in range(3):
        first.channel()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="limit"):
        first.channel()
    second.close()


def run_setup(rabbit: RabbitServer, url: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a container does."""
    environment = {
        "PATH": os.environ["PATH"],
        "PAPERPROFIT_RABBITMQ_URL": url,
        "PAPERPROFIT_RABBITMQ_MANAGEMENT_URL": rabbit.management_url,
        "PAPERPROFIT_RABBITMQ_VHOST": vhost_of(url),
        "PAPERPROFIT_RABBITMQ_PASSWORDS": '{"orders": "its password"}',
        **changes,
    }
    command = [sys.executable, "-m", "shared.broker_setup"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_sets_up_an_empty_virtual_host(rabbit: RabbitServer) -> None:
    """It runs twice. Then a service's user connects with its password and finds its queue. No password is printed."""
    url = rabbit.new_vhost()
    for _ in range(2):
        done = run_setup(rabbit, url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "its password" not in done.stdout + done.stderr
    server = urlsplit(url)
    own = f"amqp://paperprofit_orders:its%20password@{server.hostname}:{server.port}{server.path}"
    with channel_as(own) as channel:
        channel.basic_get(physical_name("orders.commands", Kind.CLASSIC))
    rabbit.delete_vhost(url)


@pytest.mark.parametrize(
    ("wrong", "logged"),
    [
        ({"PAPERPROFIT_RABBITMQ_PASSWORDS": '{"broker": "x"}'}, "names broker, which is no service"),
        ({"PAPERPROFIT_RABBITMQ_PASSWORDS": "secret"}, "PAPERPROFIT_RABBITMQ_PASSWORDS"),
        ({"PAPERPROFIT_RABBITMQ_VHOST": "nowhere"}, "nowhere"),
    ],
)
def test_a_wrong_setting_ends_the_command_with_its_name(
    rabbit: RabbitServer, vhost: str, wrong: dict[str, str], logged: str
) -> None:
    """The exit code is 1, and one line says what is wrong."""
    done = run_setup(rabbit, vhost, **wrong)
    assert done.returncode == 1
    assert logged in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_setting_up_again_changes_nothing(rabbit: RabbitServer, vhost: str) -> None:
    """The second run leaves the definitions as they are, and messages stay."""
    management, name = Management(rabbit.management_url), vhost_of(vhost)
    publish(vhost, EVENTS, PRICES_KEY)
    before = management.call("GET", f"definitions/{name}")
    prepare(management, name, replicated=False)
    retire(management, name, vhost)
    assert management.call("GET", f"definitions/{name}") == before
    with channel_as(vhost) as channel:
        assert channel.basic_get(physical_name("orders.prices", Kind.CLASSIC))[0] is not None


def test_a_queue_with_other_arguments_is_reported_by_name(rabbit: RabbitServer) -> None:
    """Somebody declared a queue by hand. The set-up names it instead of leaving half of the topology."""
    url = rabbit.new_vhost()
    with channel_as(url) as channel:
        channel.queue_declare(physical_name("orders.prices", Kind.CLASSIC), durable=True)
    with pytest.raises(ManagementRefused, match=r"orders\.prices\.v2"):
        prepare(Management(rabbit.management_url), vhost_of(url), replicated=False)
    rabbit.delete_vhost(url)


def test_messages_in_queues_of_the_first_release_are_moved(rabbit: RabbitServer, vhost: str) -> None:
    """Its queues had no version. Ready, delayed and dead messages arrive in the new queues."""
    old = {"x-dead-letter-exchange": "orders.internal", "x-dead-letter-routing-key": "orders.prices.XQ"}
    with channel_as(vhost) as channel:
        for name in ("orders.prices", "orders.prices.DQ", "orders.prices.XQ"):
            channel.queue_declare(name, durable=True, arguments=old)
            channel.basic_publish("", name, name.encode())
        channel.queue_bind("orders.prices", EVENTS, PRICES_KEY)
    retire(Management(rabbit.management_url), vhost_of(vhost), vhost)
    with channel_as(vhost) as channel:
        found = {
            queue: channel.basic_get(physical_name(queue, Kind.CLASSIC))[2]
            for queue in ("orders.prices", "orders.prices.DQ", "orders.dead")
        }
    assert found == {
        "orders.prices": b"orders.prices",
        "orders.prices.DQ": b"orders.prices.DQ",
        "orders.dead": b"orders.prices.XQ",
    }
    left = {queue["name"] for queue in rabbit.call("GET", f"queues/{vhost_of(vhost)}?disable_stats=true")}
    assert left == {queue["name"] for queue in definitions(replicated=False)["queues"]}


def test_a_queue_that_an_older_replica_still_consumes_stays_until_it_has_ended(
    rabbit: RabbitServer, vhost: str
) -> None:
    """It gets no new messages, unacknowledged ones are not lost, and a later run deletes it."""
    management, name = Management(rabbit.management_url), vhost_of(vhost)
    with channel_as(vhost) as channel:
        channel.queue_declare("orders.prices", durable=True)
        channel.queue_bind("orders.prices", EVENTS, PRICES_KEY)
        channel.basic_consume("orders.prices", lambda *_: None)
        channel.basic_publish(EVENTS, PRICES_KEY, b"in hand")
        eventually(lambda: _count(vhost, "orders.prices") == 0, what="the message is delivered")
        retire(management, name, vhost)
        publish(vhost, EVENTS, PRICES_KEY)
        assert _count(vhost, "orders.prices") == 0
    eventually(lambda: _count(vhost, "orders.prices") == 1, what="what was in hand is back")
    retire(management, name, vhost)
    assert _count(vhost, physical_name("orders.prices", Kind.CLASSIC)) == 3  # both, and the one in hand again
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        _count(vhost, "orders.prices")


def _count(url: str, queue: str) -> int:
    with channel_as(url) as channel:
        waiting: int = channel.queue_declare(queue, passive=True).method.message_count
        return waiting


def test_a_message_that_kills_its_workers_becomes_a_dead_letter(
    rabbit: RabbitServer, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replicated queue counts deliveries. At the limit the message is a dead letter that names the queue."""
    monkeypatch.setattr("shared.bus.amqp.topology.DELIVERY_LIMIT", 2)
    url = rabbit.new_bus(replicated=True)
    message_id = uuid4()
    context = ServiceContext("orders", make_engine(urls["orders"], name="orders"))
    broker = ServiceBroker(url, service="orders", middleware=make_middleware({"orders": context}))
    eventually(broker.publisher.connected.is_set)
    broker.publisher.send(encode(prices(price("AAPL", 1)), message_id=message_id)).result(10)
    for _ in range(3):
        with channel_as(url) as channel:  # a worker that takes it and dies
            eventually(lambda of=channel: of.basic_get("orders.prices.v2.quorum")[0], what="the message is there")  # type: ignore[misc]
    actors = Actors()

    @actors.on(PricesUpdated, queue="orders.prices")
    def never(_event: PricesUpdated, _uow: UnitOfWork) -> None:
        raise AssertionError("it was given up")

    actors.attach(broker, context)
    worker = Worker(broker, queues=set(consumed_by("orders")), worker_timeout=50, worker_threads=2)
    worker.start()
    (dead,) = eventually(lambda: rows(context.engine, "SELECT * FROM orders.dead_letters"))
    assert (dead.queue, dead.message_id, dead.reason) == ("orders.prices", message_id, "GivenUp")
    assert "delivery_limit" in dead.error
    worker.stop()
    broker.close()
    context.engine.dispose()
    rabbit.delete_vhost(url)


def test_a_service_without_its_queues_names_the_set_up_command_and_waits(
    rabbit: RabbitServer, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ is not set up. One line names the command, and the worker goes on once the queues exist."""
    monkeypatch.setattr("shared.outage.LONGEST_PAUSE_SECONDS", 0.2)
    url = rabbit.new_vhost()
    context = ServiceContext("orders", make_engine(urls["orders"], name="orders"))
    broker = ServiceBroker(url, service="orders", middleware=make_middleware({"orders": context}))
    Actors().attach(broker, context)
    worker = Worker(broker, queues={"orders.dead"}, worker_timeout=50, worker_threads=1)
    worker.start()
    eventually(lambda: "python -m shared.broker_setup" in str([vars(record) for record in caplog.records]))
    prepare(Management(rabbit.management_url), vhost_of(url), replicated=False)
    eventually(lambda: "orders.dead" in broker.attached, seconds=30)
    worker.stop()
    broker.close()
    context.engine.dispose()
    rabbit.delete_vhost(url)
