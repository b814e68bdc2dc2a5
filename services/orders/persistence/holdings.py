"""Lots and positions: a holding is an account's shares of one symbol."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.exchange.lots import Average, Lot
from shared.exchange.matching.book import Holding, position_of
from shared.storage.driver import Call, numbers
from shared.storage.tables import Table, typed

Lots = dict[Holding, tuple[Lot, ...]]


class LotRow(NamedTuple):
    account_id: UUID
    symbol: str
    lot: Lot


class _Position(NamedTuple):
    symbol: str
    qty: Decimal


LOTS = Table("orders.lots", LotRow, key=("account_id", "symbol", "fill_id"))
_saving_lots = LOTS.upsert("qty", "cost")


def saving_holdings(
    holdings: Sequence[Holding],
    lots: Mapping[Holding, tuple[Lot, ...]],
    now: datetime,
    averages: Mapping[Holding, Average] | None = None,
) -> list[Call]:
    """The statements that write the lots of these holdings, and their positions.

    ``averages`` are the effects of fills. A holding without one, as after a split, keeps its average entry price in
    proportion to the cost of a share.
    """
    positions = [position_of(lots[holding]) for holding in holdings]
    effects = [(averages or {}).get(holding) for holding in holdings]
    values = {
        "accounts": [account_id for account_id, _ in holdings],
        "symbols": [symbol for _, symbol in holdings],
        "qtys": numbers(qty for qty, _ in positions),
        "costs": numbers(cost for _, cost in positions),
        "kept": numbers(effect and effect.kept for effect in effects),
        "added": numbers(effect and effect.added for effect in effects),
        "now": now,
    }
    lot_rows = [LotRow(*holding, lot) for holding in holdings for lot in lots[holding]]
    return [_saving_lots(lot_rows), (_SAVE_POSITIONS, values)]


def dropping_holdings(account_id: UUID, now: datetime) -> list[Call]:
    """The statements after which the account holds nothing, and no dividend is owed to it or by it."""
    values = {"id": account_id, "now": now}
    return [(_DROP_LOTS, values), (_DROP_POSITIONS, values), (_DROP_DIVIDENDS, values)]


def finding_lots(holdings: Collection[Holding]) -> Call:
    """The statement that finds the open lots of these holdings, oldest first. ``by_holding`` reads its rows."""
    return _LOTS, {"accounts": [account for account, _ in holdings], "symbols": [symbol for _, symbol in holdings]}


def by_holding(rows: Iterable[Any]) -> Lots:
    """The lots of each holding, in the order of the rows."""
    found: dict[Holding, list[Lot]] = {}
    for account_id, symbol, lot in typed(LotRow, rows):
        found.setdefault((account_id, symbol), []).append(lot)
    return {holding: tuple(lots) for holding, lots in found.items()}


def lots_in(connection: Connection, symbol: str) -> Lots:
    """The open lots of each holding of the symbol."""
    return by_holding(connection.execute(_LOTS_IN, {"symbol": symbol}))


def positions_of(connection: Connection, account_id: UUID) -> list[tuple[str, Decimal]]:
    """(symbol, shares held, negative where short) of everything that the account holds."""
    found = connection.execute(_POSITIONS_OF, {"account_id": account_id})
    return [(position.symbol, position.qty) for position in typed(_Position, found)]


_LOT_COLUMNS = "account_id, symbol, fill_id, opened_at, qty, cost, strategy_id"
#: By index for each holding: a join might read the lots of all accounts.
_LOTS = f"""
SELECT l.* FROM unnest(%(accounts)b::uuid[], %(symbols)b::text[]) AS wanted (account_id, symbol)
CROSS JOIN LATERAL (
  SELECT {_LOT_COLUMNS} FROM orders.lots l
  WHERE l.account_id = wanted.account_id AND l.symbol = wanted.symbol AND l.qty <> 0 OFFSET 0
) l
ORDER BY l.opened_at, l.fill_id
"""
_LOTS_IN = text(f"""
SELECT {_LOT_COLUMNS} FROM orders.lots WHERE symbol = :symbol AND qty <> 0 ORDER BY account_id, opened_at, fill_id
""")
_POSITIONS_OF = text(
    "SELECT symbol, qty FROM orders.positions WHERE account_id = :account_id AND qty <> 0 ORDER BY symbol"
)
_DROP_LOTS = "DELETE FROM orders.lots WHERE account_id = %(id)s"
_DROP_DIVIDENDS = "DELETE FROM orders.dividends WHERE account_id = %(id)s AND paid_at IS NULL"
_DROP_POSITIONS = """
UPDATE orders.positions SET qty = 0, cost = 0, avg_entry_price = NULL, updated_at = %(now)s WHERE account_id = %(id)s
"""
#: A position from before average entry prices were kept begins with the average cost of its lots. The old price is not
#: looked up where the new one is the same, or does not depend on it.
_SAVE_POSITIONS = """
INSERT INTO orders.positions (account_id, symbol, qty, cost, avg_entry_price, updated_at)
SELECT v.account_id, v.symbol, v.qty, v.cost,
       round(CASE WHEN v.qty = 0 OR v.kept = 1 THEN NULL
                  WHEN v.kept = 0 THEN v.added
                  WHEN v.kept IS NULL THEN p.average * p.qty / v.qty * COALESCE(v.cost / NULLIF(p.cost, 0), 1)
                  ELSE v.kept * p.average + v.added END, 18), %(now)s
FROM unnest(%(accounts)b::uuid[], %(symbols)b::text[], %(qtys)s::numeric[], %(costs)s::numeric[], %(kept)s::numeric[],
            %(added)s::numeric[]) AS v (account_id, symbol, qty, cost, kept, added)
LEFT JOIN LATERAL (
  SELECT qty, cost, COALESCE(avg_entry_price, cost / NULLIF(qty, 0)) AS average FROM orders.positions p
  WHERE p.account_id = v.account_id AND p.symbol = v.symbol AND v.qty <> 0 AND COALESCE(v.kept NOT IN (0, 1), true)
  OFFSET 0
) p ON true
ON CONFLICT (account_id, symbol) DO UPDATE SET
  qty = excluded.qty, cost = excluded.cost, updated_at = excluded.updated_at,
  avg_entry_price = CASE WHEN excluded.qty <> 0 THEN COALESCE(
    excluded.avg_entry_price, positions.avg_entry_price, positions.cost / NULLIF(positions.qty, 0)) END
"""
