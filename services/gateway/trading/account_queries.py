"""The account and its positions with their values at current prices, which valuation computes."""

from uuid import UUID

from sqlalchemy import Connection, text

from services.gateway.trading.order_queries import OPEN
from shared.storage.keyset import Record, records


def account(connection: Connection, account_id: UUID) -> Record | None:
    """Return the account with its value at current prices, or None while it is being opened."""
    return next(iter(records(connection, _ACCOUNT, account_id=account_id)), None)


def positions(connection: Connection, account_id: UUID, asset: str | None = None) -> list[Record]:
    """Return all positions, or the one with this symbol or asset id.

    ``held_for_orders`` is the number of shares that open orders will close.
    """
    return records(connection, _POSITIONS, account_id=account_id, asset=asset)


_ACCOUNT = text("""
SELECT a.id, a.number, a.currency, a.status, a.cash, a.reserved, a.created_at, a.settings,
       v.long_value, v.short_value, v.equity, v.unrealized_pl,
       (SELECT s.equity FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at < date_trunc('day', now()) ORDER BY s.at DESC LIMIT 1) AS last_equity
FROM orders.accounts_v1 a JOIN valuation.account_values_v1 v ON v.account_id = a.id
WHERE a.id = :account_id
""")
_POSITIONS = text(f"""
SELECT p.asset_id, p.symbol, p.asset_class, p.qty, p.cost, p.last, p.currency, p.rate, p.value AS market_value,
       p.unrealized_pl,
       COALESCE((SELECT sum(o.held_for_orders) FROM orders.orders_v1 o
                 WHERE o.account_id = p.account_id AND o.symbol = p.symbol
                   AND o.status IN {OPEN}), 0) AS held_for_orders
FROM valuation.current_positions_v1 p
WHERE p.account_id = :account_id
  AND (CAST(:asset AS text) IS NULL OR p.symbol = upper(:asset) OR CAST(p.asset_id AS text) = lower(:asset))
ORDER BY p.symbol
""")
