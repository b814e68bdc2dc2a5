"""The rows of watchlists, and the instruments on them."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.keyset import Record, records


def watchlists(connection: Connection, account_id: UUID) -> list[Record]:
    """Return the account's watchlists, the oldest first."""
    return records(connection, _ALL, account_id=account_id)


def watchlist(connection: Connection, account_id: UUID, which: UUID | str) -> Record | None:
    """Return the account's watchlist with this id or name. None if there is none."""
    statement = _BY_ID if isinstance(which, UUID) else _BY_NAME
    return next(iter(records(connection, statement, account_id=account_id, which=which)), None)


def lock_account(connection: Connection, account_id: UUID) -> None:
    """Let no other transaction change watchlists of the account, so that names stay unique and bounds hold."""
    connection.execute(_LOCK, {"account_id": str(account_id)})


def others(connection: Connection, account_id: UUID, watchlist_id: UUID, name: str) -> Record:
    """Return figures of the account's other watchlists.

    They are their number as ``count``, their ``computed`` indicators, and ``has_name`` if one has the name.
    """
    (row,) = records(connection, _OTHERS, account_id=account_id, id=watchlist_id, name=name)
    return row


def save(connection: Connection, row: Record, now: datetime) -> Record:
    """Add or update the watchlist, and return its row."""
    given: dict[str, Any] = {name: row[name] for name in ("id", "account_id", "name", "symbols")}
    (saved,) = records(connection, _SAVE, **given, indicators=json.dumps(row["indicators"]), now=now)
    return saved


def remove(connection: Connection, watchlist_id: UUID) -> None:
    connection.execute(_REMOVE, {"id": watchlist_id})


def remove_all(connection: Connection, account_id: UUID) -> None:
    """Remove the watchlists of an account that is closed."""
    connection.execute(_REMOVE_ALL, {"account_id": account_id})


def symbols_of(connection: Connection, asked: Sequence[str]) -> dict[str, str | None]:
    """Return the symbol of each symbol or id of an asset, which is in capital letters. None for an unknown one."""
    rows = connection.execute(_SYMBOLS, {"asked": list(asked)}).all() if asked else ()
    return {row.asked: row.symbol for row in rows}


def assets(connection: Connection, symbols: Sequence[str]) -> list[Record]:
    """Return the instruments in the order of their symbols."""
    return records(connection, _ASSETS, symbols=list(symbols)) if symbols else []


_ITEM = "SELECT id, account_id, name, symbols, indicators, created_at, updated_at FROM gateway.watchlists"
_ALL = text(f"{_ITEM} WHERE account_id = :account_id ORDER BY created_at, id")
_BY_ID = text(f"{_ITEM} WHERE account_id = :account_id AND id = :which")
_BY_NAME = text(f"{_ITEM} WHERE account_id = :account_id AND name = :which")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('watchlists/' || CAST(:account_id AS text), 0))")
_OTHERS = text("""
SELECT count(*) AS count, COALESCE(sum(cardinality(symbols) * jsonb_array_length(indicators)), 0) AS computed,
       COALESCE(bool_or(name = :name), false) AS has_name
FROM gateway.watchlists WHERE account_id = :account_id AND id <> :id
""")
_SAVE = text("""
INSERT INTO gateway.watchlists (id, account_id, name, symbols, indicators, created_at, updated_at)
VALUES (:id, :account_id, :name, CAST(:symbols AS text[]), CAST(:indicators AS jsonb), :now, :now)
ON CONFLICT (id) DO UPDATE SET
  name = excluded.name, symbols = excluded.symbols, indicators = excluded.indicators, updated_at = excluded.updated_at
RETURNING id, account_id, name, symbols, indicators, created_at, updated_at
""")
_REMOVE = text("DELETE FROM gateway.watchlists WHERE id = :id")
_REMOVE_ALL = text("DELETE FROM gateway.watchlists WHERE account_id = :account_id")
_SYMBOLS = text("""
SELECT a.asked, COALESCE(i.symbol, by_id.symbol) AS symbol FROM unnest(CAST(:asked AS text[])) AS a (asked)
LEFT JOIN marketdata.instruments_v1 i ON i.symbol = a.asked
LEFT JOIN marketdata.instruments_v1 by_id ON upper(CAST(by_id.id AS text)) = a.asked
""")
_ASSETS = text("""
SELECT i.id, i.symbol, i.name, i.market, i.asset_class, i.status, i.tradable, i.shortable, i.fractionable
FROM unnest(CAST(:symbols AS text[])) WITH ORDINALITY AS s (symbol, place)
JOIN marketdata.instruments_v1 i ON i.symbol = s.symbol ORDER BY s.place
""")
