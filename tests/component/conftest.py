"""Fixtures of several component tests."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.alerts.evaluator import Evaluator
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_rows import make_evaluator
from tests.component.auction_days import move_to_new_york
from tests.component.documented import DocumentedClient
from tests.component.foreign_market import open_market
from tests.component.http_trader import KEY, Trader, open_account, push
from tests.component.paper_exchange import Exchange
from tests.component.replicas import two_replicas
from tests.component.watching import context_of
from tests.component.webhook import Webhook, webhook
from tests.conftest import FakeClock, database, running_system
from tests.support import eventually


@pytest.fixture
def gateway(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with context_of("gateway", urls, clock) as context:
        yield context


@pytest.fixture
def evaluator(gateway: ServiceContext, clock: FakeClock) -> Evaluator:
    return make_evaluator(gateway, clock)


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as server:
        yield server


@pytest.fixture
def orders(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    noon = clock.now.replace(hour=12, minute=0, second=1)  # far from where another hour or day begins
    clock.now = noon if noon > clock.now else noon + timedelta(days=1)  # never behind the servers' own clocks
    with context_of("orders", urls, clock) as context:
        yield context


@pytest.fixture
def replicas(urls: dict[str, str], clock: FakeClock) -> Iterator[list[ServiceContext]]:
    with two_replicas("marketdata", urls, clock) as contexts:
        yield contexts


@pytest.fixture
def exchange(urls: dict[str, str], clock: FakeClock, orders: ServiceContext) -> Iterator[Exchange]:
    with context_of("marketdata", urls, clock) as marketdata, context_of("valuation", urls, clock) as valuation:
        yield Exchange(orders, marketdata, valuation, clock)


@pytest.fixture
def abroad(exchange: Exchange) -> Exchange:
    return open_market(exchange)


@pytest.fixture(scope="module")
def market(postgres: str, template: dict[str, str]) -> Iterator[System]:
    """All services for a whole module, and a price of 100; each test opens an account of its own."""
    with database(postgres, template) as urls, running_system(urls) as system:
        push(system, "100")
        yield system


@pytest.fixture(scope="module")
def visitor(market: System) -> Iterator[TestClient]:
    """A client of that system whose answers are held against the document."""
    with DocumentedClient(market.app()) as client:
        eventually(lambda: client.get("/v2/account", headers=KEY).status_code == 200)
        yield client


@pytest.fixture
def trader(market: System, visitor: TestClient) -> Iterator[Trader]:
    """With 100,000 in cash; what is left open is canceled, so that no price of another test fills it."""
    trader = open_account(market, visitor)
    yield trader
    assert trader.ask("DELETE", "/orders").status_code == 207
    assert trader.books_hold()


@pytest.fixture
def floor(exchange: Exchange) -> Exchange:
    """An exchange whose market has sessions and auctions."""
    return move_to_new_york(exchange)
