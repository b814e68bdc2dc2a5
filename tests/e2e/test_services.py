"""The four services and the gateway as separate processes, over a real RabbitMQ and PostgreSQL."""

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine

from shared.clock import utc_now
from shared.contracts.routing import SERVICES
from shared.settings import DEMO_ACCOUNT_ID
from shared.storage.engine import make_engine
from tests.conftest import database
from tests.deployment import KEY, Deployment
from tests.servers.proxy import Proxy, proxy_to
from tests.servers.rabbitmq import RabbitServer
from tests.support import broken_invariants, eventually, rows, value

KILLS = 10
#: Longer than a replica is silent before it is ended, and than the time-outs of one try to reach the database.
AWAY_SECONDS = 25
#: Longer than a process or a run is silent before it is taken for dead.
SUSPENDED_SECONDS = 15
DOUBLED = """
SELECT job, scheduled_for FROM jobs.job_runs WHERE trigger = 'schedule' GROUP BY 1, 2 HAVING count(*) > 1
"""
SEED = int(os.environ.get("PAPERPROFIT_TEST_SEED", "20261123"))


@pytest.fixture(scope="module")
def databases(postgres: str, template: dict[str, str]) -> Iterator[dict[str, str]]:
    with database(postgres, template) as urls:
        yield urls


@pytest.fixture(scope="module")
def way(databases: dict[str, str]) -> Iterator[Proxy]:
    """The proxy by which valuation reaches its database."""
    with proxy_to(databases["valuation"]) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def deployment(
    databases: dict[str, str], way: Proxy, rabbit: RabbitServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """One deployment for the module: each test leaves it healthy."""
    vhost = rabbit.new_bus()
    urls = {**databases, "valuation": way.through(databases["valuation"])}
    made = Deployment(urls, vhost, tmp_path_factory.mktemp("logs"), users=rabbit.new_users(vhost))
    made.settings["PAPERPROFIT_REPLAY_SPEED"] = "5"
    made.start()
    try:
        made.wait_healthy()
        yield made
    finally:
        made.stop()
        rabbit.delete_vhost(vhost)


@pytest.fixture
def orders(deployment: Deployment) -> Iterator[Engine]:
    engine = make_engine(deployment.urls["orders"], name="orders")
    yield engine
    engine.dispose()


@pytest.fixture
def client(deployment: Deployment) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=deployment.gateway, headers=KEY, timeout=30) as client:
        eventually(lambda: client.get("/v2/account").status_code == 200, what="the demo account is open")
        yield client


def submit(client: httpx2.Client, **fields: str) -> dict[str, Any]:
    body = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "gtc", **fields}
    answer = client.post("/v2/orders", json=body)
    assert answer.status_code == 200, answer.text
    order: dict[str, Any] = answer.json()
    return order


#: Each of these fills on the next price, whatever it is.
FILLABLE: tuple[dict[str, str], ...] = (
    {"symbol": "AAPL"},
    {"symbol": "IBM", "qty": "2"},
    {"symbol": "MSFT", "qty": "1.5", "time_in_force": "day"},
    {"symbol": "GOOG", "type": "limit", "limit_price": "5000"},
    {"symbol": "IBM", "type": "stop", "stop_price": "0.5"},
    {"symbol": "AAPL", "side": "sell"},
)


@dataclass
class Trader:
    """Hands in orders without a pause until told to stop, and remembers each that was taken."""

    client: httpx2.Client
    random: random.Random
    stopping: Event = field(default_factory=Event)
    taken: list[str] = field(default_factory=list)

    def run(self) -> None:
        while not self.stopping.wait(self.random.uniform(0.01, 0.15)):
            self.taken.append(submit(self.client, **self.random.choice(FILLABLE))["id"])


