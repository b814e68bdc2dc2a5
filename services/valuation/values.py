"""Current values of accounts: their cash and their positions at the last prices and rates.

The views ``current_positions_v1`` and ``account_values_v1`` compute them when they are read. No position row is shipped
and no value is stored.

They are published at most ten times a second: a burst of prices becomes one event. Each price event adds its symbols to
``changed_symbols``. If the last publication is PAUSE ago, the same transaction publishes the values of all holders of
changed symbols. Otherwise the thread in ``live_values`` does it when the pause is over. Symbols are rows, so those of a
killed process are published by another one.
"""

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.prices import Price
from shared.contracts.valuation import AccountsValued, AccountValue
from shared.observability.progress import valued

#: An account's value is published at most this often because of prices.
PAUSE = timedelta(milliseconds=100)
#: The values of one event, which is some 2 MB then.
MOST_VALUES = 10_000
#: Set when symbols of this process wait for the end of the pause.
waiting = threading.Event()
#: So many accounts are grouped rather than looked up.
MANY = 100


def mark(uow: UnitOfWork, prices: Sequence[Price]) -> None:
    """Publish the values that these prices change, now or when the pause is over."""
    newest = {price.symbol: price.quoted_at for price in prices}
    symbols = sorted(newest)
    uow.connection.execute(_MARK, {"symbols": symbols, "times": [newest[symbol] for symbol in symbols]})
    if not publish_changed(uow):
        uow.after_commit.append(waiting.set)


def publish_changed(uow: UnitOfWork) -> bool:
    """Publish the values of the holders of all changed symbols. Return False if the pause is not over."""
    times = {"now": uow.now, "before": uow.now - PAUSE, "ahead": uow.now + PAUSE}
    if not uow.connection.execute(_BEGIN, times).rowcount:
        return False
    changed = uow.connection.execute(_TAKE).all()
    if changed:
        publish_values(uow, values_of_holders(uow.connection, sorted(each.symbol for each in changed)))
        uow.at_commit(valued(max(each.quoted_at for each in changed), uow.now))
    return True


def publish_values(uow: UnitOfWork, accounts: Sequence[AccountValue]) -> None:
    """Publish the accounts' values as one event, where there are any, or as some if it would be too large."""
    for start in range(0, len(accounts), MOST_VALUES):
        some = tuple(accounts[start : start + MOST_VALUES])
        uow.publish(AccountsValued(values=some, at=uow.now))


def values_of(connection: Connection, accounts: Sequence[UUID]) -> list[AccountValue]:
    statement = _VALUES_OF if len(accounts) < MANY else _VALUES_OF_MANY
    return _values(connection, statement, accounts=list(accounts))


def values_of_all(connection: Connection) -> list[AccountValue]:
    return _values(connection, _VALUES_OF_ALL)


def values_of_holders(connection: Connection, symbols: Sequence[str]) -> list[AccountValue]:
    """The values of the accounts that hold one of the symbols, or a position converted at the rate of one of them."""
    holders = _HOLDERS_AND_CONVERTED if any("/" in symbol for symbol in symbols) else _HOLDERS
    accounts = connection.execute(holders, {"symbols": list(symbols)}).scalars().all()
    return values_of(connection, accounts) if accounts else []


def _values(connection: Connection, statement: TextClause, **parameters: Any) -> list[AccountValue]:
    return [AccountValue(**row._mapping) for row in connection.execute(statement, parameters)]  # noqa: SLF001


