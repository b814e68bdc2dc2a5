"""Thinning of the summaries: the older they are, the fewer are kept.

The last summary of each stretch of time stays. Peaks and growth are carried forward in each summary, so a thinned
history loses none of them. Daily summaries are rows of another table and stay.
"""

from datetime import timedelta

from shared.jobs.maintenance import OldRows

#: Summaries older than the first are thinned to one in the second.
STEPS = (
    (timedelta(days=2), timedelta(minutes=5)),
    (timedelta(days=30), timedelta(hours=1)),
    (timedelta(days=365), timedelta(days=1)),
)


def _thinned(age: timedelta, step: timedelta) -> OldRows:
    """Rows that are followed by another of their account and generation within their step."""
    seconds = int(step.total_seconds())
    end = f"date_bin('{seconds} seconds', account_summaries.at, '2000-01-01Z') + interval '{seconds} seconds'"
    condition = f"""
    at < date_bin('{seconds} seconds', CAST(:before AS timestamptz), '2000-01-01Z') AND EXISTS (
      SELECT FROM valuation.account_summaries later
      WHERE later.account_id = account_summaries.account_id AND later.generation = account_summaries.generation
        AND later.at > account_summaries.at AND later.at < {end})
    """
    return OldRows("valuation.account_summaries", condition, age)


SUMMARIES = tuple(_thinned(age, step) for age, step in STEPS)