@pytest.mark.timeout(400)
def test_orders_killed_ten_times_in_a_stream_of_prices_loses_and_doubles_nothing(
    deployment: Deployment, client: httpx2.Client, orders: Engine, rabbit: RabbitServer
) -> None:
    """Ten seeded moments, each with messages unacknowledged and orders open; every order fills exactly once."""
    moments = random.Random(SEED)
    # A slow machine lets them hand in more orders than the demo account can pay.
    assert client.post("/api/account/transfers", json={"amount": "100000000"}).status_code == 200
    stock = submit(client, symbol="AAPL", qty="500")["id"]  # for those who sell; the demo's bot may hold AAPL, too
    resting = [submit(client, symbol="IBM", type="limit", limit_price="1.00")["id"] for _ in range(3)]
    eventually(lambda: client.get(f"/v2/orders/{stock}").json()["status"] == "filled")

    traders = [Trader(client, random.Random(SEED + n)) for n in range(3)]
    with ThreadPoolExecutor(len(traders)) as pool:
        running = [pool.submit(trader.run) for trader in traders]
        try:
            seen = [kill_orders(deployment, orders, rabbit, moments, resting) for _ in range(KILLS)]
        finally:
            for trader in traders:
                trader.stopping.set()
        for future in running:
            future.result(timeout=60)
    print(f"seed {SEED}; at the kills, (messages unacknowledged, orders about to fill): {seen}")

    taken = [order_id for trader in traders for order_id in trader.taken]
    assert len(taken) > KILLS
    eventually(
        lambda: (
            value(orders, "SELECT count(*) FROM orders.orders WHERE id = ANY(:t) AND status = 'filled'", t=taken)
            == len(taken)
        ),
        seconds=60,
        what=f"all {len(taken)} orders filled",
    )
    deployment.wait_healthy()
    assert rows(orders, "SELECT order_id FROM orders.fills GROUP BY order_id HAVING count(*) > 1") == []
    assert value(
        orders, "SELECT count(*) FROM orders.orders WHERE id = ANY(:r) AND status = 'accepted'", r=resting
    ) == len(resting)
    assert broken_invariants(orders) == {}
    assert value(orders, "SELECT count(*) FROM orders.dead_letters") == 0
    for service, url in deployment.urls.items():
        engine = make_engine(url, name=service)
        left = f"SELECT count(*) FROM {service}.outbox WHERE created_at < now() - interval '5 seconds'"
        assert value(engine, left) == 0, f"{service} did not send everything"
        engine.dispose()
    assert rows(orders, DOUBLED) == []
    for resting_id in resting:
        assert client.delete(f"/v2/orders/{resting_id}").status_code == 204
    assert value(orders, "SELECT reserved FROM orders.accounts WHERE id = :a", a=DEMO_ACCOUNT_ID) == 0


def kill_orders(
    deployment: Deployment, orders: Engine, rabbit: RabbitServer, moments: random.Random, resting: list[str]
) -> tuple[int, int]:
    """Freeze orders at a seeded moment in the middle of its work, see that it is, kill it, and start it again."""
    while True:
        Event().wait(moments.uniform(0.02, 0.8))  # the seeded moment: time itself is what is varied
        deployment.signal("orders", signal.SIGSTOP)
        waiting = open_orders(orders) - len(resting)
        if waiting > 0:
            break
        deployment.signal("orders", signal.SIGCONT)  # nothing was about to fill just now
    unacked = eventually(lambda: unacknowledged(deployment, rabbit), what="messages are unacknowledged")
    deployment.kill("orders")
    deployment.start("orders")
    deployment.wait_healthy("orders")
    return unacked, waiting


def open_orders(orders: Engine) -> int:
    counted: int = value(orders, "SELECT count(*) FROM orders.orders WHERE status = 'accepted'")
    return counted


def unacknowledged(deployment: Deployment, rabbit: RabbitServer) -> int:
    queues = rabbit.queues(deployment.rabbitmq)
    return sum(depth.unacked for name, depth in queues.items() if name.startswith("orders."))


def test_one_run_per_slot_with_two_replicas(deployment: Deployment, orders: Engine) -> None:
    """Two replicas of orders and marketdata tick; each slot of each job has one run."""
    second = Deployment(deployment.urls, deployment.rabbitmq, deployment.logs, deployment.users, deployment.settings)
    second.start("orders", "marketdata")
    try:
        second.wait_healthy("orders", "marketdata")
        counted = "SELECT count(*) FROM jobs.job_runs WHERE job = 'process_orders' AND outcome = 'succeeded'"
        before = value(orders, counted)
        eventually(lambda: value(orders, counted) >= before + 3, seconds=40)
        assert rows(orders, DOUBLED) == []
        assert rows(orders, "SELECT * FROM jobs.job_runs WHERE outcome = 'failed'") == []
    finally:
        second.stop()


@pytest.mark.timeout(180)
def test_a_sleep_of_all_processes_ends_and_loses_nothing(
    deployment: Deployment, client: httpx2.Client, orders: Engine
) -> None:
    """Everything stands still, as when a lid is closed, and goes on: the same processes, no lost run, no alert."""
    before = {service: replica_of(deployment, service) for service in SERVICES}
    suspended_at = utc_now()
    for service in SERVICES:
        deployment.signal(service, signal.SIGSTOP)
    Event().wait(SUSPENDED_SECONDS)  # time itself is what is tested
    for service in SERVICES:
        deployment.signal(service, signal.SIGCONT)
    ran = (
        "SELECT count(*) FROM jobs.job_runs WHERE job = 'process_orders' AND outcome = 'succeeded' AND started_at > :at"
    )
    went_on_at = utc_now()
    eventually(lambda: value(orders, ran, at=went_on_at) >= 4, seconds=60, what="four slots after the sleep ran")
    deployment.wait_healthy()
    assert {service: replica_of(deployment, service) for service in SERVICES} == before
    assert rows(orders, "SELECT * FROM jobs.job_runs WHERE outcome IN ('lost', 'failed')") == []
    assert rows(orders, DOUBLED) == []
    alerts = client.get("/api/alerts", params={"limit": 100}).json()["items"]
    opened = [each for each in alerts if datetime.fromisoformat(each["opened_at"]) > suspended_at]
    assert [each for each in opened if each["severity"] == "critical"] == []


