"""The times at which strategies with a schedule of their own are due."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.strategy.usecases.schedules import is_due
from shared.jobs.schedule.calendar import Market, Phase, Session
from tests.component.strategy_scenario import STRATEGY

OPEN, CLOSE = datetime(2026, 11, 23, 14, 30, tzinfo=UTC), datetime(2026, 11, 23, 21, tzinfo=UTC)
DAY = Market(
    "XNYS", ZoneInfo("America/New_York"), (Session(OPEN.date(), Phase.REGULAR, OPEN, CLOSE),), always_open=False
)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("schedule", "evaluated", "now", "due"),
    [
        ("5m", OPEN, OPEN + 4 * MINUTE, False),
        ("5m", OPEN, OPEN + 5 * MINUTE, True),
        ("5m", OPEN + 5 * MINUTE, OPEN + 9 * MINUTE, False),
        ("5m", OPEN, CLOSE + MINUTE, False),
        ("1d", OPEN - timedelta(days=1), OPEN - MINUTE, False),
        ("1d", OPEN - timedelta(days=1), OPEN, True),
        ("1d", OPEN, CLOSE - MINUTE, False),
        ("10m before close", OPEN, CLOSE - 10 * MINUTE, True),
        ("10m before close", OPEN, CLOSE - 11 * MINUTE, False),
        ("10m before close", OPEN, CLOSE + MINUTE, False),
        ("5m after close", OPEN, CLOSE + 5 * MINUTE, True),
        ("0 10 * * 1-5", OPEN, OPEN + 31 * MINUTE, True),
        ("0 10 * * 1-5", OPEN + 30 * MINUTE, OPEN + 31 * MINUTE, False),
        (None, OPEN, OPEN + 31 * MINUTE, False),
    ],
)
def test_a_strategy_is_due_once_for_the_slots_since_its_last_evaluation(
    schedule: str | None, evaluated: datetime, now: datetime, *, due: bool
) -> None:
    """Intervals count in regular trading. Other schedules forget a slot after ten minutes."""
    assert is_due(replace(STRATEGY, schedule=schedule, evaluated_at=evaluated), DAY, now) == due
