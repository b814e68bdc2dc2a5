"""The edges between jobs: conditions, circles, joins that are hopeless, and the layers of the picture."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from services.gateway.operations.graph_layout import lay_out, layers_of
from services.gateway.operations.graph_svg import draw
from shared.jobs.admin.graph_queries import Follows, Graph
from shared.jobs.admin.waiting import explain_job, explain_run
from shared.jobs.checks import check_chains, check_parents
from shared.jobs.config import InvalidJobsConfig
from shared.jobs.declaration import Jobs
from shared.jobs.edges import Edge, ancestors, edges_of, written_condition
from shared.jobs.engine.joins import Round, slot_of, why_hopeless
from shared.jobs.settings import InvalidSetting, check_settings, read_settings
from shared.service import Service, check_job_names
from shared.settings import ServiceSettings
from tests.unit.test_jobs_config import WriteConfig, write_config

__all__ = ["write_config"]
NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("prices_written > 0", "prices_written > 0"),
        ("  errors==00 ", "errors == 0"),
        ("a<=-5", "a <= -5"),
        ("_x1 != 9223372036854775807", "_x1 != 9223372036854775807"),
    ],
)
def test_a_condition_is_written_in_three_words(text: str, written: str) -> None:
    """Statements read it so. Reading it again changes nothing."""
    assert written_condition(text) == written == written_condition(written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prices_written",
        "prices_written > ",
        "prices_written > 0 or 1",
        "prices_written > other",
        "1 > prices_written",
        "a > 1.5",
        "a >> 1",
        "a = 1",
        "a > 9223372036854775808",
        "a.b > 1",
        "__import__('os').system('x') > 0",
        "a > 1; DROP TABLE jobs",
        "a > \u0661",
        "a\u202e > 1",
        f"{'a' * 102} > 1",
    ],
)
def test_any_other_condition_is_refused(text: str) -> None:
    """The mistake names the edge."""
    with pytest.raises(InvalidSetting) as refused:
        check_settings({"after": ["b", {"job": "c", "when": text}]})
    assert refused.value.field == "after.1.when"


def test_edges_are_stored_as_statements_read_them() -> None:
    """A name in a list stands for an edge. A name alone stays a name."""
    stored = check_settings({"after": ["a", {"job": "b", "outcome": "failed"}]})["after"]
    assert stored == [
        {"job": "a", "outcome": "succeeded", "when": None},
        {"job": "b", "outcome": "failed", "when": None},
    ]
    assert check_settings({"after": "a"}) == {"after": "a"}
    read = read_settings('{"after": [{"job": "a", "outcome": "finished", "when": "n > 1"}]}')
    assert read.after == [Edge(job="a", outcome="finished", when="n > 1")]
    assert edges_of({"after": "a", "after_outcome": "failed"}) == [Edge(job="a", outcome="failed")]
    assert edges_of({"after": None}) == []


def test_a_circle_through_several_parents_is_refused() -> None:
    """It is named. Two ways to the same job are none."""
    diamond = {"a": None, "b": "a", "c": [{"job": "a"}], "d": [{"job": "b"}, {"job": "c"}]}
    check_chains(diamond, "d")
    assert ancestors(diamond, "d") == {"a", "b", "c", "d"}
    with pytest.raises(InvalidSetting, match="after: is a cycle: a after d after b after a"):
        check_chains({**diamond, "a": [{"job": "d"}]}, "a")
    with pytest.raises(InvalidSetting, match="after: is a cycle: a after a"):
        check_chains({"a": ["a"]}, "a")
    with pytest.raises(InvalidSetting, match=r"after\.1\.job: there is no job named 'x'"):
        check_parents({"a": None, "b": [{"job": "a"}, {"job": "x"}]}, "b")


def test_a_long_chain_is_checked_in_a_moment() -> None:
    """Each job is visited once, however many ways lead to it."""
    ladder: dict[str, Any] = {"0": None}
    for number in range(1, 3000):
        ladder[str(number)] = [{"job": str(each)} for each in range(max(0, number - 5), number)]
    check_chains(ladder, "2999")
    assert len(ancestors(ladder, "2999")) == 3000


def test_a_job_cannot_be_declared_after_itself() -> None:
    """Nor can two jobs of a service follow each other."""
    jobs = Jobs("orders")
    with pytest.raises(InvalidSetting, match="after: is a cycle: a after a"):
        jobs.job("a", description="", after=["b", "a"])(lambda _: {})


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ('"nobody"', "process_orders.after: there is no job named 'nobody'"),
        ('["expire_orders", "nobody"]', "process_orders.after.1.job: there is no job named 'nobody'"),
        ('["process_orders"]', "process_orders.after: is a cycle: process_orders after process_orders"),
        ('["expire_orders"]\n[expire_orders]\nafter = "process_orders"', "process_orders.after: is a cycle"),
        ('[{job = "expire_orders", when = "os > x"}]', "process_orders.after.0.when: must compare a count"),
    ],
)
def test_edges_in_the_file_are_refused_with_their_line(write_config: WriteConfig, after: str, message: str) -> None:
    """In the process that knows all services."""
    from services.orders.service import service as orders

    path: Path = write_config(f"[process_orders]\nafter = {after}\n")
    with pytest.raises(InvalidJobsConfig, match=r"jobs\.toml:2: ") as refused:
        check_job_names([orders], ServiceSettings(jobs_config=path))
    assert message in str(refused.value)
    assert isinstance(orders, Service)


HOPELESS = "a was lost and b ended without n > 1"


@dataclass
class Join:
    """A row of jobs.joins."""

    parents: list[str]
    satisfied: dict[str, str] = field(default_factory=dict)
    unsatisfied: dict[str, str] = field(default_factory=dict)
    any_parent: bool = False


@pytest.mark.parametrize(
    ("join", "unfinished", "undecided", "why"),
    [
        (Join(["a", "b"], {"a": "1"}), {"b"}, set(), None),
        (Join(["a", "b"], {"a": "1"}), {"root"}, set(), None),
        (Join(["a", "b"], {"a": "1"}), set(), {"root"}, None),
        (Join(["a", "b"], {"a": "1"}), {"a", "c"}, set(), "b has no run in this round"),
        (Join(["a", "b"], {}, {"b": "failed"}), {"a"}, set(), "b failed"),
        (Join(["a", "b"], {}, {"b": "failed"}), {"a", "b"}, set(), None),
        (Join(["a", "b"], {}, {"b": "failed"}), {"b"}, set(), "a has no run in this round"),
        (Join(["a", "b"], {}, {"b": "n > 1"}, any_parent=True), {"a"}, set(), None),
        (Join(["a", "b"], {}, {"a": "lost", "b": "n > 1"}, any_parent=True), set(), set(), HOPELESS),
    ],
)
def test_a_join_is_hopeless_when_no_run_can_satisfy_an_edge(
    join: Join, unfinished: set[str], undecided: set[str], why: str | None
) -> None:
    """As long as a parent, or a job before it, has an unfinished run or a slot to decide, the join waits."""
    after: dict[str, object] = {"root": None, "a": "root", "b": ["root"], "c": "a"}
    found = why_hopeless(join, after, Round(frozenset(unfinished), frozenset(undecided), frozenset()))
    assert found == why


def test_only_the_round_of_a_slot_has_one() -> None:
    """Other rounds have the name of a run."""
    assert slot_of("2026-11-23T15:00:00Z") == NOW
    assert slot_of("8c1f7a52-7a5c-4a3c-9d5e-0f4f2f1f6a01") is None


def test_each_job_is_in_a_later_layer_than_all_that_it_follows() -> None:
    """A long edge bends once in each layer that it passes. A circle ends."""
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("x", "d")]
    assert layers_of("abcdx", edges) == {"a": 0, "b": 1, "c": 2, "d": 3, "x": 0}
    layout = lay_out("abcdx", edges)
    places = {cell: (n, row) for n, layer in enumerate(layout.layers) for row, cell in enumerate(layer)}
    assert len(places) == sum(map(len, layout.layers)) == 5 + 1 + 2 + 2
    for path in layout.paths.values():
        assert all(places[left][0] + 1 == places[right][0] for left, right in pairwise(path))
    assert set(layers_of("ab", [("a", "b"), ("b", "a")])) == {"a", "b"}


def test_crossing_edges_are_untangled() -> None:
    """The followers stand in the order of the jobs that they follow."""
    layout = lay_out(["a", "b", "c", "x", "y", "z"], [("a", "z"), ("b", "y"), ("c", "x")])
    assert layout.layers == [["a", "b", "c"], ["z", "y", "x"]]


def test_an_empty_graph_and_a_circle_are_drawn() -> None:
    """Neither of them ends the request with an error."""
    assert draw(Graph([], [], [])).startswith("<svg ")
    circle = [Follows("a", "b", "succeeded", None), Follows("b", "a", "failed", "n > 1")]
    assert "n &gt; 1" in draw(Graph([], circle, ["a", "b"]))


RUN = {
    "job": "sweep", "service": "orders", "state": "waiting", "not_before": None, "error_kind": None, "reason": None,
    "paused": False, "queue": "orders.jobs", "workers": 1, "queued_before": 0, "active_id": None,
    "active_state": None, "waiting_before": 0,
}  # fmt: skip
SOON = {"not_before": NOW + timedelta(minutes=1)}
OPEN = "shared.resilience.breakers.BreakerOpen: demo keeps failing"


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({**SOON, "error_kind": "unexpected"}, "retry"),
        ({**SOON, "error_kind": "rate_limited"}, "rate_limit"),
        ({**SOON, "reason": "waits for demo"}, "breaker"),
        ({**SOON, "error_kind": "transient", "reason": OPEN}, "breaker"),
        ({"not_before": NOW, "error_kind": "unexpected"}, "scheduler"),
        ({"paused": True}, "queue_paused"),
        ({"state": "queued", "paused": True}, "queue_paused"),
        ({"state": "queued", "workers": 0}, "no_worker"),
        ({"state": "queued", "queued_before": 4}, "worker"),
        ({"active_id": "1", "active_state": "running"}, "run_before"),
        ({"waiting_before": 3}, "run_before"),
        ({}, "scheduler"),
    ],
)
def test_a_run_has_one_reason_to_wait(columns: dict[str, Any], code: str) -> None:
    waits = explain_run({**RUN, **columns}, NOW)
    assert (waits.code, waits.until) == (code, SOON["not_before"] if columns.items() >= SOON.items() else None)


JOB = {
    "name": "sweep", "service": "orders", "retired_at": None, "enabled": True, "next_slot": NOW + timedelta(hours=1),
    "market": "XNYS", "market_open": True,
    "settings": {"schedule": "1h", "phases": {}, "market_hours_only": True},
}  # fmt: skip
BY_HAND = {"next_slot": None, "settings": {**JOB["settings"], "schedule": "off"}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"retired_at": NOW, "enabled": False}, "retired"),
        ({"enabled": False}, "disabled"),
        ({"market_open": False}, "market_closed"),
        ({"next_slot": NOW - timedelta(minutes=1)}, "scheduler"),
        ({}, "slot"),
        (BY_HAND, "request"),
    ],
)
def test_a_job_has_one_reason_to_wait(columns: dict[str, Any], code: str) -> None:
    assert explain_job({**JOB, **columns}, NOW, []).code == code
