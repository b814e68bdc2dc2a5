"""Backtests over HTTP, through all services: started, followed to their results, compared, and refused."""

from decimal import Decimal
from typing import Any

import pytest

from tests.component.http_trader import Trader
from tests.component.test_bars_api import backfilled
from tests.support import eventually
from tests.unit.recorded_series import recorded

STORED = {"symbols": ["GOOG"], "interval": "1d", "from": "2004-08-19T00:00:00Z", "to": "2013-03-01T00:00:00Z"}
CROSSOVER = {"kind": "sma_crossover", "parameters": {"fast": 10, "slow": 20}}
REQUEST = {
    "strategy": CROSSOVER, "symbols": ["goog"], "interval": "1d", "from": "2004-08-19T00:00:00Z",
    "to": "2013-03-01T00:00:00Z", "cash": "100000", "settings": {"half_spread": "0"},
}  # fmt: skip

MISSPELT = {"strategy": {"rules": {"long": {"entry": {"left": {"indicator": "smma"}, "op": ">", "right": 1}}}}}


@pytest.fixture
def stored(trader: Trader) -> Trader:
    """A trader whose market has the recorded days of GOOG."""
    backfilled(trader, **STORED)
    return trader


def ended(trader: Trader, **changes: Any) -> Any:
    """Run a backtest, and return it once it has ended."""
    answer = trader.ask("POST", "/api/backtests", json={**REQUEST, **changes})
    assert answer.status_code == 202, answer.text
    path = f"/api/backtests/{answer.json()['id']}"
    return eventually(lambda: (found := trader.get(path))["state"] == "finished" and found, what="the backtest's end")


def test_a_backtest_runs_over_stored_bars_and_is_listed_and_compared(stored: Trader) -> None:
    found = ended(stored, look_ahead=True)

    assert (found["outcome"], found["error"]) == ("succeeded", None)
    assert found["progress"]["percent"] == 100
    assert found["request"]["strategy"] == CROSSOVER
    opens = {bar.start: bar.open for bar in recorded("GOOG").bars}
    by_start = {f"{start:%Y-%m-%dT%H:%M:%SZ}": price for start, price in opens.items()}
    assert [Decimal(fill["price"]) for fill in found["fills"]] == [by_start[fill["bar"]] for fill in found["fills"]]
    assert found["fills_total"] == len(found["fills"]) > 80
    assert len(found["round_trips"]) == found["figures"]["trades"]["number"] > 40
    assert 1000 < len(found["equity"]) <= 2000
    assert found["equity"][-1]["equity"] == found["figures"]["end_equity"]
    assert found["look_ahead"]["changed"] == 0

    report = stored.ask("GET", f"/api/backtests/{found['id']}/report")
    assert report.headers["content-type"].startswith("text/html")
    assert report.text.count("<polyline") == 2
    assert found["figures"]["end_equity"] in report.text

    fast = ended(stored, strategy={"kind": "sma_crossover", "parameters": {"fast": 5, "slow": 20}})
    ids = [found["id"], fast["id"]]
    compared = stored.get("/api/backtests/compare", ids=",".join(ids))
    assert [each["id"] for each in compared["items"]] == ids
    assert compared["figures"]["end_equity"] == [each["figures"]["end_equity"] for each in (found, fast)]
    assert stored.get("/api/backtests/compare", ids=ids)["items"] == compared["items"]
    listed = stored.get("/api/backtests", limit=2)
    assert [each["id"] for each in listed["items"]] == ids[::-1]
    assert listed["items"][0]["figures"] == fast["figures"]


