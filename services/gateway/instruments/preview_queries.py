"""The holdings that a corporate action concerns, from the views of orders and marketdata."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from services.gateway.trading.order_queries import OPEN
from shared.exchange.corporate_actions import FilledSince
from shared.exchange.fx import SAME, Rate, rate_of
from shared.exchange.lots import Lot
from shared.exchange.market_rules import MarketRules
from shared.exchange.order import Account, Order
from shared.storage.tables import typed


@dataclass(frozen=True)
class Holdings:
    """The accounts that hold a symbol or have orders in it, with their lots, orders and rates by account.

    ``entitled`` are the shares that each held just before the action, also those that it has sold since. ``since`` are
    the fills of open orders after it. ``last`` is the symbol's price now.
    """

    accounts: dict[UUID, Account]
    lots: dict[UUID, tuple[Lot, ...]] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    rates: dict[UUID, Rate] = field(default_factory=dict)
    entitled: dict[UUID, Decimal] = field(default_factory=dict)
    since: FilledSince = field(default_factory=FilledSince)
    last: Decimal | None = None


def holdings(connection: Connection, symbol: str, effective_at: datetime) -> Holdings:
    """Read the holdings of a symbol that is an instrument."""
    wanted = {"symbol": symbol, "at": effective_at}
    lots: dict[UUID, tuple[Lot, ...]] = {}
    for row in connection.execute(_LOTS, wanted):
        lot = Lot(row.fill_id, row.opened_at, row.qty, row.cost, row.strategy_id)
        lots[row.account_id] = (*lots.get(row.account_id, ()), lot)
    orders = typed(Order, connection.execute(_ORDERS, wanted))
    entitled = {row.account_id: row.qty for row in connection.execute(_ENTITLED, wanted)}
    ids = sorted({*lots, *entitled, *(order.account_id for order in orders)}, key=lambda each: each.int)
    accounts = {
        row.id: Account(row.id, row.cash, row.reserved, row.sequence, currency=row.currency)
        for row in connection.execute(_ACCOUNTS, {"ids": ids})
    }
    instrument = connection.execute(_INSTRUMENT, wanted).one()
    rates = {}
    known = {row.account_currency: row for row in connection.execute(_RATES, {"currency": instrument.currency})}
    for account in accounts.values():
        quoted = known.get(account.currency)
        if account.currency == instrument.currency:
            rates[account.id] = SAME
        elif quoted is not None:
            rates[account.id] = rate_of(quoted.bid, quoted.ask, quoted.last, quoted.quoted_at, MarketRules())
    since = _filled_since(connection.execute(_FILLED, wanted))
    return Holdings(accounts, lots, orders, rates, entitled, since, instrument.last)


def _filled_since(rows: Iterable[Any]) -> FilledSince:
    since = FilledSince()
    for row in rows:
        since.by_order[row.account_id, row.order_id] = row.qty
        by_group = since.exited if row.is_exit else since.entered
        key = row.account_id, row.order_group
        by_group[key] = by_group.get(key, Decimal(0)) + row.qty
    return since


_LOTS = text("""
SELECT account_id, fill_id, opened_at, qty, cost, strategy_id FROM orders.lots_v1
WHERE symbol = :symbol ORDER BY account_id, opened_at, fill_id
""")
#: What no corporate action reads of an order has its default.
_ORDERS = text(f"""
SELECT account_id, id, symbol, side, type, qty, accepted_at, time_in_force, extended_hours, notional, limit_price,
       stop_price, trail_price, trail_percent, hwm, triggered, filled_qty, filled_avg_price, fees, reserved,
       held_for_orders, expires_at, strategy_id, status, order_class, leg, position_intent, do_not_reduce, liquidation,
       CASE WHEN order_class <> 'simple' THEN order_group END AS order_group, accepted_at AS active_at,
       CAST(NULL AS boolean) AS rests, CAST(0 AS numeric) AS carried, 0 AS fills, CAST(NULL AS date) AS auction_day,
       CAST(NULL AS timestamptz) AS auction_at, CAST(NULL AS text) AS trace, 'USD' AS currency,
       CAST(1 AS numeric) AS filled_avg_rate
FROM orders.orders_v1 WHERE symbol = :symbol AND status IN {OPEN} ORDER BY accepted_at, id
""")
_ENTITLED = text("""
SELECT account_id, sum(qty) AS qty FROM (
  SELECT account_id, qty FROM orders.lots_v1 WHERE symbol = :symbol AND opened_at < :at
  UNION ALL
  SELECT t.account_id, CASE t.side WHEN 'long' THEN t.qty ELSE -t.qty END
  FROM orders.round_trips_v1 t JOIN orders.accounts_v1 a ON a.id = t.account_id AND a.generation = t.generation
  WHERE t.symbol = :symbol AND t.opened_at < :at AND t.closed_at >= :at
) held
GROUP BY account_id HAVING sum(qty) <> 0
""")
_ACCOUNTS = text("""
SELECT id, cash, reserved, sequence, currency FROM orders.accounts_v1 WHERE id = ANY(:ids) ORDER BY number
""")
_INSTRUMENT = text("SELECT currency, last FROM marketdata.instruments_v1 WHERE symbol = :symbol")
_RATES = text("""
SELECT account_currency, bid, ask, last, quoted_at FROM marketdata.rates_v1 WHERE currency = :currency
""")
#: Fills of the open orders, and of others of their groups.
_FILLED = text(f"""
SELECT o.account_id, o.id AS order_id, o.order_group, o.leg IS NOT NULL AS is_exit, sum(f.qty) AS qty
FROM orders.orders_v1 o
JOIN orders.fills_v1 f ON f.account_id = o.account_id AND f.order_id = o.id AND f.filled_at >= :at
WHERE o.symbol = :symbol AND EXISTS (
  SELECT FROM orders.orders_v1 w
  WHERE w.account_id = o.account_id AND w.order_group = o.order_group AND w.symbol = :symbol AND w.status IN {OPEN})
GROUP BY 1, 2, 3, 4
""")
