"""What several component tests work with."""

from collections.abc import Iterator

import pytest

from services.gateway.alerts import Alerts
from shared.bus.transaction import Unit
from tests.component.alert_desk import watching
from tests.component.exchange_desk import Exchange
from tests.component.replicas import two_replicas
from tests.component.watching import unit_of
from tests.component.webhook import Webhook, webhook
from tests.conftest import FakeClock


@pytest.fixture
def gateway(urls: dict[str, str], clock: FakeClock) -> Iterator[Unit]:
    with unit_of("gateway", urls, clock) as unit:
        yield unit


@pytest.fixture
def alerts(gateway: Unit, clock: FakeClock) -> Alerts:
    return watching(gateway, clock)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as server:
        yield server


@pytest.fixture
def orders(urls: dict[str, str], clock: FakeClock) -> Iterator[Unit]:
    clock.now = clock.now.replace(hour=12, minute=0, second=1)  # far from where another hour or day begins
    with unit_of("orders", urls, clock) as unit:
        yield unit


@pytest.fixture
def replicas(urls: dict[str, str], clock: FakeClock) -> Iterator[list[Unit]]:
    with two_replicas("marketdata", urls, clock) as units:
        yield units


@pytest.fixture
def exchange(urls: dict[str, str], clock: FakeClock, orders: Unit) -> Iterator[Exchange]:
    with unit_of("marketdata", urls, clock) as marketdata, unit_of("valuation", urls, clock) as valuation:
        yield Exchange(orders, marketdata, valuation, clock)
