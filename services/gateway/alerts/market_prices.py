"""The markets whose prices stand still in their session, while others' do not."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, text


def old(connection: Connection, now: datetime, since: datetime, most: timedelta) -> Sequence[RowMapping]:
    """The markets in regular trading whose newest price is older than ``most``, with the age and the providers.

    The age counts from ``since``, from the market's open, or from its newest price, whichever is the latest. A delayed
    price counts from when it came. Instruments that never had a price do not count.
    """
    return connection.execute(_OLD, {"now": now, "since": since, "most": most}).mappings().all()


_OLD = text("""
WITH open AS (
  SELECT market, max(open_at) AS open_at FROM marketdata.sessions_v1
  WHERE open_at <= :now AND close_at > :now GROUP BY market
), newest AS (
  SELECT i.market, string_agg(DISTINCT i.provider, ', ' ORDER BY i.provider) AS providers,
         GREATEST(max(CASE WHEN i.delayed THEN i.received_at ELSE i.quoted_at END), max(open.open_at), :since) AS at
  FROM marketdata.instruments_v1 i JOIN open ON open.market = i.market
  WHERE i.tradable AND i.halted_at IS NULL AND i.quoted_at IS NOT NULL
  GROUP BY i.market
)
SELECT market, CAST(:now AS timestamptz) - at AS age, CAST(:most AS interval) AS most, providers FROM newest
WHERE CAST(:now AS timestamptz) - at > CAST(:most AS interval) ORDER BY market
""")
