"""The rows of orders: finding, locking and adding them. ``saving`` writes what a settlement changed.

Locks are taken in one order everywhere: accounts by id, then their orders by id, then what was taken of the market.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, Row, text

from services.orders.domain.liquidity import Pool
from services.orders.domain.lots import Lot
from services.orders.domain.order import Account, Leg, Order
from services.orders.domain.risk import Listing, Standing
from services.orders.domain.settlement import Holding
from shared.contracts.accounts import AccountSettings, OpenAccount
from shared.contracts.orders import OrderClass, OrderStatus, OrderType, Side, TimeInForce
from shared.contracts.prices import Price
from shared.storage.columns import numbers

#: For so long the event about a price may be on its way; after it, it is missed.
ON_ITS_WAY = timedelta(seconds=10)
#: (account, family) of orders that end together; a simple order is a family of its own.
Family = tuple[UUID, UUID]


def open_account(connection: Connection, command: OpenAccount, now: datetime) -> bool:
    """Create the account and pay in its cash; False when it is there already."""
    number = f"PA{uuid5(NAMESPACE_OID, str(command.account_id)).int % 10**10:010d}"
    values = {
        "id": command.account_id,
        "number": number,
        "name": command.name,
        "currency": command.currency,
        "cash": command.cash,
        "settings": command.settings.model_dump_json(),
        "now": now,
    }
    return connection.execute(_OPEN_ACCOUNT, values).rowcount == 1


def configure_account(connection: Connection, account_id: UUID, settings: AccountSettings) -> None:
    connection.execute(_CONFIGURE, {"id": account_id, "settings": settings.model_dump_json()})


def lock_account(connection: Connection, account_id: UUID) -> Account | None:
    return lock_accounts(connection, [account_id]).get(account_id)


def lock_accounts(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Account]:
    """The accounts; they are valued at current prices where that decides about what one may do."""
    rows = _rows(connection, _LOCK_ACCOUNTS, ids=list(ids))
    found = {row.id: _account(row) for row in rows}
    if not any(account.is_marked for account in found.values()):
        return found
    marks = {row.account_id: row for row in connection.execute(_MARKS, {"ids": list(found)})}
    return {id_: _marked(account, marks.get(id_)) for id_, account in found.items()}


def _account(row: Any) -> Account:
    settings = _settings(row.settings)
    return Account(
        row.id,
        row.cash,
        row.reserved,
        row.sequence,
        settings=settings,
        epoch=row.epoch,
        currency=row.currency,
        short=row.short,
    )


@lru_cache(maxsize=1024)
def _settings(stored: str) -> AccountSettings:
    return AccountSettings.model_validate_json(stored)


def _marked(account: Account, marks: Row[Any] | None) -> Account:
    if marks is None:
        return account
    return replace(account, long_value=marks.long_value, short_value=marks.short_value)


@dataclass(frozen=True)
class Context:
    """What is known when an order comes in. ``listing`` is None where its symbol is no instrument here."""

    known: bool
    client_id_taken: bool
    listing: Listing | None
    standing: Standing


def contexts(
    connection: Connection, account_id: UUID, asked: Sequence[tuple[UUID, str, str]], now: datetime
) -> list[Context]:
    """Of each (order, client order id, symbol), in their order, in one statement."""
    rows = connection.execute(
        _CONTEXTS,
        {
            "account_id": account_id,
            "ids": [id_ for id_, _, _ in asked],
            "client_ids": [client_id for _, client_id, _ in asked],
            "symbols": [symbol for _, _, symbol in asked],
            "now": now,
        },
    )
    return [_context(row) for row in rows]


def _context(row: Row[Any]) -> Context:
    listing = None
    if row.tradable is not None:
        listing = Listing(row.tradable, row.ask, row.bid, row.last, row.currency, row.is_open, row.session_end)
    return Context(row.known, row.taken, listing, Standing(row.held, row.promised, row.buying, row.selling))


@dataclass(frozen=True)
class Record:
    """What an account did lately: orders accepted in the last minute, its equity at the day's start and at its peak."""

    recent: int
    day_start: Decimal | None
    peak: Decimal | None


def record(connection: Connection, account_id: UUID, now: datetime) -> Record:
    row = connection.execute(
        _RECORD, {"account_id": account_id, "now": now, "minute": now - timedelta(minutes=1)}
    ).one()
    return Record(row.recent, row.day_start, row.peak)


