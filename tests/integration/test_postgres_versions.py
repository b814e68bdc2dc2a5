"""PostgreSQL 17, as deployed, and 18, as in the embedded run: the migrations and a day's work run on both."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from embedded.database import service_urls
from embedded.system import System
from tests.component.http_trader import KEY, ORDER, push, startable
from tests.conftest import running_system
from tests.servers.choice import POSTGRES_WHEELS, ServerMissing, postgres_server
from tests.support import broken_invariants, eventually, value


@pytest.fixture(params=sorted(POSTGRES_WHEELS))
def version(request: pytest.FixtureRequest) -> str:
    asked: str = request.param
    return asked


@pytest.fixture
def exchange(version: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """All services on a new PostgreSQL of this version, chosen as for the whole suite, and migrated from nothing."""
    monkeypatch.delenv("PAPERPROFIT_TEST_POSTGRES_URL", raising=False)
    monkeypatch.setenv("PAPERPROFIT_TEST_POSTGRES", version)
    with postgres_server() as url, running_system(service_urls(url)) as system:
        yield system


@pytest.fixture
def client(exchange: System) -> Iterator[TestClient]:
    with TestClient(exchange.app(), headers=KEY) as client:
        eventually(lambda: client.get("/v2/account").status_code == 200)
        yield client


def test_a_day_of_trading_and_every_job_run_on_each_version(exchange: System, client: TestClient, version: str) -> None:
    """An order fills, each job succeeds when it is triggered, and the books hold."""
    orders = exchange.contexts["orders"].engine
    assert value(orders, "SHOW server_version").startswith(f"{version}.")
    placed = client.post("/v2/orders", json=ORDER).json()
    push(exchange, "100")
    eventually(lambda: client.get(f"/v2/orders/{placed['id']}").json()["status"] == "filled")
    jobs = startable(client)
    assert {"update_positions", "prove_books"} <= set(jobs)
    for job in jobs:
        run = client.post(f"/api/jobs/{job}/trigger").json()["run_id"]
        found = eventually(lambda run=run: finished(client, run), seconds=30, what=job)  # type: ignore[misc]
        assert found["outcome"] == "succeeded", found
    assert broken_invariants(orders) == {}


def finished(client: TestClient, run_id: str) -> Any:
    run = client.get(f"/api/runs/{run_id}").json()
    return run if run["state"] == "finished" else None


def test_an_unsupported_version_is_named_with_those_that_are_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAPERPROFIT_TEST_POSTGRES_URL", raising=False)
    monkeypatch.setenv("PAPERPROFIT_TEST_POSTGRES", "9")
    with pytest.raises(ServerMissing, match="PAPERPROFIT_TEST_POSTGRES: '9' is not one of 17, 18"), postgres_server():
        pass
