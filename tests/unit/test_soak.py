"""The judgement of a soak, on series that grow, stay, and swing."""

import math
from random import Random

import pytest

from bench.soak import _minutes
from bench.soak_judgement import (
    GOAL_BYTES,
    Growth,
    Point,
    TooShort,
    bytes_per_hour,
    failures,
    first_month,
    growth,
    slope,
)
from bench.soak_retention import BOOKS, kept_days

#: A sample each 10 seconds for half an hour.
HOURS = [n / 360 for n in range(180)]


def series(per_hour: float, *, start: float = 200.0, noise: float = 0.0, seed: int = 1) -> list[Point]:
    random = Random(seed)
    return [Point(hours, start + per_hour * hours + random.uniform(-noise, noise)) for hours in HOURS]


def test_the_slope_is_that_of_the_line() -> None:
    assert slope(series(36.0)) == pytest.approx(36.0)
    assert slope([Point(1.0, 5.0)]) == 0


def test_a_leak_grows_steadily() -> None:
    """40 MB an hour on top of 200 MB are 10 MB in the second half, more than the 3 % that count."""
    found = growth(series(40.0, noise=2.0))
    assert found.steady
    assert found.per_hour == pytest.approx(40.0, rel=0.2)
    assert found.last == pytest.approx(220.0, abs=3)


@pytest.mark.parametrize("seed", range(20))
def test_a_flat_series_with_noise_does_not_grow(seed: int) -> None:
    assert not growth(series(0.0, noise=5.0, seed=seed)).steady


def test_a_series_that_shrinks_does_not_grow() -> None:
    found = growth(series(-40.0))
    assert not found.steady
    assert found.per_hour == pytest.approx(-40.0)


def test_growth_in_the_first_half_is_not_judged() -> None:
    """Caches fill: it rises by 100 MB and then stays."""
    warm = [Point(hours, min(300.0, 200.0 + 400 * hours)) for hours in HOURS]
    assert not growth(warm).steady


@pytest.mark.parametrize("minutes", [2, 3, 5])
def test_a_cache_that_fills_does_not_grow_steadily(minutes: int) -> None:
    """It rises in every third, and each time by less."""
    filling = [Point(hours, 300 - 150 * math.exp(-60 * hours / minutes)) for hours in HOURS]
    assert not growth(filling).steady


def test_one_step_is_not_steady() -> None:
    """A job that loads a library once makes a step."""
    step = [Point(hours, 200.0 if hours < 0.45 else 230.0) for hours in HOURS]
    assert growth(step).per_hour > 0
    assert not growth(step).steady


def test_a_sawtooth_that_climbs_grows() -> None:
    """Garbage is collected in between, and still each tooth begins higher."""
    teeth = [Point(hours, 200.0 + 60 * hours + n % 12) for n, hours in enumerate(HOURS)]
    assert growth(teeth).steady


def test_a_rise_below_the_least_does_not_count() -> None:
    """One connection more among thirty is above 3 % and is not a leak."""
    assert growth(series(8.0, start=30.0)).steady
    assert not growth(series(8.0, start=30.0), least=2.5).steady


def test_a_short_soak_is_refused() -> None:
    with pytest.raises(TooShort, match="let it run longer"):
        growth(series(0.0)[:10])


def test_a_table_s_bytes_follow_its_rows() -> None:
    """It grows by pages of 8 kB, of which a short soak sees few."""
    rows = series(4000.0, start=50.0)
    sizes = [Point(point.hours, 8192 * (6 + point.value * 150 // 8192)) for point in rows]
    assert bytes_per_hour(rows, sizes, 6 * 8192) == pytest.approx(4000 * 150, rel=0.05)


def test_a_table_that_swells_without_rows_grows() -> None:
    """Dead rows that nothing removes grow, a page or two do not."""
    rows = series(0.0, start=500.0)
    assert bytes_per_hour(rows, series(1e6), 0) == pytest.approx(1e6)
    assert bytes_per_hour(rows, series(1e4), 0) == 0


def test_the_first_month_follows_the_retention() -> None:
    """A table whose rows stay for 7 days grows for 8 days, and one that keeps all for 30."""
    assert first_month(1000.0, 10.0, 7) == 1000 + 10 * 24 * 8
    assert first_month(1000.0, 10.0, None) == 1000 + 10 * 24 * 30
    assert first_month(1000.0, 10.0, 90) == 1000 + 10 * 24 * 30
    assert first_month(1000.0, -10.0, None) == 1000


def test_each_failure_is_a_line() -> None:
    leak, flat = growth(series(40.0)), growth(series(0.0))
    lines = failures({"memory": (leak, "MB"), "connections": (flat, "connections")}, GOAL_BYTES + 1e8)
    assert lines == [
        "memory grows steadily: by 40.0 MB an hour, from a mean of 214.9 MB",
        "the first month needs 1.10 GB beside the books, more than 1 GB",
    ]
    assert failures({"connections": (flat, "connections")}, GOAL_BYTES) == []


def test_the_retention_is_that_of_the_code() -> None:
    kept = kept_days()
    assert kept["jobs.job_runs"] == kept["orders.inbox"] == 7
    assert kept["marketdata.market_data"] == 2
    assert not BOOKS & kept.keys()


@pytest.mark.parametrize("given", ["", "2", "half", "nan", "inf", "-5"])
def test_wrong_minutes_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match="SOAK_MINUTES must be from 3 to"):
        _minutes(given)


def test_a_growth_knows_its_rise() -> None:
    found: Growth = growth(series(36.0))
    assert found.rise == pytest.approx(36.0 * (HOURS[-1] - HOURS[90]))