def family_of(connection: Connection, account_id: UUID, order_id: UUID) -> UUID | None:
    """The family of the order, which is open or ended; None where there is no such order."""
    return connection.execute(_FAMILY, {"account_id": account_id, "id": order_id}).scalar_one_or_none()


def order(connection: Connection, account_id: UUID, order_id: UUID) -> Order:
    return _order(connection.execute(_ORDER, {"account_id": account_id, "id": order_id}).one())


def open_families(connection: Connection, account_id: UUID) -> list[Family]:
    """The families of all open orders of the account."""
    rows = connection.execute(_OPEN_FAMILIES, {"account_id": account_id})
    return [(account_id, row.family) for row in rows]


def adjust_quote(connection: Connection, symbol: str, adjustment: int, effective_at: datetime) -> None:
    """Prices after the split may be applied from now on, and bars before it no more; others wait meanwhile."""
    connection.execute(_ADJUST_QUOTE, {"symbol": symbol, "adjustment": adjustment, "effective_at": effective_at})


def accounts_in(connection: Connection, symbol: str) -> list[UUID]:
    """The accounts with a position or an open order in the symbol."""
    return [row.account_id for row in connection.execute(_ACCOUNTS_IN, {"symbol": symbol})]


def open_families_in(connection: Connection, symbol: str) -> list[Family]:
    return [(row.account_id, row.family) for row in connection.execute(_FAMILIES_IN, {"symbol": symbol})]


@dataclass(frozen=True)
class Call:
    """A margin call that has not ended."""

    account_id: UUID
    id: UUID
    due_at: datetime
    liquidated_at: datetime | None


def margin_accounts(connection: Connection) -> list[UUID]:
    """The accounts that may hold more than they have paid for and hold or owe anything, or are called."""
    return [row.id for row in connection.execute(_MARGIN_ACCOUNTS)]


def open_calls(connection: Connection, accounts: Sequence[UUID]) -> dict[UUID, Call]:
    rows = connection.execute(_OPEN_CALLS, {"accounts": list(accounts)})
    return {row.account_id: Call(row.account_id, row.id, row.due_at, row.liquidated_at) for row in rows}


def add_call(
    connection: Connection, account_id: UUID, equity: Decimal, required: Decimal, now: datetime, due_at: datetime
) -> None:
    values = {"account_id": account_id, "equity": equity, "required": required, "now": now, "due_at": due_at}
    connection.execute(_ADD_CALL, values)


def note_liquidation(connection: Connection, call: Call, now: datetime) -> None:
    connection.execute(_NOTE_LIQUIDATION, {"account_id": call.account_id, "id": call.id, "now": now})


def end_call(connection: Connection, call: Call, how: str, now: datetime) -> None:
    connection.execute(_END_CALL, {"account_id": call.account_id, "id": call.id, "how": how, "now": now})


def positions_of(connection: Connection, account_id: UUID) -> list[tuple[str, Decimal]]:
    """(symbol, shares held, negative where short) of all that the account holds."""
    return [(row.symbol, row.qty) for row in connection.execute(_POSITIONS_OF, {"account_id": account_id})]


def references(connection: Connection, kind: str, wanted: Sequence[UUID]) -> set[UUID]:
    """Which of these the ledger has an entry of that kind about."""
    rows = connection.execute(_REFERENCES, {"kind": str(kind), "wanted": list(wanted)})
    return {row.reference for row in rows}


def is_booked(connection: Connection, account_id: UUID, reference: UUID) -> bool:
    """Whether the transfer or reset has an entry in the ledger."""
    return connection.execute(_BOOKED, {"account_id": account_id, "reference": reference}).first() is not None


def apply_in_order(connection: Connection, prices: Collection[Price]) -> set[str]:
    """The symbols whose price may be applied: nothing later of them was, and no split before it is missing.

    Others wait for the same symbols meanwhile.
    """
    ordered = sorted(prices, key=lambda price: price.symbol)
    rows = _rows(
        connection,
        _APPLY,
        symbols=[price.symbol for price in ordered],
        sequences=[price.sequence for price in ordered],
        times=[price.quoted_at for price in ordered],
        adjustments=[price.adjustment for price in ordered],
    )
    return {row.symbol for row in rows}


