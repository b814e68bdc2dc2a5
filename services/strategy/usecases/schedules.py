"""The strategies that are due by their own schedules."""

from datetime import datetime, timedelta

from services.strategy.persistence.strategies import StrategyRow
from shared.jobs.schedule.calendar import Market, Phase
from shared.jobs.schedule.slots import Every, parse_schedule

#: A slot that was missed for longer than this is skipped.
MISFIRE = timedelta(minutes=10)


def is_due(strategy: StrategyRow, market: Market, now: datetime) -> bool:
    """True if a slot of the schedule came since the last evaluation. Slots that were missed count as one.

    An interval such as ``5m`` has its slots in regular trading only, cron and times around the open have all of them.
    """
    if strategy.schedule is None:
        return False
    schedule = parse_schedule(strategy.schedule)
    if isinstance(schedule, Every) and market.phase_at(now) is not Phase.REGULAR:
        return False
    since = max(strategy.evaluated_at or now - MISFIRE, now - MISFIRE) + timedelta(microseconds=1)
    slots = schedule.between(market, since, now + timedelta(microseconds=1))
    return next(iter(slots), None) is not None
