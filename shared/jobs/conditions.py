"""Conditions that several jobs have use for; a job may as well bring a function of its own.

@jobs.job("trading_bot", when=prices_younger_than("5m"), …)

A condition answers why the run should not be, in words that stay the same while that lasts, so that skips for one
reason are one row. What people start by hand runs whatever its condition says.
"""

from decimal import Decimal

from sqlalchemy import text

from shared.jobs.declaration import Condition
from shared.jobs.markets import Calendar
from shared.jobs.run_context import RunContext
from shared.jobs.schedule.calendar import Phase
from shared.jobs.schedule.interval import parse_interval


def market_is_in(*phases: Phase, market: str) -> Condition:
    """Run in these phases of the market only; for schedules of which the phase is no part."""

    def condition(run: RunContext) -> str | None:
        phase = Calendar(run.context.engine, run.context.clock).market(market).phase_at(run.now)
        return None if phase in phases else f"{market} is in {phase.value}"

    return condition


def prices_younger_than(age: str) -> Condition:
    """Run while the newest price of a tradable instrument is at most so old, such as ``5m``."""
    limit = parse_interval(age)

    def condition(run: RunContext) -> str | None:
        with run.context.engine.connect() as connection:
            newest = connection.execute(_NEWEST_PRICE).scalar()
        return None if newest is not None and run.now - newest <= limit else f"no price is younger than {age}"

    return condition


def drawdown_under(share: Decimal) -> Condition:
    """Run while no account has lost this share of the highest equity that its summaries know."""

    def condition(run: RunContext) -> str | None:
        with run.context.engine.connect() as connection:
            over = connection.execute(_OVER_DRAWDOWN, {"share": share}).scalar_one()
        return f"an account is {share:%} or more below its peak" if over else None

    return condition


_NEWEST_PRICE = text("SELECT max(quoted_at) FROM marketdata.instruments_v1 WHERE tradable")
_OVER_DRAWDOWN = text("""
SELECT EXISTS (
  SELECT FROM valuation.account_values_v1 v
  JOIN (SELECT account_id, max(equity) AS peak FROM valuation.account_summaries_v1 GROUP BY 1) s USING (account_id)
  WHERE s.peak > 0 AND v.equity <= s.peak * (1 - :share))
""")
