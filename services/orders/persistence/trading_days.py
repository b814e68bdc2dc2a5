"""The trading days of a market, and the open orders that they end."""

from datetime import datetime

from sqlalchemy import Connection, text

from services.orders.persistence.orders import GroupKey
from shared.exchange.trading_days import WholeDay

#: Days that are read. Day and auction orders wait for the next of them, over the longest holidays.
DAYS = 30


def order_groups_of_market(connection: Connection, market: str) -> list[GroupKey]:
    """The groups of the open day and auction orders of the market's instruments."""
    return [(row.account_id, row.order_group) for row in connection.execute(_ORDER_GROUPS, {"market": market})]


def days_of_market(connection: Connection, market: str, since: datetime) -> list[WholeDay]:
    """The market's trading days from the day before that time on, with the end of trading after their closes."""
    found = connection.execute(_DAYS, {"market": market, "since": since, "most": DAYS})
    return [WholeDay(row.day, row.open_at, row.close_at, row.extended_end) for row in found]


_ORDER_GROUPS = text("""
SELECT DISTINCT o.account_id, o.order_group FROM marketdata.instruments_v1 i
CROSS JOIN LATERAL (
  SELECT account_id, order_group FROM orders.orders
  WHERE symbol = i.symbol AND status IN ('accepted', 'held', 'partially_filled')
    AND time_in_force IN ('day', 'opg', 'cls')
) o
WHERE i.market = :market
""")
_DAYS = text("""
SELECT d.day, d.open_at, d.close_at,
       (SELECT max(s.close_at) FROM marketdata.sessions_v2 s WHERE s.market = d.market AND s.day = d.day)
         AS extended_end
FROM marketdata.trading_days_v1 d
WHERE d.market = :market AND d.day >= CAST(:since AS date) - 1 AND d.day <= CAST(:since AS date) + :most
ORDER BY d.day
""")
