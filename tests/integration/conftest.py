"""A virtual host with the services' queues, and orders and the gateway on it."""

from collections.abc import Iterator

import pytest

from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.publisher import Publisher
from shared.bus.unit_of_work import ServiceContext
from shared.service import make_middleware
from shared.storage.engine import make_engine
from tests.servers.rabbitmq import RabbitServer
from tests.support import eventually


@pytest.fixture
def vhost(rabbit: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    url = rabbit.new_bus(replicated=False)
    yield url
    rabbit.delete_vhost(url)


@pytest.fixture
def gateway(urls: dict[str, str]) -> Iterator[ServiceContext]:
    context = ServiceContext("gateway", make_engine(urls["gateway"], name="gateway"))
    yield context
    context.engine.dispose()


@pytest.fixture
def publisher(vhost: str) -> Iterator[Publisher]:
    """A connected publisher."""
    made = Publisher(vhost, name="gateway")
    eventually(made.connected.is_set)
    yield made
    made.stop()


@pytest.fixture
def orders(urls: dict[str, str]) -> Iterator[ServiceContext]:
    context = ServiceContext("orders", make_engine(urls["orders"], name="orders"))
    yield context
    context.engine.dispose()


@pytest.fixture
def broker(vhost: str, orders: ServiceContext) -> Iterator[ServiceBroker]:
    made = ServiceBroker(vhost, service="orders", middleware=make_middleware({"orders": orders}))
    eventually(made.publisher.connected.is_set)
    yield made
    made.close()
