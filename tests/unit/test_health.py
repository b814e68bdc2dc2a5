"""The health of a replica: read from the heartbeats of its processes, answered over HTTP."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from shared.observability.health import (
    FRESH_SECONDS,
    is_fresh,
    read_heartbeat,
    replica_probes,
    run_folder,
    serve_health,
    verdict,
    write_heartbeat,
)

ALL_WELL = {
    "healthy": True,
    "workers": True,
    "threads": True,
    "scheduler": True,
    "consumers": True,
    "database": True,
    "broker": True,
    "ticks": True,
}


def worker_heartbeat(folder: Path, pid: int = 1, **facts: object) -> None:
    well = {
        "consumers": {"orders.prices": True, "orders.jobs": True},
        "threads": True,
        "broker": True,
        "database": True,
    }
    write_heartbeat(folder, f"worker-{pid}", **{**well, **facts})


def scheduler_heartbeat(folder: Path, *, seconds_ago: float = 0) -> None:
    write_heartbeat(folder, "scheduler", loop=True, ticked_at=time.time() - seconds_ago)


def replica_health(folder: Path, processes: int, path: str = "/healthz") -> dict[str, bool | float]:
    return verdict(replica_probes(folder, processes)[path]())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The heartbeats of a healthy replica."""
    worker_heartbeat(tmp_path)
    scheduler_heartbeat(tmp_path)
    return tmp_path


