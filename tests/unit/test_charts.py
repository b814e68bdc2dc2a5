"""Charts as SVG: points and bars lie within the frame, and no label is markup."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from shared.charts import BAR_HEIGHT, HEIGHT, WIDTH, bar_chart, line_chart, share_chart

BEGIN = datetime(2026, 11, 23, tzinfo=UTC)
MARKUP = "<script>alert('x')</script>\""


@pytest.mark.parametrize("values", [(1.0, 3.0, 2.0), (5.0, 5.0, 5.0), (-2.0, 0.0, -1.0)])
def test_a_line_has_a_point_for_each_value_within_the_frame(values: tuple[float, ...]) -> None:
    drawn = line_chart([(BEGIN + timedelta(days=n), value) for n, value in enumerate(values)], MARKUP)
    (points,) = re.findall(r'points="([^"]+)"', drawn)
    placed = [tuple(map(float, point.split(","))) for point in points.split()]
    assert len(placed) == len(values)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in placed)
    assert [x for x, _ in placed] == sorted(x for x, _ in placed)
    assert min(range(3), key=lambda n: placed[n][1]) == max(range(3), key=lambda n: values[n])
    assert "<script" not in drawn


def test_one_value_is_no_line() -> None:
    assert line_chart([(BEGIN, 1.0)], "Equity") == "<p>There are too few values for a chart.</p>"


def test_within_a_day_the_ends_of_a_line_are_times() -> None:
    assert ">00:00<" in line_chart([(BEGIN, 1.0), (BEGIN + timedelta(hours=7), 2.0)], "Equity")


def test_bars_go_up_and_down_from_zero() -> None:
    """A loss hangs from the line on which a profit stands. Of 500 bars only some have a label."""
    drawn = bar_chart([("a", 10.0), (MARKUP, -5.0)], "Profit")
    (up, down) = [
        (float(y), float(height)) for y, height in re.findall(r' y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', drawn)
    ]
    assert sum(up) == pytest.approx(down[0], abs=0.2)
    assert up[1] == pytest.approx(2 * down[1], abs=0.2)
    assert "<script" not in drawn
    many = bar_chart([(f"AAPL 11-{n:02}", float(n % 7 - 3)) for n in range(500)], "Profit")
    assert (many.count("<rect"), many.count('text-anchor="middle"') < 15) == (500, True)
    assert bar_chart([], "Profit").startswith("<p>")


def test_shares_are_bars_with_their_percentage() -> None:
    drawn = share_chart([("AAPL", 0.75), (MARKUP, -0.25), ("Cash", 0.5)], "Allocation")
    widths = [float(each) for each in re.findall(r'<rect x="\d+" y="\d+" width="([\d.]+)"', drawn)]
    assert widths[0] == pytest.approx(3 * widths[1], abs=0.2)
    assert f'viewBox="0 0 {WIDTH} {3 * BAR_HEIGHT + 4}"' in drawn
    assert ("75.00 %" in drawn, "-25.00 %" in drawn, "<script" in drawn) == (True, True, False)
