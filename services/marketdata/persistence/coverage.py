"""Covered times: those whose bars a provider was asked for, so that a repeated backfill asks only for the gaps."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text


class Gap(NamedTuple):
    """A time whose bars have not been asked for yet."""

    begin: datetime
    end: datetime


def gaps(connection: Connection, symbol: str, interval: str, provider: str, wanted: Gap) -> list[Gap]:
    """Return the parts of the wanted time that are not covered, the oldest first."""
    given = {"symbol": symbol, "interval": interval, "provider": provider, **wanted._asdict()}
    return [Gap(row.begin, row.end) for row in connection.execute(_GAPS, given)]


def cover(connection: Connection, symbol: str, interval: str, provider: str, part: Gap, now: datetime) -> None:
    """Record that the bars of this time were stored."""
    given = {"symbol": symbol, "interval": interval, "provider": provider, "now": now, **part._asdict()}
    connection.execute(_COVER, given)


def uncover(connection: Connection, before: datetime) -> None:
    """Forget that times before were covered, because their bars are removed. Daily bars stay."""
    connection.execute(_UNCOVER, {"before": before})


_GAPS = text("""
SELECT lower(part) AS begin, upper(part) AS end
FROM unnest(tstzmultirange(tstzrange(:begin, :end)) - COALESCE(
  (SELECT covered FROM marketdata.bar_coverage
   WHERE symbol = :symbol AND interval = :interval AND provider = :provider), '{}')) AS part
ORDER BY lower(part)
""")
_COVER = text("""
INSERT INTO marketdata.bar_coverage AS c (symbol, interval, provider, covered, updated_at)
VALUES (:symbol, :interval, :provider, tstzmultirange(tstzrange(:begin, :end)), :now)
ON CONFLICT (symbol, interval, provider) DO UPDATE SET covered = c.covered + excluded.covered, updated_at = :now
""")
_UNCOVER = text("""
UPDATE marketdata.bar_coverage SET covered = covered - tstzmultirange(tstzrange('-infinity', :before))
WHERE interval <> '1d' AND covered && tstzrange('-infinity', :before)
""")
