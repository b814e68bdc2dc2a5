"""The account and its positions: their values at current prices, which valuation computes, and those of the day before.

A day is one of the market, by the dates of its own time zone. For an account it is the market by whose closes its days
are summarized.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from services.gateway.trading.order_queries import OPEN
from shared.contracts.markets import DEFAULT_MARKET
from shared.previous_close import DAYS, joined
from shared.storage.keyset import Record, records


def account(connection: Connection, account_id: UUID, now: datetime) -> Record | None:
    """Return the account with its value at current prices, or None while it is being opened.

    ``last_equity`` is its equity at the previous close: that of the day's summary, else the last one known from an
    earlier day. In the first day of its present generation it is the cash with which that began. ``adjustments`` are
    today's later deposits, less withdrawals.
    """
    return next(iter(records(connection, _ACCOUNT, account_id=account_id, now=now, market=DEFAULT_MARKET)), None)


def positions(connection: Connection, account_id: UUID, now: datetime, asset: str | None = None) -> list[Record]:
    """Return all positions, or the one with this symbol or asset id.

    ``held_for_orders`` is the number of shares that open orders will close. ``qty_today`` and ``cost_today`` are those
    of the shares that were bought or sold short today. ``last_close`` is the price at the previous close, null where
    it is not known, and ``splits`` are the ratios of the position's splits since then.
    """
    return records(connection, _POSITIONS, account_id=account_id, now=now, asset=asset)


_ACCOUNT = text(f"""
WITH {DAYS}
SELECT a.id, a.number, a.currency, a.status, a.cash, a.reserved, a.created_at, a.settings, v.long_value, v.short_value,
       v.equity, v.market_value - v.cost_basis AS unrealized_pl, d.day AS balance_asof,
       COALESCE(last.equity, begin.cash, v.equity) AS last_equity,
       COALESCE(moved.cash, 0) - CASE WHEN last.equity IS NULL THEN COALESCE(begin.cash, 0) ELSE 0 END AS adjustments
FROM orders.accounts_v1 a JOIN valuation.account_values_v1 v ON v.account_id = a.id
LEFT JOIN days d ON d.market = COALESCE(
  (SELECT s.market FROM valuation.daily_summaries_v1 s WHERE s.account_id = a.id ORDER BY s.day DESC LIMIT 1), :market)
LEFT JOIN LATERAL (
  SELECT equity FROM (
    (SELECT s.equity, s.at, s.day >= COALESCE(d.day, s.day) AS at_close FROM valuation.daily_summaries_v1 s
     WHERE s.account_id = a.id AND s.day < d.today AND s.at >= COALESCE(a.generation_at, '-infinity')
     ORDER BY s.day DESC LIMIT 1)
    UNION ALL
    (SELECT s.equity, s.at, false FROM valuation.account_summaries_v1 s
     WHERE s.account_id = a.id AND s.at < d.midnight AND s.at >= COALESCE(a.generation_at, '-infinity')
     ORDER BY s.at DESC LIMIT 1)
  ) known ORDER BY at_close DESC, at DESC LIMIT 1
) last ON true
LEFT JOIN LATERAL (
  SELECT l.cash FROM orders.ledger_v2 l
  WHERE l.account_id = a.id AND l.generation = a.generation AND l.kind = 'deposit' AND l.cash > 0
  ORDER BY l.at, l.id LIMIT 1
) begin ON true
LEFT JOIN LATERAL (
  SELECT sum(l.cash) AS cash FROM orders.ledger_v2 l
  WHERE l.account_id = a.id AND l.generation = a.generation AND l.kind IN ('deposit', 'withdrawal')
    AND l.at >= d.midnight
) moved ON true
WHERE a.id = :account_id
""")
_POSITIONS = text(f"""
WITH {DAYS}
SELECT p.asset_id, p.symbol, p.asset_class, p.market, p.qty, p.last, p.currency, p.rate, p.avg_entry_price,
       p.cost_basis, p.qty * p.last * p.rate AS market_value, today.qty AS qty_today, today.cost AS cost_today,
       COALESCE(official.price, traded.close) AS last_close,
       ARRAY(SELECT CAST(c.new_shares AS numeric) / c.old_shares FROM marketdata.corporate_actions_v1 c
             WHERE c.symbol = p.symbol AND c.kind = 'split' AND c.applied_at IS NOT NULL
               AND c.effective_at > COALESCE(official.held_at, traded.start_at)
               AND c.split_count <= COALESCE((SELECT q.split_count FROM orders.split_counts_v1 q
                                              WHERE q.symbol = p.symbol), c.split_count)) AS splits,
       COALESCE((SELECT sum(o.held_for_orders) FROM orders.orders_v1 o
                 WHERE o.account_id = p.account_id AND o.symbol = p.symbol
                   AND o.status IN {OPEN}), 0) AS held_for_orders
FROM valuation.current_positions_v1 p
LEFT JOIN days d ON d.market = p.market
LEFT JOIN LATERAL (
  SELECT COALESCE(sum(l.qty), 0) AS qty, COALESCE(sum(l.cost), 0) AS cost FROM orders.lots_v1 l
  WHERE l.account_id = p.account_id AND l.symbol = p.symbol AND l.opened_at >= d.midnight
) today ON true
{joined("p")}
WHERE p.account_id = :account_id
  AND (CAST(:asset AS text) IS NULL OR p.symbol = upper(:asset) OR CAST(p.asset_id AS text) = lower(:asset))
ORDER BY p.symbol
""")
