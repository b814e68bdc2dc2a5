"""The account with its value, and its positions, at current prices."""

from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.keyset import Record, records


def account(connection: Connection, account_id: UUID) -> Record | None:
    """Return the account with its value at current prices, or None while it is being opened."""
    return next(iter(records(connection, _ACCOUNT, account_id=account_id)), None)


def positions(connection: Connection, account_id: UUID, asset: str | None = None) -> list[Record]:
    """Return all positions, or the one with this symbol or asset id.

    ``held_for_orders`` is the number of shares that open orders will close.
    """
    return records(connection, _POSITIONS, account_id=account_id, asset=asset)


#: Positions at their last price and the last rate. Value and rate are null if the rate is missing.
_VALUED = """
SELECT i.id AS asset_id, p.account_id, p.symbol, i.asset_class, p.qty, p.cost, i.last, i.currency, v.rate,
       round(p.qty * i.last * v.rate, 2) AS value
FROM orders.positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
LEFT JOIN marketdata.rates_v1 r
  ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
CROSS JOIN LATERAL (SELECT CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END AS rate) v
"""
_ACCOUNT = text(f"""
SELECT a.id, a.number, a.currency, a.status, a.cash, a.reserved, a.created_at, a.settings,
       COALESCE(v.long_value, 0) AS long_value, COALESCE(v.short_value, 0) AS short_value,
       COALESCE(v.unrealized_pl, 0) AS unrealized_pl,
       (SELECT s.equity FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at < date_trunc('day', now()) ORDER BY s.at DESC LIMIT 1) AS last_equity
FROM orders.accounts_v1 a
LEFT JOIN LATERAL (
  SELECT sum(p.value) FILTER (WHERE p.qty > 0) AS long_value, sum(p.value) FILTER (WHERE p.qty < 0) AS short_value,
         sum(p.value - p.cost) AS unrealized_pl
  FROM ({_VALUED}) p WHERE p.account_id = a.id
) v ON true
WHERE a.id = :account_id
""")
_POSITIONS = text(f"""
SELECT p.asset_id, p.symbol, p.asset_class, p.qty, p.cost, p.last, p.currency, p.rate, p.value AS market_value,
       p.value - p.cost AS unrealized_pl,
       COALESCE((SELECT sum(o.held_for_orders) FROM orders.orders_v1 o
                 WHERE o.account_id = p.account_id AND o.symbol = p.symbol
                   AND o.status IN ('accepted', 'held', 'partially_filled')), 0) AS held_for_orders
FROM ({_VALUED}) p
WHERE p.account_id = :account_id
  AND (CAST(:asset AS text) IS NULL OR p.symbol = upper(:asset) OR CAST(p.asset_id AS text) = lower(:asset))
ORDER BY p.symbol
""")