def concerned(connection: Connection, prices: dict[str, Any]) -> list[Family]:
    """The families of the open orders that the prices may fill, by index: resting ones cost nothing.

    ``prices`` is as ``columns`` makes it.
    """
    return [(row.account_id, row.family) for row in _rows(connection, _CONCERNED, **prices)]


def follow_best(connection: Connection, prices: dict[str, Any]) -> None:
    """Trailing stops that no price concerned follow the best one so far."""
    _driver(connection).execute(_FOLLOW, prices)


def columns(prices: Collection[Price]) -> dict[str, Any]:
    """The prices as parameters of a statement."""
    return {
        "symbols": [price.symbol for price in prices],
        "bids": numbers(price.bid for price in prices),
        "asks": numbers(price.ask for price in prices),
        "lasts": numbers(price.last for price in prices),
        "highs": numbers(price.high for price in prices),
        "lows": numbers(price.low for price in prices),
        "times": [price.quoted_at for price in prices],
        "sinces": [price.since for price in prices],
    }


def lock_open_orders(connection: Connection, families: Iterable[Family]) -> list[Order]:
    """The orders of these families that still are open, locked."""
    pairs = sorted(set(families))
    rows = _rows(connection, _LOCK_OPEN, accounts=[a for a, _ in pairs], families=[f for _, f in pairs])
    return [_order(row) for row in rows]


def lots_of(connection: Connection, orders: Iterable[Order]) -> dict[Holding, tuple[Lot, ...]]:
    """The open lots of each order's holding, oldest first."""
    holdings = sorted({(order.account_id, order.symbol) for order in orders})
    return _by_holding(_rows(connection, _LOTS, accounts=[a for a, _ in holdings], symbols=[s for _, s in holdings]))


def lots_in(connection: Connection, symbol: str, before: datetime) -> dict[Holding, tuple[Lot, ...]]:
    """The open lots of all holdings of the symbol of which one is from before that time."""
    found = _by_holding(connection.execute(_LOTS_IN, {"symbol": symbol}).all())
    return {holding: lots for holding, lots in found.items() if any(lot.opened_at < before for lot in lots)}


def _by_holding(rows: Iterable[Any]) -> dict[Holding, tuple[Lot, ...]]:
    found: dict[Holding, list[Lot]] = {}
    for row in rows:
        lot = Lot(row.fill_id, row.opened_at, row.qty, row.cost, row.strategy_id)
        found.setdefault((row.account_id, row.symbol), []).append(lot)
    return {holding: tuple(lots) for holding, lots in found.items()}


def lock_taken(connection: Connection, prices: Mapping[str, Price]) -> dict[Pool, Decimal]:
    """What our orders took of each of these price updates so far; others wait for the same symbols meanwhile."""
    symbols = sorted(prices)
    rows = connection.execute(_TAKEN, {"symbols": symbols, "sequences": [prices[s].sequence for s in symbols]})
    return {(row.symbol, row.pool): row.qty for row in rows if row.sequence == prices[row.symbol].sequence}


def expired(connection: Connection, now: datetime) -> list[Family]:
    return [(row.account_id, row.family) for row in connection.execute(_EXPIRED, {"now": now})]


