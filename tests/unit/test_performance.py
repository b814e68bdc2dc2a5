"""Performance against empyrical-reloaded to 1e-9, and against arithmetic by hand where empyrical has no figure."""

import warnings
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import isnan
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from shared import performance
from shared.performance import (
    Flow,
    Trade,
    drawdowns,
    figures,
    monthly_returns,
    period_returns,
    trade_figures,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import empyrical

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def walk(seed: int, number: int = 300) -> list[tuple[datetime, Decimal]]:
    random, equity, points = Random(seed), 100_000.0, []
    for day in range(number):
        points.append((BEGIN + day * DAY, Decimal(f"{equity:.2f}")))
        equity *= 1 + random.gauss(0.0004, 0.012)
    return points


@pytest.mark.parametrize("seed", range(12))
def test_the_figures_are_those_of_empyrical(seed: int) -> None:
    points, others = walk(seed), walk(seed + 1000)
    returns, market = (np.array(period_returns(each)) for each in (points, others))

    found = figures(points, benchmark=market.tolist())

    assert found.total_return == pytest.approx(empyrical.cum_returns_final(returns), rel=1e-9)
    assert found.annual_return == pytest.approx(empyrical.annual_return(returns), rel=1e-9)
    assert found.volatility == pytest.approx(empyrical.annual_volatility(returns), rel=1e-9)
    assert found.sharpe == pytest.approx(empyrical.sharpe_ratio(returns), rel=1e-9)
    assert found.sortino == pytest.approx(empyrical.sortino_ratio(returns), rel=1e-9)
    assert found.max_drawdown == pytest.approx(empyrical.max_drawdown(returns), rel=1e-9)
    assert found.calmar == pytest.approx(empyrical.calmar_ratio(returns), rel=1e-9)
    alpha, beta = empyrical.alpha_beta_aligned(returns, market)
    assert found.beta == pytest.approx(beta, rel=1e-9)
    assert found.alpha == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize("risk_free", [0.0001, 0.0005])
def test_a_rate_without_risk_is_taken_off(risk_free: float) -> None:
    returns = np.array(period_returns(walk(1)))

    found = figures(walk(1), risk_free=risk_free)

    assert found.sharpe == pytest.approx(empyrical.sharpe_ratio(returns, risk_free=risk_free), rel=1e-9)
    assert found.sortino == pytest.approx(empyrical.sortino_ratio(returns, required_return=risk_free), rel=1e-9)


def test_a_deposit_is_no_return() -> None:
    points = [(BEGIN, Decimal(100)), (BEGIN + DAY, Decimal(160)), (BEGIN + 2 * DAY, Decimal(80))]
    flows = [Flow(BEGIN + DAY / 2, Decimal(50)), Flow(BEGIN + 2 * DAY, Decimal(-72))]

    assert period_returns(points, flows) == pytest.approx([0.10, -0.05])
    assert figures(points, flows).total_return == pytest.approx(1.1 * 0.95 - 1)
    assert figures(points, flows).max_drawdown == pytest.approx(-0.05)


def test_an_account_that_lost_more_than_all_has_lost_all() -> None:
    """A short sale brought the equity below zero. A deposit and a later gain make up for nothing."""
    points = [(BEGIN + i * DAY, Decimal(value)) for i, value in enumerate([1000, -500, 500, 750])]
    flows = [Flow(BEGIN + 1.5 * DAY, Decimal(1000))]

    found = figures(points, flows)

    assert period_returns(points, flows) == [-1.0, 0.0, 0.5]
    assert (found.total_return, found.max_drawdown) == (-1.0, -1.0)


def test_a_large_flow_within_a_period_changes_no_return() -> None:
    """A thousand times the equity comes at noon. Before it the account gained 10 %, after it it lost 1 %."""
    noon, minute = BEGIN + DAY / 2, timedelta(minutes=1)
    points = [(BEGIN, Decimal(100)), (BEGIN + DAY, Decimal("99108.9")), (BEGIN + 2 * DAY, Decimal("49554.45"))]
    flows = [Flow(noon, Decimal(100_000)), Flow(BEGIN + 1.5 * DAY, Decimal("-49554.45"))]
    marks = [(noon - minute, Decimal(110)), (noon + minute, Decimal(100_110)), (BEGIN + 1.6 * DAY, Decimal("49554.45"))]

    found = figures(points, flows, marks=marks)

    assert period_returns(points, flows, marks) == pytest.approx([1.1 * 0.99 - 1, 0.0], abs=1e-12)
    assert found.total_return == pytest.approx(0.089)
    assert found.max_drawdown == 0
    assert period_returns(points[:1], flows, marks) == []


def test_a_flow_before_the_first_value_is_in_it() -> None:
    points = [(BEGIN, Decimal(100)), (BEGIN + DAY, Decimal(110))]

    assert period_returns(points, [Flow(BEGIN, Decimal(100))]) == pytest.approx([0.10])


def test_the_money_weighted_return_is_the_rate_that_explains_the_end() -> None:
    half = BEGIN + performance.YEAR / 2
    flows = [Flow(half, Decimal(1000))]
    end = 1000 * 1.2 + 1000 * 1.2**0.5
    points = [(BEGIN, Decimal(1000)), (BEGIN + performance.YEAR, Decimal(str(end)))]

    assert figures(points, flows).money_weighted_return == pytest.approx(0.2, abs=1e-9)
    lost = [(BEGIN, Decimal(1000)), (BEGIN + performance.YEAR, Decimal(500))]
    assert figures(lost).money_weighted_return == pytest.approx(-0.5, abs=1e-9)


def test_a_drawdown_has_its_times() -> None:
    values = [100, 120, 90, 110, 130, 125, 131]
    points = [(BEGIN + i * DAY, Decimal(value)) for i, value in enumerate(values)]

    found = performance.deepest_drawdown(points, period_returns(points))

    assert found.depth == pytest.approx(90 / 120 - 1)
    assert (found.peak_at, found.trough_at, found.recovered_at) == (BEGIN + DAY, BEGIN + 2 * DAY, BEGIN + 4 * DAY)
    assert performance.longest_drawdown(points, period_returns(points)) == 3 * DAY


def test_a_drawdown_from_the_beginning_that_lasts() -> None:
    points = [(BEGIN + i * DAY, Decimal(value)) for i, value in enumerate([100, 95, 97, 90, 99])]

    found = performance.deepest_drawdown(points, period_returns(points))

    assert (found.peak_at, found.trough_at, found.recovered_at) == (BEGIN, BEGIN + 3 * DAY, None)
    assert performance.longest_drawdown(points, period_returns(points)) == 4 * DAY


def test_a_drawdown_ends_at_a_value_that_equals_its_high() -> None:
    """The product of the returns is a little less than the high then, since floats are not exact."""
    values = ["7", "6.5", "7", "6.5", "6.5", "7", "7", "6.5", "7"]
    points = [(BEGIN + i * DAY, Decimal(value)) for i, value in enumerate(values)]
    returns = period_returns(points)

    found = performance.deepest_drawdown(points, returns)

    assert (found.trough_at, found.recovered_at) == (BEGIN + DAY, BEGIN + 2 * DAY)
    assert performance.longest_drawdown(points, returns) == 3 * DAY
    assert [fall == 0 for fall in drawdowns(returns)] == [value == "7" for value in values[1:]]


def test_trades_are_counted_with_their_streaks() -> None:
    profits = [10, -5, -5, -1, 0, 20, -4]
    trades = [Trade(Decimal(each), BEGIN + i * DAY, BEGIN + (i + 2) * DAY) for i, each in enumerate(profits)]

    found = trade_figures(trades)

    assert found.number == 7
    assert found.win_rate == pytest.approx(2 / 7)
    assert found.profit_factor == pytest.approx(30 / 15)
    assert found.expectancy == pytest.approx(15 / 7)
    assert (found.average_win, found.average_loss) == (15, -3.75)
    assert found.longest_losing_streak == 3
    assert found.average_days == 2


@pytest.mark.parametrize("points", [[], walk(1, 1), walk(1, 2)])
def test_few_values_have_few_figures(points: list[tuple[datetime, Decimal]]) -> None:
    found = figures(points)

    assert isnan(found.sharpe)
    assert isnan(found.total_return) == (len(points) < 2)
    assert isnan(trade_figures([]).win_rate)


def test_an_account_that_never_moved_has_no_ratios() -> None:
    found = figures([(BEGIN + i * DAY, Decimal(100)) for i in range(10)])

    assert (found.total_return, found.volatility, found.max_drawdown) == (0, 0, 0)
    assert [isnan(each) for each in (found.sharpe, found.sortino, found.calmar)] == [True] * 3
    assert found.longest_drawdown_days == 0
    assert isnan(found.beta)


def test_months_are_those_of_the_zone_and_leave_deposits_out() -> None:
    """Midnight in UTC is the evening before in New York. 100 come in December, which is no return."""
    values = (("11-30 20:00", 100), ("12-01 02:00", 110), ("12-02 20:00", 231))
    equity = [(datetime.fromisoformat(f"2026-{at}+00:00"), Decimal(each)) for at, each in values]
    found = monthly_returns(equity, [Flow(equity[2][0], Decimal(110))], ZoneInfo("America/New_York"))
    assert [month for month, _ in found] == [date(2026, 11, 1), date(2026, 12, 1)]
    assert [each for _, each in found] == pytest.approx([0.1, 0.1])
    assert monthly_returns(equity[:1], [], UTC) == []


def test_a_drawdown_lasts_until_the_next_high() -> None:
    assert drawdowns([0.1, -0.5, 0.5, 1.0]) == pytest.approx([0.0, -0.5, -0.25, 0.0])
