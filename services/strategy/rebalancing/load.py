"""The account, its positions and the instruments of a rebalance, from the views of other services."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from services.strategy.rebalancing.plan import AccountFacts, Listed
from shared.contracts.accounts import AccountSettings
from shared.exchange.margin import buying_power
from shared.money import ZERO
from shared.observability.progress import PRICE_SECONDS

#: A price is stale once its market was open for this long without a new one.
STALE_AFTER = timedelta(seconds=PRICE_SECONDS)


def account_facts(connection: Connection, account_id: UUID) -> AccountFacts | None:
    """The open account at current prices, or None."""
    row = connection.execute(_ACCOUNT, {"account": account_id}).one_or_none()
    if row is None:
        return None
    settings = AccountSettings.model_validate(row.settings)
    power = buying_power(
        equity=row.equity,
        long_value=row.long_value,
        short_value=row.short_value,
        reserved=row.reserved,
        multiplier=settings.multiplier,
    )
    free = max(min(row.cash - row.reserved, power), ZERO)
    return AccountFacts(row.id, row.currency, row.generation, row.equity, row.cash, free, settings, row.halt_reason)


def listed(connection: Connection, account_id: UUID, symbols: Sequence[str], now: datetime) -> dict[str, Listed]:
    """These instruments and those that the account holds, by symbol, in one statement. Unknown ones are left out."""
    given = {"account": account_id, "symbols": list(symbols), "now": now, "stale_after": STALE_AFTER}
    return {row.symbol: Listed(**row._mapping) for row in connection.execute(_LISTED, given)}  # noqa: SLF001


_ACCOUNT = text("""
SELECT a.id, a.currency, a.generation, a.cash, a.reserved, a.settings, a.halt_reason, v.equity, v.long_value,
       v.short_value
FROM orders.accounts_v1 a JOIN valuation.account_values_v1 v ON v.account_id = a.id
WHERE a.id = :account AND a.status = 'ACTIVE'
""")
_LISTED = text("""
SELECT i.symbol, COALESCE(p.qty, 0) AS qty, i.last, i.bid, i.ask,
       CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END AS rate,
       i.tradable AND i.status = 'active' AS tradable, i.halted_at IS NOT NULL AS halted, i.lot_size, i.fractionable,
       i.shortable, m.always_open OR open.at IS NOT NULL AS is_open,
       EXISTS (SELECT FROM orders.orders_v1 o WHERE o.account_id = a.id AND o.symbol = i.symbol
               AND o.status IN ('accepted', 'held', 'partially_filled')) AS ordered,
       COALESCE(i.split_count > (SELECT b.split_count FROM orders.split_counts_v1 b WHERE b.symbol = i.symbol), false)
         AS splitting,
       COALESCE(i.last IS NOT NULL AND EXISTS (
         SELECT FROM marketdata.sessions_v1 s
         WHERE s.market = i.market AND s.open_at < :now AND s.close_at > q.at
           AND LEAST(s.close_at, :now) > GREATEST(s.open_at, q.at) + CAST(:stale_after AS interval)), false) AS stale
FROM orders.accounts_v1 a
CROSS JOIN LATERAL (
  SELECT symbol FROM orders.positions_v1 WHERE account_id = a.id
  UNION SELECT unnest(CAST(:symbols AS text[]))
) wanted
JOIN marketdata.instruments_v1 i ON i.symbol = wanted.symbol
JOIN marketdata.markets_v1 m ON m.code = i.market
LEFT JOIN orders.positions_v1 p ON p.account_id = a.id AND p.symbol = i.symbol
LEFT JOIN marketdata.rates_v1 r
  ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
CROSS JOIN LATERAL (SELECT CASE WHEN i.delayed THEN i.received_at ELSE i.quoted_at END AS at) q
LEFT JOIN LATERAL (
  SELECT s.open_at AS at FROM marketdata.sessions_v1 s
  WHERE s.market = i.market AND s.open_at <= :now AND s.close_at > :now LIMIT 1
) open ON true
WHERE a.id = :account
""")