def test_rules_run_over_part_of_the_bars_with_the_rest_as_warm_up(stored: Trader) -> None:
    fast, slow = ({"indicator": "sma", "period": bars} for bars in (10, 20))
    above, below = ({"left": fast, "op": op, "right": slow} for op in ("crosses_above", "crosses_below"))
    part = {"from": "2010-01-01", "to": "2011-01-01"}

    rules = ended(stored, strategy={"rules": {"long": {"entry": above, "exit": below}}}, **part)

    library = ended(stored, **part)
    assert rules["outcome"] == library["outcome"] == "succeeded"
    assert library["fills"] == rules["fills"] or len(library["fills"]) - len(rules["fills"]) in {0, 1}
    assert all(fill["bar"].startswith("2010") for fill in library["fills"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"strategy": {"kind": "sma"}}, "strategy.kind"),
        ({"strategy": {"kind": "sma_crossover", "parameters": {"fast": 5000}}}, "strategy.parameters.fast"),
        ({"strategy": {"kind": "sma_crossover", "parameters": {"fsat": 5}}}, "strategy.parameters"),
        ({"strategy": {"kind": "sma_crossover", "rules": {}}}, "strategy"),
        (MISSPELT, "strategy.rules.long.entry.left"),
        ({"symbols": ["GOOG", "NOSUCH"]}, "symbols"),
        ({"symbols": []}, "symbols"),
        ({"interval": "2d"}, "interval"),
        ({"from": "2013-03-01", "to": "2012-01-01"}, ""),
        ({"from": "1999-01-01", "to": "2000-01-01"}, "symbols"),
        ({"cash": "-5"}, "cash"),
        ({"settings": {"fils": {}}}, "settings.fils"),
        ({"settings": {"sizing": {"kind": "all"}}}, "settings.sizing.kind"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_with_its_field(stored: Trader, changes: dict[str, Any], field: str) -> None:
    answer = stored.ask("POST", "/api/backtests", json={**REQUEST, **changes})

    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem.get("field", "").startswith(field)
    assert len(problem["detail"]) < 1000


def test_a_run_says_what_only_the_strategy_can_know(stored: Trader) -> None:
    found = ended(stored, strategy={"kind": "sma_crossover", "parameters": {"fast": 30, "slow": 20}})

    assert found["outcome"] == "failed"
    assert found["error"] == "parameters: slow: the slow average needs more bars than the fast one"
    assert found["fills"] == []


def test_an_ended_or_unknown_backtest_is_not_canceled(stored: Trader) -> None:
    found = ended(stored)

    assert stored.ask("POST", f"/api/backtests/{found['id']}/cancel").status_code == 409
    assert stored.ask("POST", "/api/backtests/00000000-0000-0000-0000-000000000001/cancel").status_code == 404
    assert stored.ask("GET", "/api/backtests/00000000-0000-0000-0000-000000000001").status_code == 404
    assert stored.ask("GET", "/api/backtests/compare", params={"ids": "x"}).status_code == 422


def test_an_optimisation_tries_all_sets_and_tells_skill_from_luck(stored: Trader) -> None:
    search = {"parameters": {"fast": [5, 10, 30], "slow": {"from": 20, "to": 40, "step": 20}}}
    answer = stored.ask("POST", "/api/optimisations", json={**REQUEST, "search": search, "folds": 2})
    assert answer.status_code == 202, answer.text
    path = f"/api/optimisations/{answer.json()['id']}"
    found = eventually(lambda: (it := stored.get(path))["state"] == "finished" and it, what="the optimisation's end")

    assert (found["outcome"], found["error"]) == ("succeeded", None)
    sets = [(each["parameters"]["fast"], each["parameters"]["slow"]) for each in found["trials"]]
    assert sorted(sets) == [(5, 20), (5, 40), (10, 20), (10, 40), (30, 40)]
    ratios = [each["in_sample"]["sharpe"] for each in found["trials"]]
    assert ratios == sorted(ratios, reverse=True)
    assert found["best"]["parameters"] == found["trials"][0]["parameters"]
    assert found["overfitting"]["trials"] == 5
    assert 0 <= found["overfitting"]["deflated_sharpe"] <= 1
    assert len(found["walk_forward"]["steps"]) == 2
    alone = ended(stored, strategy={"kind": "sma_crossover", "parameters": {"fast": 5, "slow": 20}})
    (same,) = [each for each in found["trials"] if each["parameters"] == {"fast": 5, "slow": 20}]
    assert same["whole"]["total_return"] == pytest.approx(alone["figures"]["total_return"])
    picture = stored.ask("GET", found["heat_map"])
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert picture.text.count("<rect") == 1 + 6


def test_an_optimisation_that_cannot_be_run_is_refused(stored: Trader) -> None:
    huge = {"parameters": {"fast": {"from": 2, "to": 200}, "slow": {"from": 201, "to": 400}}}
    answer = stored.ask("POST", "/api/optimisations", json={**REQUEST, "search": huge})
    assert (answer.status_code, answer.json()["field"]) == (422, "search")
    assert "a grid of 39800 sets, at most 1000" in answer.text
    wrong = stored.ask("POST", "/api/optimisations", json={**REQUEST, "search": {"parameters": {}}})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "search.parameters")


def test_an_optimisation_of_sets_that_the_strategy_refuses_says_why(stored: Trader) -> None:
    answer = stored.ask("POST", "/api/optimisations", json={**REQUEST, "search": {"parameters": {"fsat": [5]}}})
    path = f"/api/optimisations/{answer.json()['id']}"
    found = eventually(lambda: (it := stored.get(path))["state"] == "finished" and it, what="the optimisation's end")
    assert found["outcome"] == "failed"
    assert found["error"].startswith("search.parameters: the strategy takes none of the sets: parameters.fsat: ")
