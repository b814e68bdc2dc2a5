"""Optimisation: a strategy with each of many sets of parameters, and what the choice of the best is worth.

Each set runs once over the whole time. Its figures in the sample, out of it, and in each step of the walk-forward are
those of parts of the same equity, so that a position may be held from one part to the next.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise, product
from math import isfinite
from random import Random
from statistics import variance
from typing import Any

from services.strategy.backtest.dividends import Dividend
from services.strategy.backtest.outcome import DAYS_WITHOUT_WEEKEND, end_of_days
from services.strategy.backtest.overfitting import Moments, deflated_sharpe, expected_best, moments_of
from services.strategy.backtest.request import WrongRequest, setup_of, strategy_of
from services.strategy.backtest.run import run
from services.strategy.backtest.series import Series
from shared.contracts.backtests import OptimisationRequest, Search, StrategyChoice, values_of
from shared.performance import DAYS, figures, period_returns

Parameters = dict[str, Any]
Equity = Sequence[tuple[datetime, Decimal]]
_SATURDAY = 5
_FIGURES = ("total_return", "sharpe", "sortino", "calmar", "max_drawdown", "volatility")


def trials_of(request: OptimisationRequest) -> list[Parameters]:
    """The sets of parameters to try, without those that the strategy refuses, such as a fast average above the slow.

    Raises WrongRequest where it refuses all.
    """
    taken, refusal = [], None
    for each in combinations(request.search):
        try:
            strategy_of(choice_of(request, each), request.symbols)
        except WrongRequest as error:
            refusal = error
        else:
            taken.append(each)
    if not taken:
        raise WrongRequest(f"search.parameters: the strategy takes none of the sets: {refusal}")
    return taken


def combinations(search: Search) -> list[Parameters]:
    """The sets in the order of their values, at random those that the seed chooses."""
    values = {name: [_number(value) for value in values_of(given)] for name, given in search.parameters.items()}
    if search.kind == "random":
        number = search.combinations
        places = sorted(Random(search.seed).sample(range(number), min(number, search.samples)))  # noqa: S311
        return [_combination(values, place) for place in places]
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


def _combination(values: dict[str, list[Any]], place: int) -> Parameters:
    found: Parameters = {}
    for name in reversed(values):
        place, index = divmod(place, len(values[name]))
        found[name] = values[name][index]
    return {name: found[name] for name in values}


def _number(value: Decimal) -> int | str:
    return int(value) if value == int(value) else f"{value.normalize():f}"


def choice_of(request: OptimisationRequest, parameters: Parameters) -> StrategyChoice:
    """The strategy with these parameters over its own."""
    kind, own = request.strategy.named
    return StrategyChoice(kind=kind, parameters={**own, **parameters})


def trial(
    request: OptimisationRequest,
    parameters: Parameters,
    series: Sequence[Series],
    *,
    dividends: Iterable[Dividend] = (),
    pairs: Iterable[Series] = (),
) -> dict[str, Any]:
    """Run one set of parameters, and return its figures as JSON takes them."""
    strategy = strategy_of(choice_of(request, parameters))
    terms = (strategy, request.settings, request.cash, request.begin)
    result = run(setup_of(*terms, dividends=dividends, pairs=pairs), series)
    daily = [each for each in end_of_days(result.equity) if each[0] > request.begin]
    inside, outside = split(daily, request)
    moments = moments_of(period_returns(inside))
    return {
        "parameters": parameters,
        "fills": len(result.exchange.fills),
        "round_trips": len(result.exchange.round_trips),
        "whole": part_figures(daily),
        "in_sample": part_figures(inside),
        "out_of_sample": part_figures(outside),
        "moments": [None if isinstance(each, float) and not isfinite(each) else each for each in moments],
        "folds": [[part_figures(before), part_figures(after)] for before, after in folds(daily, request.folds)],
    }


def split(daily: Equity, request: OptimisationRequest) -> tuple[Equity, Equity]:
    """The equity in the sample and out of it. The second begins with the last value of the first."""
    place = round(len(daily) * (1 - float(request.out_of_sample)))
    return daily[:place], daily[max(place - 1, 0) :]


def folds(daily: Equity, number: int) -> list[tuple[Equity, Equity]]:
    """The steps of a walk-forward: the time until its beginning, and the time in it. The first has as long before."""
    edges = [len(daily) * place // (number + 1) for place in range(1, number + 2)]
    return [(daily[:begin], daily[max(begin - 1, 0) : end]) for begin, end in pairwise(edges)]


def part_figures(daily: Equity) -> dict[str, float | None]:
    """The figures of a part of the equity, None where they are not defined."""
    if len(daily) < 2:
        return dict.fromkeys(_FIGURES)
    weekend = any((at - timedelta(microseconds=1)).weekday() >= _SATURDAY for at, _ in daily)
    found = figures(daily, periods=DAYS_WITHOUT_WEEKEND if weekend else DAYS)
    return {name: value if isfinite(value := getattr(found, name)) else None for name in _FIGURES}


def joined(request: OptimisationRequest, trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The outcome of all trials: a table, the best ones first, and what tells overfitting from skill."""
    by_worth = sorted(trials, key=lambda each: _worth(each["in_sample"], request.objective), reverse=True)
    best = by_worth[0]
    return {
        "figures": {"best": best["parameters"], **best["in_sample"]},
        "objective": request.objective,
        "trials": [{name: each[name] for name in each if name not in {"folds", "moments"}} for each in by_worth],
        "best": {name: best[name] for name in ("parameters", "in_sample", "out_of_sample")},
        "overfitting": overfitting(request, by_worth),
        "walk_forward": walk_forward(request, trials),
    }


def overfitting(request: OptimisationRequest, by_worth: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best trial in and out of the sample, and its deflated Sharpe ratio, the probability that it is not luck."""
    ratios = [each["moments"][1] for each in by_worth if each["moments"][1] is not None]
    best = by_worth[0]
    spread = variance(ratios) if len(ratios) > 1 else 0.0
    number, ratio, skewness, kurtosis = best["moments"]
    deflated = None
    if ratio is not None:
        deflated = deflated_sharpe(Moments(number, ratio, skewness, kurtosis), spread, len(by_worth))
    outside = sorted(by_worth, key=lambda each: _worth(each["out_of_sample"], request.objective), reverse=True)
    return {
        "trials": len(by_worth),
        "in_sample": best["in_sample"][request.objective],
        "out_of_sample": best["out_of_sample"][request.objective],
        "rank_out_of_sample": outside.index(best) + 1,
        "sharpe_of_a_day": ratio,
        "expected_best_by_luck": expected_best(spread, len(by_worth)),
        "deflated_sharpe": deflated if deflated is not None and isfinite(deflated) else None,
    }


def walk_forward(request: OptimisationRequest, trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each step takes the set that was best before it. The return is that of all steps one after the other."""
    steps, growth = [], 1.0
    for number in range(request.folds):
        best = max(trials, key=lambda each: _worth(each["folds"][number][0], request.objective))
        before, after = best["folds"][number]
        growth *= 1 + (after["total_return"] or 0.0)
        steps.append({"parameters": best["parameters"], "in_sample": before, "out_of_sample": after})
    return {"steps": steps, "total_return": growth - 1}


def _worth(figures_of_part: dict[str, float | None], objective: str) -> float:
    value = figures_of_part[objective]
    return float("-inf") if value is None else value


def in_parts(trials: int, parts: int) -> Iterable[tuple[int, int]]:
    """The trials of each part: the first and the one after its last."""
    edges = [trials * place // parts for place in range(parts + 1)]
    return [(begin, end) for begin, end in pairwise(edges) if end > begin]
