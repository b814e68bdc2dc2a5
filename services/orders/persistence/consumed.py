"""The liquidity of price updates that our orders consumed."""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import Connection

from shared.contracts.prices import Price
from shared.exchange.matching.liquidity import Liquidity, Pool
from shared.storage.driver import Call, fetch
from shared.storage.tables import Table, typed


class _ConsumedRow(NamedTuple):
    symbol: str
    pool: str
    qty: Decimal


_CONSUMED = Table("orders.consumed", _ConsumedRow, key=("symbol", "pool"))
_saving_consumed = _CONSUMED.update(_ConsumedRow, "qty")


def lock_consumed(connection: Connection, prices: Mapping[str, Price]) -> dict[Pool, Decimal]:
    """The liquidity of each of these price updates that our orders consumed. Others wait for the symbols meanwhile."""
    ordered = [prices[symbol] for symbol in sorted(prices)]
    columns = {
        "symbols": [price.symbol for price in ordered],
        "sequences": [price.sequence for price in ordered],
        "times": [price.quoted_at for price in ordered],
    }
    return {(row.symbol, row.pool): row.qty for row in typed(_ConsumedRow, fetch(connection, _LOCK_CONSUMED, columns))}


def saving_consumed(liquidity: Liquidity) -> Call:
    """The statement that writes what an execution consumed. Its rows are locked, and of the update at hand."""
    return _saving_consumed([_ConsumedRow(*pool, liquidity.consumed[pool]) for pool in sorted(liquidity.touched)])


_LOCK_CONSUMED = """
INSERT INTO orders.consumed AS t (symbol, pool, sequence, quoted_at, qty)
SELECT symbol, pool, sequence, quoted_at, 0
FROM unnest(%(symbols)b::text[], %(sequences)b::bigint[], %(times)b::timestamptz[])
  AS wanted (symbol, sequence, quoted_at)
CROSS JOIN unnest(ARRAY['ask', 'bid', 'bar', 'volume']) AS pool
ORDER BY symbol, pool
ON CONFLICT (symbol, pool) DO UPDATE SET sequence = excluded.sequence, quoted_at = excluded.quoted_at,
  qty = CASE WHEN (t.sequence, t.quoted_at) = (excluded.sequence, excluded.quoted_at) THEN t.qty ELSE 0 END
RETURNING symbol, pool, qty
"""
