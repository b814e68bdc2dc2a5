"""The strategies that are due by their own schedules."""

from datetime import datetime, timedelta

from services.strategy.persistence.strategies import StrategyRow
from shared.jobs.schedule.calendar import Market, Phase
from shared.jobs.schedule.slots import Every, parse_schedule

#: A slot of cron, or around the open, that was missed for longer than this is skipped.
MISFIRE = timedelta(minutes=10)
INSTANT = timedelta(microseconds=1)


def is_due(strategy: StrategyRow, market: Market, now: datetime) -> bool:
    """True if a slot of the schedule came since the last evaluation. Slots that were missed count as one.

    Intervals such as ``5m`` are due in regular trading only. The first slot before it is due at the open.
    """
    if strategy.schedule is None:
        return False
    schedule = parse_schedule(strategy.schedule)
    since = strategy.evaluated_at or now - MISFIRE
    if isinstance(schedule, Every):
        if market.phase_at(now) is not Phase.REGULAR:
            return False
    else:
        since = max(since, now - MISFIRE)
    slots = schedule.between(market, since + INSTANT, now + INSTANT)
    return next(iter(slots), None) is not None
