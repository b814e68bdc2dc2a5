"""Conditions on what other services publish: a market's phase, the age of prices, and drawdowns.

@jobs.job("trading_bot", when=prices_younger_than("5m"), …)
"""

from decimal import Decimal

from sqlalchemy import text

from shared.jobs.declaration import Condition
from shared.jobs.run_context import RunContext
from shared.jobs.schedule.calendar import Phase
from shared.jobs.schedule.interval import parse_interval
from shared.markets import PublishedCalendar


def market_is_in(*phases: Phase, market: str) -> Condition:
    """Run only in these phases of a market, which may be another market than that of the job's schedule."""

    def condition(run: RunContext) -> str | None:
        phase = PublishedCalendar(run.context.engine, run.context.clock).market(market).phase_at(run.now)
        return None if phase in phases else f"{market} is in {phase.value}"

    return condition


def prices_younger_than(age: str) -> Condition:
    """Run while the newest price of a tradable instrument is at most this old, such as ``5m``.

    Raises InvalidInterval for an age that is not an interval.
    """
    limit = parse_interval(age)

    def condition(run: RunContext) -> str | None:
        with run.context.engine.connect() as connection:
            newest = connection.execute(_NEWEST_PRICE).scalar()
        return None if newest is not None and run.now - newest <= limit else f"no price is younger than {age}"

    return condition


def drawdown_under(share: Decimal) -> Condition:
    """Run while every account's equity is above its peak less this share.

    The peak is that of the account's summaries since it was reset last.
    """

    def condition(run: RunContext) -> str | None:
        with run.context.engine.connect() as connection:
            over = connection.execute(_OVER_DRAWDOWN, {"share": share}).scalar_one()
        return f"an account is {share:%} or more below its peak" if over else None

    return condition


_NEWEST_PRICE = text("SELECT max(quoted_at) FROM marketdata.instruments_v1 WHERE tradable")
_OVER_DRAWDOWN = text("""
SELECT EXISTS (
  SELECT FROM valuation.account_values_v1 v JOIN orders.accounts_v1 a ON a.id = v.account_id
  CROSS JOIN LATERAL (
    SELECT GREATEST(max(equity), max(peak_equity)) AS peak FROM valuation.account_summaries_v1 s
    WHERE s.account_id = a.id AND s.at >= COALESCE(a.generation_at, '-infinity')
  ) s
  WHERE s.peak > 0 AND v.equity <= s.peak * (1 - :share))
""")
