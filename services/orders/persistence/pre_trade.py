"""The facts about an account and the market that decide whether an order is accepted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from services.orders.persistence.accounts import locking_accounts, with_values
from services.orders.persistence.orders import OPEN
from services.orders.settings import current
from shared.bus.unit_of_work import UnitOfWork
from shared.exchange.acceptance.pre_trade import Exposure, Halt, Instrument, Resting
from shared.exchange.order import Account
from shared.storage.driver import Call, fetch
from shared.storage.tables import typed

#: No market is closed for so many days.
DAYS_AHEAD = 30
#: (order, client order id, symbol) of an order that comes in.
Asked = tuple[UUID, str, str]


@dataclass(frozen=True)
class PreTradeContext:
    """Facts about one order: ``known`` where it came in before. ``instrument`` is None where its symbol is not here.

    ``between_splits``: the symbol's price has a corporate action that the books do not have yet.
    """

    known: bool
    client_id_taken: bool
    instrument: Instrument | None
    exposure: Exposure
    between_splits: bool = False


class _ContextRow(NamedTuple):
    """The columns of the instrument are null where there is none, and ``tradable`` tells."""

    tradable: bool | None
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    currency: str
    halted_at: datetime | None
    halt_reason: str
    is_open: bool
    session_end: datetime | None
    extended_end: datetime | None
    known: bool
    client_id_taken: bool
    between_splits: bool
    held: Decimal
    held_for_orders: Decimal
    buying: Decimal
    selling: Decimal
    buying_money: Decimal
    best_buy: UUID | None
    best_buy_limit: Decimal
    best_sell: UUID | None
    best_sell_limit: Decimal
    overdue: bool
    tick_size: Decimal | None
    lot_size: Decimal
    fractionable: bool
    shortable: bool


def pre_trade_contexts(
    connection: Connection, account_id: UUID, asked: Sequence[Asked], now: datetime
) -> list[PreTradeContext]:
    """The context of each order, in their order, in one statement."""
    return _contexts(fetch(connection, *_finding_contexts(account_id, asked, now)))


def lock_with_contexts(
    uow: UnitOfWork, account_id: UUID, asked: Sequence[Asked]
) -> tuple[Account | None, list[PreTradeContext]]:
    """The account, and the contexts as they are once it is locked, in one round trip."""
    accounts, rows = uow.begin(locking_accounts([account_id]), _finding_contexts(account_id, asked, uow.now))
    return with_values(uow.connection, accounts).get(account_id), _contexts(rows)


def _finding_contexts(account_id: UUID, asked: Sequence[Asked], now: datetime) -> Call:
    columns = {
        "ids": [id_ for id_, _, _ in asked],
        "client_ids": [client_id for _, client_id, _ in asked],
        "symbols": [symbol for _, _, symbol in asked],
    }
    return _CONTEXTS, {"account_id": account_id, **columns, "now": now}


def _contexts(rows: Iterable[Any]) -> list[PreTradeContext]:
    contexts = []
    for row in typed(_ContextRow, rows):
        instrument = None
        if row.tradable is not None:
            halt = None if row.halted_at is None else Halt(row.halted_at, row.halt_reason)
            quote = (row.ask, row.bid, row.last)
            instrument = Instrument(
                row.tradable,
                *quote,
                row.currency,
                row.is_open,
                row.session_end,
                halt=halt,
                extended_end=row.extended_end,
                max_quote_age=current().rules.max_quote_age,
                tick_size=row.tick_size,
                lot_size=row.lot_size,
                fractionable=row.fractionable,
                shortable=row.shortable,
            )
        exposure = Exposure(
            row.held,
            row.held_for_orders,
            row.buying,
            row.selling,
            row.buying_money,
            None if row.best_buy is None else Resting(row.best_buy, row.best_buy_limit),
            None if row.best_sell is None else Resting(row.best_sell, row.best_sell_limit),
            overdue=row.overdue,
        )
        contexts.append(
            PreTradeContext(row.known, row.client_id_taken, instrument, exposure, between_splits=row.between_splits)
        )
    return contexts


@dataclass(frozen=True)
class Record:
    """An account's recent past: its orders of the last minute, its equity at the day's start and at its peak.

    The orders are counted by the strategy that they came from, None where a person sent them.
    """

    orders: Mapping[UUID | None, int] = field(default_factory=dict)
    day_start: Decimal | None = None
    peak: Decimal | None = None

    def and_one_of(self, strategy_id: UUID | None) -> "Record":
        return replace(self, orders={**self.orders, strategy_id: self.orders.get(strategy_id, 0) + 1})

    def within(self, exposure: Exposure, strategy_id: UUID | None) -> Exposure:
        """The exposure, with this past as an order of that strategy sees it."""
        return replace(
            exposure,
            recent=sum(self.orders.values()),
            recent_of_strategy=self.orders.get(strategy_id, 0),
            day_start=self.day_start,
            peak=self.peak,
        )


class _Equity(NamedTuple):
    day_start: Decimal | None
    peak: Decimal | None


class _Recent(NamedTuple):
    strategy_id: UUID | None
    orders: int


def record(connection: Connection, account: Account, now: datetime) -> Record:
    """The account's record, where its limits ask for it. Else an empty one."""
    if not any(limits.on_equity or limits.orders_per_minute for limits in account.settings.all_limits):
        return Record()
    (equity,) = typed(_Equity, connection.execute(_EQUITY, {"account_id": account.id, "now": now}))
    minute = {"account_id": account.id, "minute": now - timedelta(minutes=1)}
    recent = {each.strategy_id: each.orders for each in typed(_Recent, connection.execute(_LAST_MINUTE, minute))}
    return Record(recent, equity.day_start, equity.peak)


