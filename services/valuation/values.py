"""Current values of accounts: their cash and their positions at the last prices and rates.

The views ``current_positions_v1`` and ``account_values_v1`` compute them when they are read. No position row is shipped
and no value is stored.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from shared.contracts.valuation import AccountValue


def values_of(connection: Connection, accounts: Sequence[UUID]) -> list[AccountValue]:
    return _values(connection, _VALUES_OF, accounts=list(accounts))


def values_of_all(connection: Connection) -> list[AccountValue]:
    return _values(connection, _VALUES_OF_ALL)


def values_of_holders(connection: Connection, symbols: Sequence[str]) -> list[AccountValue]:
    """The values of the accounts that hold one of the symbols, or a position converted at the rate of one of them."""
    holders = _VALUES_OF_HOLDERS_AND_CONVERTED if any("/" in symbol for symbol in symbols) else _VALUES_OF_HOLDERS
    return _values(connection, holders, symbols=list(symbols))


def _values(connection: Connection, statement: TextClause, **parameters: Any) -> list[AccountValue]:
    return [AccountValue(**row._mapping) for row in connection.execute(statement, parameters)]  # noqa: SLF001


_HOLDERS = "SELECT account_id FROM orders.positions_v1 WHERE symbol = ANY(:symbols)"
_CONVERTED = """
SELECT p.account_id FROM marketdata.rates_v1 r
JOIN marketdata.instruments_v1 i ON i.currency = r.currency
JOIN orders.positions_v1 p ON p.symbol = i.symbol
JOIN orders.accounts_v1 a ON a.id = p.account_id AND a.currency = r.account_currency
WHERE r.symbol = ANY(:symbols)
"""
#: The columns of ``account_values_v1`` for many accounts at once. That view looks the positions of each account up,
#: which suits one account. This query joins and groups all of them. OFFSET keeps the planner from computing a value
#: once for each sum. A test holds the two against each other.
TOTALS = """
SELECT a.id AS account_id, a.cash, COALESCE(p.long_value, 0) AS long_value, COALESCE(p.short_value, 0) AS short_value,
       a.cash + COALESCE(p.market_value, 0) AS equity, COALESCE(p.market_value, 0) AS market_value,
       COALESCE(p.unrealized_pl, 0) AS unrealized_pl, COALESCE(p.positions, 0) AS positions
FROM orders.accounts_v1 a
LEFT JOIN (
  SELECT account_id, sum(value) AS market_value, sum(value) FILTER (WHERE is_long) AS long_value,
         sum(value) FILTER (WHERE NOT is_long) AS short_value, sum(value) - sum(cost) AS unrealized_pl,
         count(value) AS positions
  FROM (SELECT account_id, qty > 0 AS is_long, value, cost FROM valuation.current_positions_v1
        WHERE value IS NOT NULL OFFSET 0) each
  GROUP BY account_id
) p ON p.account_id = a.id
"""
_VALUES = "SELECT account_id, cash, market_value, equity, unrealized_pl FROM"
#: An array of ids is looked up by index, whatever plan is kept; the ids of a join might not be.
_VALUES_OF = text(
    f"{_VALUES} valuation.account_values_v1 WHERE account_id = ANY(CAST(:accounts AS uuid[])) ORDER BY account_id"
)
_VALUES_OF_HOLDERS = text(
    f"{_VALUES} valuation.account_values_v1 WHERE account_id = ANY(ARRAY({_HOLDERS})) ORDER BY account_id"
)
_VALUES_OF_HOLDERS_AND_CONVERTED = text(
    f"{_VALUES} valuation.account_values_v1 WHERE account_id = ANY(ARRAY({_HOLDERS} UNION {_CONVERTED}))"
    " ORDER BY account_id"
)
_VALUES_OF_ALL = text(f"{_VALUES} ({TOTALS}) all_accounts ORDER BY account_id")
