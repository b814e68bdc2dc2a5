"""The graph of jobs over HTTP, its picture, and for what jobs and runs wait."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from embedded.system import System
from shared.clock import utc_now
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY
from tests.component.job_rows import LONG_AGO, add_job, add_rows, add_run, engine_of
from tests.conftest import database, running_system
from tests.support import value

SVG = "{http://www.w3.org/2000/svg}"
UNFINISHED: dict[str, Any] = {"outcome": None, "finished_at": None, "started_at": None, "attempt": 0}
MANUAL: dict[str, Any] = {"trigger": "manual", "scheduled_for": None}


@pytest.fixture(scope="module")
def system(postgres: str, template: dict[str, str]) -> Iterator[System]:
    with database(postgres, template) as urls, running_system(urls) as system:
        yield system


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[DocumentedClient]:
    with DocumentedClient(system.app(), headers=KEY) as client:
        yield client


def test_the_graph_shows_each_job_with_its_edges_and_its_latest_run(system: System, client: DocumentedClient) -> None:
    """Each job is in a later layer than all that it follows. A name is shown as the edge that it stands for."""
    add_job(system, "g_first")
    run = add_run(system, "g_first", at=LONG_AGO, outcome="failed")
    add_job(system, "g_second", schedule="off", after="g_first", after_outcome="finished")
    edges = [{"job": "g_first", "outcome": "failed"}, {"job": "g_second", "when": "done >= 3"}, {"job": "g_gone"}]
    add_job(system, "g_third", schedule="off", after=edges, join="any")
    shown = client.get("/api/jobs/graph").json()
    nodes = {node["name"]: node for node in shown["nodes"]}
    assert [nodes[name]["layer"] for name in ("g_first", "g_second", "g_third")] == [0, 1, 2]
    last = nodes["g_first"]["last_run"]
    assert (last["id"], last["state"], last["outcome"]) == (str(run), "finished", "failed")
    assert (nodes["g_third"]["last_run"], nodes["g_third"]["join"], shown["missing"]) == (None, "any", ["g_gone"])
    assert [edge for edge in shown["edges"] if edge["to"].startswith("g_")] == [
        {"from": "g_first", "to": "g_second", "outcome": "finished", "when": None},
        {"from": "g_first", "to": "g_third", "outcome": "failed", "when": None},
        {"from": "g_second", "to": "g_third", "outcome": "succeeded", "when": "done >= 3"},
        {"from": "g_gone", "to": "g_third", "outcome": "succeeded", "when": None},
    ]


def test_the_picture_is_well_formed_whatever_a_job_is_called(system: System, client: DocumentedClient) -> None:
    """It holds the names as text, and neither a script nor a reference to anything outside of it."""
    name = "<script>alert('&\"]]>')</script>"
    add_job(system, name)
    add_job(system, "p_\x01")
    add_job(system, "p_after", schedule="off", after=[{"job": name, "when": "errors < 1"}])
    answer = client.get("/api/jobs/graph.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    picture = ET.fromstring(answer.text)  # noqa: S314 - our own
    tags = {element.tag.removeprefix(SVG) for element in picture.iter()}
    assert tags == {"svg", "title", "defs", "marker", "path", "rect", "g", "text"}
    attributes = {name for element in picture.iter() for name in element.attrib}
    assert [name for name in attributes if "href" in name or name.startswith("on")] == []
    words = ["".join(element.itertext()) for element in picture.iter(f"{SVG}text")]
    assert {"p_after", "p_\ufffd", "<script>alert('&\"]]>')</scr…", "errors < 1"} <= set(words)
    nodes = len(list(picture.iter(f"{SVG}g")))
    assert nodes == len(client.get("/api/jobs/graph").json()["nodes"]) + len({"g_gone"} & set(words))


def waiting_of(client: DocumentedClient, run_id: object) -> Any:
    return client.get(f"/api/runs/{run_id}").json()["waiting"]


def job_waits(client: DocumentedClient, name: str) -> Any:
    return client.get(f"/api/jobs/{name}").json()["waiting"]


def test_a_run_says_that_it_waits_for_its_parents(system: System, client: DocumentedClient) -> None:
    """It names each of them, and its state in the round."""
    for name in ("w_first", "w_second", "w_third"):
        add_job(system, name, schedule="off")
    add_job(system, "w_last", schedule="off", after=[{"job": "w_first"}, {"job": "w_second"}, {"job": "w_third"}])
    chain = {"trigger": "chain", "scheduled_for": None, "round": "r"}
    first = add_run(system, "w_first", **chain)
    second = add_run(system, "w_second", **{**chain, **UNFINISHED, "state": "running", "started_at": LONG_AGO})
    run = add_run(system, "w_last", **{**chain, **UNFINISHED, "state": "waiting", "parent_run_id": first})
    join = {"job": "w_last", "service": "orders", "round": "r", "run_id": run, "any_parent": False, "opened_by": first}
    join |= {"satisfied": {"w_first": str(first)}, "unsatisfied": {"w_third": "failed"}, "opened_at": utc_now()}
    add_rows(system, "jobs.joins", {**join, "parents": ["w_first", "w_second", "w_third"]})
    waits = waiting_of(client, run)
    assert (waits["code"], waits["message"]) == (
        "parent",
        "waits for w_second, whose run runs; w_third: w_third failed",
    )
    assert waits["runs"] == [
        {"job": "w_second", "state": "running", "run_id": str(second)},
        {"job": "w_third", "state": "none", "run_id": None},
    ]
    assert client.get(f"/api/runs/{run}").json()["round"] == "r"
    assert job_waits(client, "w_last") == waits


def test_a_run_says_why_it_has_not_begun(system: System, client: DocumentedClient) -> None:
    """The codes are those of shared/jobs/admin/waiting.py."""
    later = utc_now() + timedelta(hours=1)
    put_off = {**MANUAL, **UNFINISHED, "state": "waiting", "not_before": later, "attempt": 1}
    kinds = {
        "retry": {"error_kind": "unexpected", "reason": "ValueError: no price"},
        "rate_limit": {"error_kind": "rate_limited", "reason": "RateLimited: demo allows no call before 10:00"},
        "breaker": {"error_kind": None, "reason": "waits for demo"},
    }
    for code, columns in kinds.items():
        waits = waiting_of(client, add_run(system, add_job(system, f"y_{code}"), **put_off, **columns))
        assert (waits["code"], waits["until"]) == (code, later.isoformat().replace("+00:00", "Z"))
        assert columns["reason"] in waits["message"]
    add_job(system, "y_busy")
    active = add_run(system, "y_busy", **{**MANUAL, **UNFINISHED, "state": "joining", "done": 1, "parts": 3})
    behind = add_run(system, "y_busy", **{**MANUAL, **UNFINISHED, "state": "waiting"})
    assert waiting_of(client, active)["message"] == "waits for its parts: 1 of 3 have ended"
    assert waiting_of(client, behind)["runs"] == [{"job": "y_busy", "state": "joining", "run_id": str(active)}]
    assert waiting_of(client, behind)["code"] == "run_before"
    waiting = {**MANUAL, **UNFINISHED, "state": "waiting"}
    first, second = (add_run(system, add_job(system, "y_two") if n == 0 else "y_two", **waiting) for n in range(2))
    assert {waiting_of(client, run)["code"] for run in (first, second)} == {"scheduler", "run_before"}
    assert waiting_of(client, add_run(system, "y_two", state="finished")) is None


def test_a_queued_run_says_whether_a_worker_will_take_it(system: System, client: DocumentedClient) -> None:
    """Its queue may be paused, its workers may be dead, or others are before it."""
    at = utc_now()
    queued = {**MANUAL, **UNFINISHED, "state": "queued", "service": "strategy"}
    for name in ("q_first", "q_second"):
        add_job(system, name)
    add_run(system, "q_first", **queued, sent_at=at)
    run = add_run(system, "q_second", **queued, sent_at=at + timedelta(seconds=1))
    add_rows(system, "jobs.workers", worker_row("paused"))
    waits = waiting_of(client, run)
    assert waits["code"] == "worker"
    assert "1 runs of strategy were queued before it" in waits["message"]
    client.post("/api/queues/strategy.jobs/pause")
    assert waiting_of(client, run)["code"] == "queue_paused"
    client.post("/api/queues/strategy.jobs/resume")


def worker_row(name: str) -> dict[str, Any]:
    now = utc_now()
    given = {"id": name, "service": "strategy", "host": "box", "pid": 1, "kind": "worker"}
    return {**given, "started_at": now, "heartbeat_at": now}


def test_a_job_says_for_what_it_waits(system: System, client: DocumentedClient) -> None:
    """Its market, its slot, a parent, somebody, or an operator who enables it."""
    codes = {
        "j_off": "request",
        "j_after": "parent",
        "j_slot": "slot",
        "j_closed": "market_closed",
        "j_late": "scheduler",
    }
    add_job(system, "j_off", schedule="off")
    add_job(system, "j_after", schedule="off", after=[{"job": "j_off"}])
    add_job(system, "j_slot", schedule="1d")
    add_job(system, "j_closed", schedule="1m", market_hours_only=True, market="XLON", enabled=True)
    add_job(system, "j_late", schedule="1m")
    with engine_of(system).begin() as connection:
        connection.execute(text("UPDATE jobs.jobs SET next_slot = now() - interval '1 minute' WHERE name = 'j_late'"))
    assert {name: job_waits(client, name)["code"] for name in codes} == codes
    assert job_waits(client, "j_after")["runs"] == [{"job": "j_off", "state": "none", "run_id": None}]
    client.put("/api/jobs/j_slot/toggle", params={"enabled": "false"})
    assert job_waits(client, "j_slot")["code"] == "disabled"
    with engine_of(system).begin() as connection:
        connection.execute(text("UPDATE jobs.jobs SET retired_at = now() WHERE name = 'j_slot'"))
    assert job_waits(client, "j_slot")["code"] == "retired"
    add_run(system, "j_off", **{**MANUAL, **UNFINISHED, "state": "running", "started_at": LONG_AGO})
    assert job_waits(client, "j_off") is None


@pytest.mark.parametrize(
    ("after", "field"),
    [
        ("nobody", "after"),
        ("e_job", "after"),
        ("e_child", "after"),
        (["e_other", "nobody"], "after.1.job"),
        (["e_other", "e_child"], "after"),
        (["e_other", "e_other"], "after"),
        ([f"e_{n}" for n in range(21)], "after"),
        ([{"job": "e_other", "when": "len(counts) > 0"}], "after.0.when"),
        ([{"job": "e_other", "when": "done > 99999999999999999999"}], "after.0.when"),
        ([{"job": "e_other", "when": "done > 1", "outcome": "failed"}], "after.0"),
        ([{"job": "e_other", "outcome": "lost"}], "after.0.outcome"),
        ([{"job": "e_other", "soon": True}], "after.0.soon"),
        ([{"outcome": "failed"}], "after.0.job"),
        ([], "after"),
        ({"job": "e_other"}, "after"),
    ],
    ids=str,
)
def test_edges_that_cannot_be_are_refused_by_name(
    system: System, client: DocumentedClient, after: Any, field: str
) -> None:
    """Unknown parents, circles, too many edges, and conditions that are not plain comparisons."""
    if not value(engine_of(system), "SELECT count(*) FROM jobs.jobs WHERE name = 'e_job'"):
        for name in ("e_job", "e_other"):
            add_job(system, name)
        add_job(system, "e_child", after=[{"job": "e_job"}])
    answer = client.patch("/api/jobs/e_job", json={"after": after})
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


def test_edges_are_set_and_restored(system: System, client: DocumentedClient) -> None:
    """The response shows them as the engine reads them."""
    name, parent = f"s_{uuid4().hex[:6]}", add_job(system, f"s_{uuid4().hex[:6]}")
    add_job(system, name)
    changed = client.patch(f"/api/jobs/{name}", json={"after": [{"job": parent, "when": "done>2"}], "join": "any"})
    assert changed.json()["settings"]["after"] == [{"job": parent, "outcome": "succeeded", "when": "done > 2"}]
    assert client.patch(f"/api/jobs/{name}", json={"after": None, "join": None}).json()["settings"]["after"] is None