#: Subqueries with a value: as EXISTS or as a join, all orders and positions of the account might be read.
_CONTEXTS = f"""
SELECT i.tradable, i.bid, i.ask, i.last, i.currency, i.halted_at, i.halt_reason,
       m.always_open OR COALESCE(s.phase = 'regular' AND s.close_at > %(now)s, false) AS is_open,
       CASE WHEN m.always_open THEN midnight ELSE d.regular_end END AS session_end,
       CASE WHEN m.always_open THEN midnight ELSE x.extended_end END AS extended_end,
       (SELECT true FROM orders.orders o WHERE o.account_id = %(account_id)s AND o.id = asked.id) IS NOT NULL AS known,
       (SELECT true FROM orders.orders o
        WHERE o.account_id = %(account_id)s AND o.client_order_id = asked.client_id AND o.status <> 'rejected'
        LIMIT 1) IS NOT NULL AS client_id_taken,
       COALESCE(i.split_count > 0, false) AND
         COALESCE(i.split_count > (SELECT q.split_count FROM orders.quotes q WHERE q.symbol = i.symbol), false)
         AS between_splits,
       COALESCE((SELECT p.qty FROM orders.positions p
                 WHERE p.account_id = %(account_id)s AND p.symbol = asked.symbol), 0) AS held,
       w.held_for_orders, w.buying, w.selling, w.buying_money,
       w.best_buy, (SELECT o.limit_price FROM orders.orders o
                    WHERE o.account_id = %(account_id)s AND o.id = w.best_buy) AS best_buy_limit,
       w.best_sell, (SELECT o.limit_price FROM orders.orders o
                     WHERE o.account_id = %(account_id)s AND o.id = w.best_sell) AS best_sell_limit,
       (SELECT true FROM orders.margin_calls c
        WHERE c.account_id = %(account_id)s AND c.ended_at IS NULL AND c.due_at <= %(now)s) IS NOT NULL AS overdue,
       CASE i.tick_rule WHEN 'fixed' THEN i.tick_size END AS tick_size, i.lot_size, i.fractionable, i.shortable
FROM unnest(%(ids)b::uuid[], %(client_ids)b::text[], %(symbols)b::text[]) WITH ORDINALITY
  AS asked (id, client_id, symbol, place)
LEFT JOIN marketdata.instruments_v1 i ON i.symbol = asked.symbol
LEFT JOIN marketdata.markets_v1 m ON m.code = i.market
CROSS JOIN (
  SELECT (date_trunc('day', %(now)s AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC' AS midnight,
         CAST(%(now)s AS date) - 1 AS first_day, CAST(%(now)s AS date) + {DAYS_AHEAD} AS last_day
) days
LEFT JOIN LATERAL (
  SELECT phase, close_at FROM marketdata.sessions_v2
  WHERE market = i.market AND open_at <= %(now)s ORDER BY open_at DESC LIMIT 1
) s ON true
LEFT JOIN LATERAL (
  SELECT close_at AS regular_end FROM marketdata.trading_days_v1
  WHERE market = i.market AND day BETWEEN first_day AND last_day AND close_at > %(now)s ORDER BY day LIMIT 1
) d ON true
LEFT JOIN LATERAL (
  SELECT max(close_at) AS extended_end FROM marketdata.sessions_v2
  WHERE market = i.market AND day BETWEEN first_day AND last_day GROUP BY day
  HAVING max(close_at) > %(now)s ORDER BY day LIMIT 1
) x ON true
CROSS JOIN LATERAL (
  SELECT COALESCE(sum(o.held_for_orders), 0) AS held_for_orders,
         COALESCE(sum(o.opening) FILTER (WHERE o.side = 'buy'), 0) AS buying,
         COALESCE(sum(o.opening) FILTER (WHERE o.side = 'sell'), 0) AS selling,
         COALESCE(sum(o.reserved) FILTER (WHERE o.side = 'buy' AND o.qty IS NULL), 0) AS buying_money,
         (array_agg(o.id ORDER BY o.limit_price DESC, o.id) FILTER (
            WHERE o.side = 'buy' AND o.may_rest AND COALESCE(o.limit_price < COALESCE(i.ask, i.last), true)))[1]
           AS best_buy,
         (array_agg(o.id ORDER BY o.limit_price, o.id) FILTER (
            WHERE o.side = 'sell' AND o.may_rest AND o.limit_price > COALESCE(i.bid, i.last, 0)))[1] AS best_sell
  FROM (
    SELECT id, side, qty, limit_price, reserved, held_for_orders,
           leg IS NULL AND limit_price IS NOT NULL AND (type = 'limit' OR triggered) AS may_rest,
           CASE WHEN leg IS NULL THEN
             qty - filled_qty - CASE order_class WHEN 'simple' THEN held_for_orders ELSE 0 END
           END AS opening
    FROM orders.orders WHERE account_id = %(account_id)s AND symbol = asked.symbol AND status IN {OPEN}
  ) o
) w
ORDER BY asked.place
"""
_EQUITY = text("""
SELECT (SELECT s.equity FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at >= COALESCE(a.generation_at, a.created_at)
          AND s.at < date_trunc('day', CAST(:now AS timestamptz))
        ORDER BY s.at DESC LIMIT 1) AS day_start,
       (SELECT GREATEST(max(s.equity), max(s.peak_equity)) FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at >= COALESCE(a.generation_at, a.created_at)) AS peak
FROM orders.accounts a WHERE a.id = :account_id
""")
_LAST_MINUTE = text("""
SELECT strategy_id, count(*) AS orders FROM orders.orders
WHERE account_id = :account_id AND submitted_at > :minute AND status <> 'rejected' GROUP BY strategy_id
""")