def prices_with_open_orders(connection: Connection) -> list[Price]:
    """The current price of each symbol that has an open order, from marketdata's view."""
    return [
        Price.model_validate(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        for row in connection.execute(_CURRENT_PRICES)
    ]


def missed_bars(connection: Connection) -> list[Price]:
    """The stored bars between the last price that was applied and the current one, where updates lie between them.

    Only of symbols with open orders, as prices without a quote; the finest interval that there is of each.
    """
    return [
        Price.model_validate(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        for row in connection.execute(_MISSED, {"on_its_way": ON_ITS_WAY})
    ]


def _driver(connection: Connection) -> Any:
    """The connection of psycopg itself: on hot paths SQLAlchemy would take most of the time."""
    return connection.connection.driver_connection


def _rows(connection: Connection, statement: str, **values: Any) -> list[Any]:
    with _driver(connection).cursor(row_factory=namedtuple_row) as cursor:
        found: list[Any] = cursor.execute(statement, values, binary=True).fetchall()
    return found


def _order(row: Any) -> Order:
    return Order(
        account_id=row.account_id,
        id=row.id,
        symbol=row.symbol,
        side=Side(row.side),
        type=OrderType(row.type),
        qty=row.qty,
        accepted_at=row.accepted_at,
        active_at=row.active_at,
        time_in_force=TimeInForce(row.time_in_force),
        extended_hours=row.extended_hours,
        notional=row.notional,
        limit_price=row.limit_price,
        stop_price=row.stop_price,
        trail_price=row.trail_price,
        trail_percent=row.trail_percent,
        hwm=row.hwm,
        triggered=row.triggered,
        carried=row.carried,
        filled_qty=row.filled_qty,
        filled_avg_price=row.filled_avg_price,
        fills=row.fills,
        fees=row.fees,
        reserved=row.reserved,
        promised=row.promised,
        expires_at=row.expires_at,
        strategy_id=row.strategy_id,
        status=OrderStatus(row.status),
        order_class=OrderClass(row.order_class),
        family=None if row.order_class == OrderClass.SIMPLE else row.family,
        leg=None if row.leg is None else Leg(row.leg),
        trace=row.trace,
    )


_WORKING = "('accepted', 'partially_filled')"
_OPEN = "('accepted', 'held', 'partially_filled')"
_ORDER_COLUMNS = """
o.account_id, o.id, o.symbol, o.side, o.type, o.qty, o.accepted_at, o.active_at, o.time_in_force, o.extended_hours,
o.notional, o.limit_price, o.stop_price, o.trail_price, o.trail_percent, o.hwm, o.triggered, o.carried, o.filled_qty,
o.filled_avg_price, o.fills, o.fees, o.reserved, o.promised, o.expires_at, o.strategy_id, o.status, o.order_class,
o.family, o.leg, o.trace
"""
_OPEN_ACCOUNT = text("""
WITH opened AS (
  INSERT INTO orders.accounts (id, number, name, currency, cash, settings, created_at)
  VALUES (:id, :number, :name, :currency, :cash, CAST(:settings AS jsonb), :now) ON CONFLICT (id) DO NOTHING
  RETURNING id, cash, created_at
)
INSERT INTO orders.ledger (account_id, at, kind, reference, cash, capital)
SELECT id, created_at, 'deposit', id, cash, cash FROM opened
""")
_CONFIGURE = text("UPDATE orders.accounts SET settings = CAST(:settings AS jsonb) WHERE id = :id")
_LOCK_ACCOUNTS = """
SELECT id, cash, reserved, sequence, CAST(settings AS text) AS settings, epoch, currency,
       EXISTS (SELECT FROM orders.positions p WHERE p.account_id = a.id AND p.qty < 0) AS short
FROM orders.accounts a WHERE id = ANY(%(ids)b::uuid[]) ORDER BY id FOR UPDATE
"""
_MARKS = text("""
SELECT p.account_id, COALESCE(sum(round(p.qty * i.last, 2)) FILTER (WHERE p.qty > 0), 0) AS long_value,
       COALESCE(sum(round(p.qty * i.last, 2)) FILTER (WHERE p.qty < 0), 0) AS short_value
FROM orders.positions p JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
WHERE p.account_id = ANY(:ids) AND p.qty <> 0 GROUP BY p.account_id
""")
_CONTEXTS = text(f"""
SELECT i.tradable, i.bid, i.ask, i.last, i.currency, COALESCE(s.open_at <= :now, false) AS is_open,
       CASE WHEN s.close_at = 'infinity'
            THEN (date_trunc('day', CAST(:now AS timestamptz) AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC'
            ELSE s.close_at END AS session_end,
       EXISTS (SELECT FROM orders.orders o WHERE o.account_id = :account_id AND o.id = asked.id) AS known,
       EXISTS (SELECT FROM orders.orders o WHERE o.account_id = :account_id
               AND o.client_order_id = asked.client_id AND o.status <> 'rejected') AS taken,
       COALESCE(p.qty, 0) AS held,
       w.promised, w.buying, w.selling
FROM unnest(CAST(:ids AS uuid[]), CAST(:client_ids AS text[]), CAST(:symbols AS text[])) WITH ORDINALITY
  AS asked (id, client_id, symbol, place)
LEFT JOIN marketdata.instruments_v1 i ON i.symbol = asked.symbol
LEFT JOIN LATERAL (
  SELECT open_at, close_at FROM marketdata.sessions_v1 s
  WHERE s.market = i.market AND s.close_at > :now ORDER BY close_at LIMIT 1
) s ON true
LEFT JOIN orders.positions p ON p.account_id = :account_id AND p.symbol = asked.symbol
CROSS JOIN LATERAL (
  SELECT COALESCE(sum(o.promised), 0) AS promised,
         COALESCE(sum(o.opening) FILTER (WHERE o.side = 'buy'), 0) AS buying,
         COALESCE(sum(o.opening) FILTER (WHERE o.side = 'sell'), 0) AS selling
  FROM (
    SELECT side, promised,
           CASE WHEN leg IS NULL THEN qty - filled_qty - CASE order_class WHEN 'simple' THEN promised ELSE 0 END END
             AS opening
    FROM orders.orders WHERE account_id = :account_id AND symbol = asked.symbol AND status IN {_OPEN}
  ) o
) w
ORDER BY asked.place
""")
_RECORD = text("""
SELECT (SELECT count(*) FROM orders.orders o
        WHERE o.account_id = :account_id AND o.submitted_at > :minute AND o.status <> 'rejected') AS recent,
       (SELECT s.equity FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at >= COALESCE(a.epoch_at, a.created_at)
          AND s.at < date_trunc('day', CAST(:now AS timestamptz))
        ORDER BY s.at DESC LIMIT 1) AS day_start,
       (SELECT max(s.equity) FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at >= COALESCE(a.epoch_at, a.created_at)) AS peak
FROM orders.accounts a WHERE a.id = :account_id
""")
_FAMILY = text("SELECT family FROM orders.orders WHERE account_id = :account_id AND id = :id")
_ORDER = text(f"SELECT {_ORDER_COLUMNS} FROM orders.orders o WHERE o.account_id = :account_id AND o.id = :id")
_OPEN_FAMILIES = text(f"""
SELECT DISTINCT family FROM orders.orders WHERE account_id = :account_id AND status IN {_OPEN}
""")
_APPLY = """
INSERT INTO orders.quotes AS q (symbol, sequence, quoted_at, adjustment)
SELECT * FROM unnest(%(symbols)b::text[], %(sequences)b::bigint[], %(times)b::timestamptz[], %(adjustments)b::int[])
ON CONFLICT (symbol) DO UPDATE SET sequence = excluded.sequence, quoted_at = excluded.quoted_at
WHERE q.sequence <= excluded.sequence AND q.adjustment >= excluded.adjustment
RETURNING symbol
"""
#: A replayed bar ends when it is stored, one of a minute at its end; what began before the last price is not whole.
_MISSED = text(f"""
WITH behind AS (
  SELECT i.symbol, i.quoted_at, q.sequence, q.quoted_at AS applied_at
  FROM marketdata.instruments_v1 i JOIN orders.quotes q ON q.symbol = i.symbol AND i.sequence > q.sequence + 1
    AND i.quoted_at > q.quoted_at + :on_its_way AND i.adjustment = q.adjustment
  WHERE EXISTS (SELECT FROM orders.orders o WHERE o.symbol = i.symbol AND o.status IN {_WORKING})
), bars AS (
  SELECT b.*, n.sequence, n.quoted_at AS until,
         CASE b.interval WHEN 'replay' THEN b.start_at ELSE b.start_at + interval '1 minute' END AS ends_at,
         CASE b.interval WHEN 'replay'
              THEN lag(b.start_at, 1, n.applied_at) OVER (PARTITION BY b.symbol, b.interval ORDER BY b.start_at)
              ELSE b.start_at END AS since,
         bool_or(b.interval = 'replay') OVER (PARTITION BY b.symbol) AS replayed
  FROM behind n JOIN marketdata.bars_v1 b
    ON b.symbol = n.symbol AND b.interval IN ('replay', '1m')
    AND b.start_at >= n.applied_at AND b.start_at < n.quoted_at
    AND (b.interval = '1m' OR b.start_at > n.applied_at)
)
SELECT symbol, open, high, low, close AS last, close, volume, provider, sequence, ends_at AS quoted_at, since
FROM bars WHERE (interval = 'replay') = replayed AND ends_at < until
""")
_ADJUST_QUOTE = text("""
INSERT INTO orders.quotes AS q (symbol, sequence, quoted_at, adjustment)
VALUES (:symbol, 0, :effective_at, :adjustment)
ON CONFLICT (symbol) DO UPDATE SET adjustment = GREATEST(q.adjustment, excluded.adjustment),
  quoted_at = GREATEST(q.quoted_at, excluded.quoted_at)
""")
_ACCOUNTS_IN = text(f"""
SELECT account_id FROM orders.lots WHERE symbol = :symbol AND qty <> 0
UNION SELECT account_id FROM orders.orders WHERE symbol = :symbol AND status IN {_OPEN}
""")
_FAMILIES_IN = text(
    f"SELECT DISTINCT account_id, family FROM orders.orders WHERE symbol = :symbol AND status IN {_OPEN}"
)
_LOTS_IN = text("""
SELECT account_id, symbol, fill_id, opened_at, qty, cost, strategy_id FROM orders.lots
WHERE symbol = :symbol AND qty <> 0 ORDER BY account_id, opened_at, fill_id
""")
_MARGIN_ACCOUNTS = text("""
SELECT a.id FROM orders.accounts a
WHERE ((a.settings ->> 'multiplier')::int > 1 OR (a.settings ->> 'shorting')::boolean)
      AND (a.cash < 0 OR EXISTS (SELECT FROM orders.positions p WHERE p.account_id = a.id AND p.qty <> 0))
   OR EXISTS (SELECT FROM orders.margin_calls c WHERE c.account_id = a.id AND c.ended_at IS NULL)
""")
_OPEN_CALLS = text("""
SELECT account_id, id, due_at, liquidated_at FROM orders.margin_calls
WHERE account_id = ANY(:accounts) AND ended_at IS NULL
""")
_ADD_CALL = text("""
INSERT INTO orders.margin_calls (account_id, equity, required, called_at, due_at)
VALUES (:account_id, :equity, :required, :now, :due_at)
""")
_NOTE_LIQUIDATION = text("""
UPDATE orders.margin_calls SET liquidated_at = :now WHERE account_id = :account_id AND id = :id
""")
_END_CALL = text("""
UPDATE orders.margin_calls SET ended_at = :now,
  how = CASE WHEN liquidated_at IS NULL THEN :how ELSE 'liquidated' END
WHERE account_id = :account_id AND id = :id
""")
_POSITIONS_OF = text(
    "SELECT symbol, qty FROM orders.positions WHERE account_id = :account_id AND qty <> 0 ORDER BY symbol"
)
_REFERENCES = text("""
SELECT reference FROM orders.ledger WHERE kind = :kind AND reference = ANY(:wanted)
""")
_BOOKED = text("""
SELECT 1 FROM orders.ledger
WHERE account_id = :account_id AND kind IN ('deposit', 'withdrawal') AND reference = :reference
""")
_PRICES = """
unnest(%(symbols)b::text[], %(bids)s::numeric[], %(asks)s::numeric[], %(lasts)s::numeric[],
       %(highs)s::numeric[], %(lows)s::numeric[], %(times)b::timestamptz[],
       %(sinces)b::timestamptz[]) AS p (symbol, bid, ask, last, high, low, quoted_at, since)
"""
#: The index is searched with the extreme price of the update; what is left then is compared with the one that counts.
_IN_BAR = "(o.on_bar AND o.active_at <= p.since)"
_RESTS = "(o.type = 'limit' OR o.type = 'stop_limit' AND o.triggered)"
_CONCERNED = f"""
SELECT o.account_id, o.family FROM {_PRICES}
CROSS JOIN LATERAL (
  SELECT account_id, family FROM orders.orders o
  WHERE o.symbol = p.symbol AND o.direction = 'below' AND o.status IN {_WORKING} AND o.active_at < p.quoted_at
    AND o.threshold >= LEAST(p.low, p.last, p.ask)
    AND ({_IN_BAR} OR o.threshold >= CASE WHEN {_RESTS} THEN COALESCE(p.ask, p.last) ELSE p.last END)
  UNION ALL
  SELECT account_id, family FROM orders.orders o
  WHERE o.symbol = p.symbol AND o.direction = 'above' AND o.status IN {_WORKING} AND o.active_at < p.quoted_at
    AND o.threshold <= GREATEST(p.high, p.last, p.bid)
    AND ({_IN_BAR} OR o.threshold <= CASE WHEN {_RESTS} THEN COALESCE(p.bid, p.last) ELSE p.last END)
  UNION ALL
  SELECT account_id, family FROM orders.orders o
  WHERE o.symbol = p.symbol AND o.type = 'trailing_stop' AND NOT o.triggered AND o.status IN {_WORKING}
    AND {_IN_BAR} AND o.active_at < p.quoted_at
    AND CASE o.side WHEN 'sell' THEN p.last <= GREATEST(o.hwm, p.high)
                         - COALESCE(o.trail_price, GREATEST(o.hwm, p.high) * o.trail_percent / 100)
                    ELSE p.last >= LEAST(o.hwm, p.low)
                         + COALESCE(o.trail_price, LEAST(o.hwm, p.low) * o.trail_percent / 100) END
) o
"""
_FOLLOW = f"""
WITH followed AS (
  SELECT o.account_id, o.id,
         CASE o.side WHEN 'sell' THEN GREATEST(o.hwm, CASE WHEN {_IN_BAR} THEN p.high ELSE p.last END)
                     ELSE LEAST(o.hwm, CASE WHEN {_IN_BAR} THEN p.low ELSE p.last END) END AS hwm
  FROM {_PRICES} JOIN orders.orders o ON o.symbol = p.symbol
  WHERE o.type = 'trailing_stop' AND NOT o.triggered AND o.status IN {_WORKING} AND o.active_at < p.quoted_at
    AND o.hwm IS NOT NULL
  ORDER BY o.account_id, o.id FOR UPDATE OF o
)
UPDATE orders.orders o SET hwm = followed.hwm, threshold = followed.hwm
  + CASE o.side WHEN 'sell' THEN -1 ELSE 1 END * COALESCE(o.trail_price, followed.hwm * o.trail_percent / 100)
FROM followed
WHERE o.account_id = followed.account_id AND o.id = followed.id AND o.hwm <> followed.hwm
"""
_LOCK_OPEN = f"""
SELECT {_ORDER_COLUMNS} FROM orders.orders o
JOIN unnest(%(accounts)b::uuid[], %(families)b::uuid[]) AS wanted (account_id, family)
  ON o.account_id = wanted.account_id AND o.family = wanted.family
WHERE o.status IN {_OPEN} ORDER BY o.account_id, o.id FOR UPDATE OF o
"""
_LOTS = """
SELECT l.account_id, l.symbol, l.fill_id, l.opened_at, l.qty, l.cost, l.strategy_id FROM orders.lots l
JOIN unnest(%(accounts)b::uuid[], %(symbols)b::text[]) AS wanted (account_id, symbol)
  ON l.account_id = wanted.account_id AND l.symbol = wanted.symbol
WHERE l.qty <> 0 ORDER BY l.opened_at, l.fill_id
"""
_TAKEN = text("""
WITH wanted AS (
  SELECT * FROM unnest(CAST(:symbols AS text[]), CAST(:sequences AS bigint[])) AS wanted (symbol, sequence)
), made AS (
  INSERT INTO orders.taken AS t (symbol, pool, sequence, qty)
  SELECT symbol, pool, sequence, 0 FROM wanted CROSS JOIN unnest(ARRAY['ask', 'bid', 'bar']) AS pool
  ORDER BY symbol, pool
  ON CONFLICT (symbol, pool) DO UPDATE SET
    qty = CASE WHEN t.sequence < excluded.sequence THEN 0 ELSE t.qty END,
    sequence = GREATEST(t.sequence, excluded.sequence)
  RETURNING symbol, pool, sequence, qty
)
SELECT symbol, pool, sequence, qty FROM made
""")
_EXPIRED = text(f"""
SELECT account_id, family FROM orders.orders WHERE status IN {_OPEN} AND expires_at <= :now
""")
_CURRENT_PRICES = text(f"""
SELECT symbol, bid, ask, bid_size, ask_size, last, COALESCE(open, last) AS open, COALESCE(high, last) AS high,
       COALESCE(low, last) AS low, last AS close, COALESCE(volume, 0) AS volume, quoted_at, since, sequence, adjustment,
       provider
FROM marketdata.instruments_v1 i
WHERE last IS NOT NULL AND sequence > 0
  AND EXISTS (SELECT FROM orders.orders o WHERE o.symbol = i.symbol AND o.status IN {_WORKING})
""")