def replica_of(deployment: Deployment, service: str) -> set[int]:
    """The workers and the scheduler, without what they start for a while."""
    main = deployment.processes[service].pid
    return {each.pid for each in deployment.members(service) if each.ppid() == main}


def test_a_replica_whose_scheduler_alone_is_killed_ends_itself(deployment: Deployment) -> None:
    """Dramatiq does not watch its forks: the replica misses it within seconds, and ends to be restarted.

    With an exit code that a restart policy for failures restarts.
    """
    children = deployment.members("valuation")
    (scheduler,) = [child for child in children if listens_on(child, deployment.ports["valuation"])]
    scheduler.kill()
    assert deployment.processes["valuation"].wait(40) == 1
    deployment.start("valuation")
    deployment.wait_healthy("valuation")


@pytest.mark.timeout(180)
def test_a_replica_ends_itself_for_a_stopped_process_and_not_for_its_database(
    deployment: Deployment, way: Proxy
) -> None:
    """A restart helps against the first only. Valuation waits for a database that vanished without a reset."""
    assert {deployment.health(service, "/livez") is not None for service in SERVICES} == {True}
    processes = deployment.processes
    valuation = {each.pid for each in deployment.members("valuation")}
    (worker,) = [child for child in deployment.members("orders") if not listens_on(child, deployment.ports["orders"])]
    way.drop()
    vanished = time.monotonic()
    worker.suspend()
    eventually(lambda: deployment.health("orders", "/livez") is None, seconds=20, what="orders is not live")
    assert processes["orders"].wait(30) is not None
    deployment.start("orders")
    eventually(lambda: deployment.health("valuation", "/readyz") is None, seconds=20, what="valuation is not ready")
    while time.monotonic() - vanished < AWAY_SECONDS:
        assert deployment.health("valuation", "/livez")
        Event().wait(0.5)
    way.accept()
    eventually(lambda: deployment.health("valuation", "/readyz"), seconds=30, what="valuation is ready")
    assert {each.pid for each in deployment.members("valuation")} == valuation
    deployment.wait_healthy()


def test_a_replica_tells_what_its_processes_counted(
    deployment: Deployment, client: httpx2.Client, orders: Engine
) -> None:
    """GET /metrics of orders: the messages of all its workers, and an outbox that is sent."""
    order = submit(client, symbol="IBM")
    eventually(lambda: client.get(f"/v2/orders/{order['id']}").json()["status"] == "filled")
    eventually(lambda: value(orders, "SELECT count(*) = 0 FROM orders.outbox"))
    found = httpx2.get(f"http://127.0.0.1:{deployment.ports['orders']}/metrics").text
    samples = {sample.split(" ")[0]: float(sample.split(" ")[1]) for sample in found.splitlines() if sample[0] != "#"}
    done = 'paperprofit_messages_consumed_total{message="SubmitOrder.v1",outcome="done",queue="orders.commands"}'
    sent = 'paperprofit_messages_published_total{message="orders.order_filled.v1",service="orders"}'
    assert samples[done] >= 1
    assert samples[sent] >= 1
    assert samples['paperprofit_outbox_rows{service="orders"}'] <= 100


@pytest.mark.timeout(240)
def test_sessions_leave_no_pandas_in_the_workers(deployment: Deployment, client: httpx2.Client) -> None:
    """A process of its own computes them, and ends. The workers would keep 80 MB for good."""
    run_id = client.post("/api/jobs/update_sessions/trigger").json()["run_id"]
    run = eventually(lambda: (r := client.get(f"/api/runs/{run_id}").json())["outcome"] and r, seconds=180)
    assert run["outcome"] == "succeeded"
    for process in deployment.members("marketdata"):
        libraries = {each.path for each in process.memory_maps()}
        assert any("psycopg" in path for path in libraries)
        assert not any("pandas" in path for path in libraries)


def listens_on(process: Any, port: int) -> bool:
    return any(c.laddr.port == port for c in process.net_connections("tcp") if c.status == "LISTEN")


def test_sigterm_ends_every_service_in_good_order(deployment: Deployment, client: httpx2.Client) -> None:
    """Within 25 s, with exit code 0, and what was handed in stays."""
    order = submit(client, symbol="IBM", type="limit", limit_price="1.00")
    for service in deployment.processes:
        deployment.processes[service].send_signal(signal.SIGTERM)
    for service, process in deployment.processes.items():
        assert process.wait(25) == 0, f"{service} ended with {process.returncode}"
    deployment.start()
    deployment.wait_healthy()
    assert client.get(f"/v2/orders/{order['id']}").json()["status"] == "new"