_HELD = "SELECT DISTINCT account_id FROM orders.positions_v1 WHERE symbol = ANY(:symbols)"
_HOLDERS = text(_HELD)
_HOLDERS_AND_CONVERTED = text(f"""
{_HELD}
UNION
SELECT p.account_id FROM marketdata.rates_v1 r
JOIN marketdata.instruments_v1 i ON i.currency = r.currency
JOIN orders.positions_v1 p ON p.symbol = i.symbol
JOIN orders.accounts_v1 a ON a.id = p.account_id AND a.currency = r.account_currency
WHERE r.symbol = ANY(:symbols)
""")
#: The columns of ``account_values_v1`` for many accounts at once, and the number of stale positions. The view looks the
#: positions of each account up, which suits a few accounts. This query groups all positions by account and currency,
#: and only then looks at the account's currency, since most positions are in it. The others are converted one by one,
#: as a value is rounded after its conversion. A test holds the two against each other. A position without a price or a
#: rate has no value and is left out.
_GROUPED = """
WITH grouped AS MATERIALIZED (
  SELECT p.account_id, i.currency, sum(round(p.qty * i.last, 2)) AS value,
         sum(round(p.qty * i.last, 2)) FILTER (WHERE p.qty < 0) AS short_value,
         sum(p.cost) AS cost, count(*) AS positions, {stale_positions} AS stale_positions
  FROM orders.positions_v1 p JOIN {prices} i ON i.symbol = p.symbol
  WHERE i.last IS NOT NULL {and_positions}
  GROUP BY p.account_id, i.currency
), converted AS (
  SELECT g.account_id, s.value, s.short_value, s.cost, s.positions, g.stale_positions
  FROM grouped g JOIN orders.accounts_v1 a ON a.id = g.account_id AND a.currency <> g.currency
  LEFT JOIN marketdata.rates_v1 r ON r.currency = g.currency AND r.account_currency = a.currency
  CROSS JOIN LATERAL (
    SELECT sum(value) AS value, sum(value) FILTER (WHERE is_short) AS short_value, sum(cost) AS cost,
           count(*) AS positions
    FROM (SELECT p.qty < 0 AS is_short, round(p.qty * i.last * r.last, 2) AS value, p.cost
          FROM orders.positions_v1 p JOIN valuation.last_prices_v1 i ON i.symbol = p.symbol
          WHERE r.last IS NOT NULL AND p.account_id = g.account_id AND i.currency = g.currency
            AND i.last IS NOT NULL) each
  ) s
), held AS (
  SELECT account_id, sum(value) AS value, COALESCE(sum(short_value), 0) AS short_value, sum(cost) AS cost,
         CAST(sum(positions) AS bigint) AS positions, sum(stale_positions) AS stale_positions
  FROM (
    SELECT g.account_id, g.value, g.short_value, g.cost, g.positions, g.stale_positions
    FROM grouped g JOIN orders.accounts_v1 a ON a.id = g.account_id AND a.currency = g.currency
    UNION ALL SELECT * FROM converted
  ) both_kinds GROUP BY account_id
)
SELECT a.id AS account_id, a.cash, COALESCE(h.value - h.short_value, 0) AS long_value,
       COALESCE(h.short_value, 0) AS short_value, a.cash + COALESCE(h.value, 0) AS equity,
       COALESCE(h.value, 0) AS market_value, COALESCE(h.value - h.cost, 0) AS unrealized_pl,
       COALESCE(h.positions, 0) AS positions, COALESCE(h.stale_positions, 0) AS stale_positions
FROM orders.accounts_v1 a LEFT JOIN held h ON h.account_id = a.id {where_accounts}
"""
_LAST = {"prices": "valuation.last_prices_v1", "stale_positions": "CAST(NULL AS bigint)"}
TOTALS = _GROUPED.format(**_LAST, and_positions="", where_accounts="")
#: The same of all accounts, where ``prices`` of the statement says which symbols are stale. One pass over the positions
#: does both.
TOTALS_AND_STALE = _GROUPED.format(
    prices="prices",
    stale_positions="count(*) FILTER (WHERE i.stale)",
    and_positions="",
    where_accounts="",
)
_SOME = "{} = ANY(CAST(:accounts AS uuid[]))"
_VALUES = "SELECT account_id, cash, market_value, equity, unrealized_pl FROM"
#: An array of ids is looked up by index, whatever plan is kept; the ids of a join might not be.
_VALUES_OF = text(
    f"{_VALUES} valuation.account_values_v1 WHERE account_id = ANY(CAST(:accounts AS uuid[])) ORDER BY account_id"
)
_MANY = _GROUPED.format(
    **_LAST, and_positions=f"AND {_SOME.format('p.account_id')}", where_accounts=f"WHERE {_SOME.format('a.id')}"
)
_VALUES_OF_MANY = text(f"{_VALUES} ({_MANY}) many_accounts ORDER BY account_id")
_VALUES_OF_ALL = text(f"{_VALUES} ({TOTALS}) all_accounts ORDER BY account_id")
_MARK = text("""
INSERT INTO valuation.changed_symbols AS c (symbol, quoted_at)
SELECT * FROM unnest(CAST(:symbols AS text[]), CAST(:times AS timestamptz[]))
ON CONFLICT (symbol) DO UPDATE SET quoted_at = GREATEST(c.quoted_at, excluded.quoted_at)
""")
#: A time that lies ahead was written before the clock went back. Of several processes one begins.
_BEGIN = text("""
UPDATE valuation.publication SET published_at = :now
WHERE published_at <= :before OR published_at > :ahead
""")
#: A row that another transaction is marking is left to it, since it waits for the row of the publication.
_TAKE = text("""
DELETE FROM valuation.changed_symbols WHERE symbol = ANY(ARRAY(
  SELECT symbol FROM valuation.changed_symbols FOR UPDATE SKIP LOCKED))
RETURNING symbol, quoted_at
""")
