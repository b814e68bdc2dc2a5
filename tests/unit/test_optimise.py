"""Optimisation: which sets are tried, how the time is divided, and overfitting against the paper's example."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import sqrt
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from services.strategy.backtest.heat_map import heat_map
from services.strategy.backtest.optimise import combinations, folds, in_parts, joined, split, trial, trials_of
from services.strategy.backtest.overfitting import Moments, deflated_sharpe, expected_best, moments_of
from services.strategy.backtest.request import WrongRequest
from shared.contracts.backtests import OptimisationRequest, Search
from tests.unit.recorded_series import recorded

BEGIN = datetime(2004, 8, 19, tzinfo=UTC)


def request(parameters: dict[str, Any], **changes: Any) -> OptimisationRequest:
    given = {
        "strategy": {"kind": "sma_crossover"}, "symbols": ["GOOG"], "interval": "1d", "from": BEGIN,
        "to": datetime(2013, 3, 1, tzinfo=UTC), "search": {"parameters": parameters}, **changes,
    }  # fmt: skip
    return OptimisationRequest.model_validate(given)


def test_the_deflated_sharpe_ratio_is_that_of_the_paper() -> None:
    """Bailey and López de Prado, section "A numerical example": 100 trials, 1250 days, 2.5 a year at best."""
    variance = 0.5 / 250
    assert expected_best(variance, 100) == pytest.approx(0.1132, abs=1e-4)
    best = Moments(1250, 2.5 / sqrt(250), -3.0, 10.0)
    assert deflated_sharpe(best, variance, 100) == pytest.approx(0.9004, abs=1e-4)


def test_the_moments_are_those_of_the_returns() -> None:
    found = moments_of([0.01, -0.02, 0.03, 0.0])

    assert found.number == 4
    assert found.sharpe == pytest.approx(0.005 / 0.0208167, rel=1e-5)
    assert found.skewness == pytest.approx(0.0, abs=1e-9)
    assert found.kurtosis == pytest.approx(1.8521, rel=1e-3)


def test_a_grid_has_all_combinations_and_a_random_search_some_of_them() -> None:
    values = {"fast": {"from": 5, "to": 10, "step": "2.5"}, "slow": [20, 40]}
    grid = combinations(Search.model_validate({"parameters": values}))
    assert grid == [{"fast": fast, "slow": slow} for fast in (5, "7.5", 10) for slow in (20, 40)]

    some = Search.model_validate({"kind": "random", "samples": 4, "seed": 7, "parameters": values})
    assert combinations(some) == combinations(some)
    assert len(combinations(some)) == 4
    assert all(each in grid for each in combinations(some))


def test_sets_that_the_strategy_refuses_are_left_out() -> None:
    tried = trials_of(request({"fast": [10, 30], "slow": [20, 40]}))
    assert tried == [{"fast": 10, "slow": 20}, {"fast": 10, "slow": 40}, {"fast": 30, "slow": 40}]
    with pytest.raises(WrongRequest, match=r"search.parameters: the strategy takes none of the sets: parameters.fsat"):
        trials_of(request({"fsat": [1]}))


def test_the_time_is_divided_without_a_gap() -> None:
    daily = [(BEGIN + timedelta(days=day), Decimal(day + 1)) for day in range(100)]

    inside, outside = split(daily, request({"fast": [5]}, out_of_sample="0.25"))
    assert (len(inside), len(outside), outside[0]) == (75, 26, inside[-1])
    steps = folds(daily, 4)
    assert [len(before) for before, _ in steps] == [20, 40, 60, 80]
    assert [after[0] for _, after in steps] == [before[-1] for before, _ in steps]
    assert steps[-1][1][-1] == daily[-1]
    assert list(in_parts(5, 2)) == [(0, 2), (2, 5)]


def test_each_step_chooses_on_the_time_before_it() -> None:
    asked = request({"fast": [5, 10], "slow": [20, 50]}, folds=3)
    trials = [trial(asked, each, [recorded("GOOG")]) for each in trials_of(asked)]

    found = joined(asked, trials)

    growth = 1.0
    for number, step in enumerate(found["walk_forward"]["steps"]):
        best = max(trials, key=lambda each: each["folds"][number][0]["sharpe"])
        assert step["parameters"] == best["parameters"]
        growth *= 1 + best["folds"][number][1]["total_return"]
    assert found["walk_forward"]["total_return"] == pytest.approx(growth - 1)
    assert found["overfitting"]["in_sample"] == max(each["in_sample"]["sharpe"] for each in trials)
    picture = ET.fromstring(heat_map(trials, "sharpe") or "")  # noqa: S314 - our own
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 1 + 4
    assert heat_map(trials[:1], "sharpe") is None