@contextmanager
def served(health: dict[str, Any]) -> Iterator[int]:
    """The port on which this health is answered."""
    checks = {name: passed for name, passed in health.items() if name != "healthy"}
    server = serve_health("127.0.0.1", 0, {"/healthz": lambda: checks, "/livez": dict}, lambda: b"figures 1\n")
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def get(port: int, path: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_a_replica_in_which_everything_works_is_healthy(folder: Path) -> None:
    """Each check is listed by its name."""
    assert replica_health(folder, processes=1) == ALL_WELL


def test_a_worker_without_a_fresh_heartbeat_is_missed(folder: Path) -> None:
    """Its last heartbeat was good, but is too old."""
    worker_heartbeat(folder, at=time.time() - FRESH_SECONDS - 1)
    health = replica_health(folder, processes=1)
    assert not health["healthy"]
    assert not health["workers"]


def test_every_worker_process_is_counted(folder: Path) -> None:
    """One of two is not enough."""
    assert not replica_health(folder, processes=2)["healthy"]
    worker_heartbeat(folder, pid=2)
    assert replica_health(folder, processes=2) == ALL_WELL


def test_the_heartbeat_of_an_ended_process_does_no_harm(folder: Path) -> None:
    """Dramatiq starts a new process in its place, which has a file of its own."""
    worker_heartbeat(folder, pid=2, at=time.time() - FRESH_SECONDS - 1, database=False, broker=False)
    assert replica_health(folder, processes=1) == ALL_WELL


def test_a_detached_consumer_makes_the_replica_unhealthy(folder: Path) -> None:
    """The process lives, but one of its queues would grow unnoticed."""
    worker_heartbeat(folder, pid=2, consumers={"orders.prices": False, "orders.jobs": True})
    assert replica_health(folder, processes=2) == {**ALL_WELL, "healthy": False, "consumers": False}


@pytest.mark.parametrize("what", ["database", "broker", "threads"])
def test_one_worker_without_its_server_or_a_thread_makes_the_replica_unhealthy(folder: Path, what: str) -> None:
    """The name of the check says what is missing."""
    worker_heartbeat(folder, pid=2, **{what: False})
    assert replica_health(folder, processes=2) == {**ALL_WELL, "healthy": False, what: False}


def test_a_scheduler_that_has_not_ticked_makes_the_replica_unhealthy(folder: Path) -> None:
    """It has a fresh heartbeat, but has not reached the database for too long."""
    scheduler_heartbeat(folder, seconds_ago=FRESH_SECONDS + 1)
    assert replica_health(folder, processes=1) == {**ALL_WELL, "healthy": False, "ticks": False}


def test_a_replica_that_has_just_started_is_not_healthy_yet(tmp_path: Path) -> None:
    """There is no heartbeat yet."""
    assert replica_health(tmp_path, processes=1) == dict.fromkeys(ALL_WELL, False)


def test_a_scheduler_that_never_ticked_is_not_healthy(folder: Path) -> None:
    """Its first heartbeats come before the database has answered."""
    write_heartbeat(folder, "scheduler", loop=True, ticked_at=0.0)
    assert not replica_health(folder, processes=1)["ticks"]


@pytest.mark.parametrize("away", ["database", "broker", "consumers"])
def test_a_replica_without_its_servers_is_live_but_not_ready(folder: Path, away: str) -> None:
    """A restart would not bring them back."""
    gone: dict[str, Any] = {away: {"orders.prices": False} if away == "consumers" else False}
    worker_heartbeat(folder, **gone)
    scheduler_heartbeat(folder, seconds_ago=FRESH_SECONDS + 1)
    assert replica_health(folder, 1, "/livez") == {"healthy": True, "workers": True, "threads": True, "scheduler": True}
    ready = replica_health(folder, 1, "/readyz")
    assert [name for name, passed in ready.items() if not passed] == ["healthy", away, "ticks"]


@pytest.mark.parametrize(
    ("beat", "missing"),
    [
        ({"name": "worker-1", "consumers": {}, "broker": True, "database": True, "threads": False}, "threads"),
        ({"name": "worker-1", "consumers": {}, "broker": True, "database": True, "threads": True, "at": 1}, "workers"),
        ({"name": "scheduler", "loop": False, "ticked_at": time.time()}, "scheduler"),
        ({"name": "scheduler", "loop": True, "ticked_at": time.time(), "at": 1}, "scheduler"),
    ],
)
def test_a_replica_whose_process_or_thread_stopped_is_not_live(
    folder: Path, beat: dict[str, Any], missing: str
) -> None:
    """Kubernetes restarts it by this probe."""
    write_heartbeat(folder, beat.pop("name"), **beat)
    live = replica_health(folder, 1, "/livez")
    assert not live["healthy"]
    assert not live[missing]


def test_a_heartbeat_is_replaced(folder: Path) -> None:
    """There is one file for each process, and no temporary file is left."""
    worker_heartbeat(folder)
    scheduler_heartbeat(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["scheduler.json", "worker-1.json"]


def test_a_heartbeat_has_its_time(tmp_path: Path) -> None:
    """In seconds since 1970, beside the facts."""
    before = time.time()
    write_heartbeat(tmp_path, "scheduler", ticked_at=5.0)
    beat = read_heartbeat(tmp_path / "scheduler.json")
    assert before <= beat["at"] <= time.time()
    assert beat["ticked_at"] == 5.0
    assert is_fresh(beat["at"])


@pytest.mark.parametrize("text", ["", "{", '{"at": 1'])
def test_an_unreadable_heartbeat_is_from_1970(tmp_path: Path, text: str) -> None:
    """A missing one too. Neither is an error."""
    path = tmp_path / "worker-1.json"
    path.write_text(text)
    assert read_heartbeat(path) == read_heartbeat(tmp_path / "none.json") == {"at": 0.0}
    assert not is_fresh(0.0)


@pytest.mark.parametrize(("healthy", "status"), [(True, 200), (False, 503)])
def test_healthz_answers_as_a_probe_reads_it(*, healthy: bool, status: int) -> None:
    """The status is for the probe, the checks are for people."""
    health = {"healthy": healthy, "database": healthy}
    with served(health) as port:
        assert get(port, "/healthz") == (status, health)


@pytest.mark.parametrize("path", ["/", "/health", "/healthz/", "/metric"])
def test_any_other_path_is_not_found(path: str) -> None:
    """The health does not matter."""
    with served({"healthy": True}) as port:
        assert get(port, path) == (404, {"error": "not found: use /healthz, /livez, /metrics"})


def test_metrics_are_text_for_prometheus() -> None:
    """The metrics come in the format that its scraper accepts."""
    with served({"healthy": False}) as port, urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert answer.read() == b"figures 1\n"


def test_each_probe_reads_the_heartbeats_again(folder: Path) -> None:
    """A replica that becomes unhealthy says so at the next probe."""
    server = serve_health("127.0.0.1", 0, replica_probes(folder, processes=1), lambda: b"")
    try:
        assert get(server.server_port, "/healthz")[0] == 200
        scheduler_heartbeat(folder, seconds_ago=FRESH_SECONDS + 1)
        assert get(server.server_port, "/healthz")[0] == 503
    finally:
        server.shutdown()
        server.server_close()


def test_the_folder_of_heartbeats_is_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process of the replica makes it, its children find it."""
    monkeypatch.setenv("PAPERPROFIT_RUN_DIR", str(tmp_path))
    assert run_folder() == tmp_path
