"""Lots and positions: a holding is an account's shares of one symbol."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.exchange.lots import Lot
from shared.exchange.matching.book import Holding, position_of
from shared.storage.driver import Call
from shared.storage.tables import Table, typed

Lots = dict[Holding, tuple[Lot, ...]]


class LotRow(NamedTuple):
    account_id: UUID
    symbol: str
    lot: Lot


class PositionRow(NamedTuple):
    account_id: UUID
    symbol: str
    qty: Decimal
    cost: Decimal
    updated_at: datetime


class _Position(NamedTuple):
    symbol: str
    qty: Decimal


LOTS = Table("orders.lots", LotRow, key=("account_id", "symbol", "fill_id"))
POSITIONS = Table("orders.positions", PositionRow, key=("account_id", "symbol"))
_saving_lots = LOTS.upsert("qty", "cost")
_saving_positions = POSITIONS.upsert("qty", "cost", "updated_at")


def saving_holdings(holdings: Sequence[Holding], lots: Mapping[Holding, Sequence[Lot]], now: datetime) -> list[Call]:
    """The statements that write the lots of these holdings, and their positions."""
    positions = [PositionRow(*holding, *position_of(tuple(lots[holding])), now) for holding in holdings]
    return [
        _saving_lots([LotRow(*holding, lot) for holding in holdings for lot in lots[holding]]),
        _saving_positions(positions),
    ]


def dropping_holdings(account_id: UUID, now: datetime) -> list[Call]:
    """The statements after which the account holds nothing."""
    return [(_DROP_LOTS, {"id": account_id}), (_DROP_POSITIONS, {"id": account_id, "now": now})]


def finding_lots(holdings: Collection[Holding]) -> Call:
    """The statement that finds the open lots of these holdings, oldest first. ``by_holding`` reads its rows."""
    return _LOTS, {"accounts": [account for account, _ in holdings], "symbols": [symbol for _, symbol in holdings]}


def by_holding(rows: Iterable[Any]) -> Lots:
    """The lots of each holding, in the order of the rows."""
    found: dict[Holding, list[Lot]] = {}
    for account_id, symbol, lot in typed(LotRow, rows):
        found.setdefault((account_id, symbol), []).append(lot)
    return {holding: tuple(lots) for holding, lots in found.items()}


def lots_in(connection: Connection, symbol: str, before: datetime) -> Lots:
    """The open lots of each holding of the symbol that has a lot from before that time."""
    found = by_holding(connection.execute(_LOTS_IN, {"symbol": symbol}))
    return {holding: lots for holding, lots in found.items() if any(lot.opened_at < before for lot in lots)}


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
_DROP_POSITIONS = "UPDATE orders.positions SET qty = 0, cost = 0, updated_at = %(now)s WHERE account_id = %(id)s"
