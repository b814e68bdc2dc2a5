"""The indicators that are computed, and who names each: an operator, running strategies, or both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from services.marketdata.persistence.columns_of_arrays import LATEST
from services.marketdata.persistence.indicators import remove_values
from shared.contracts.indicators import AddIndicator, written


@dataclass(frozen=True)
class NamedBy:
    """Who names an indicator."""

    by_hand: bool
    by_strategies: bool


def add(connection: Connection, command: AddIndicator, *, by_hand: bool = True) -> bool:
    """Add the indicator, and have its series computed again. False if it is there.

    An operator names it ``by_hand``, and otherwise strategies do. One that is there is then named by both.
    """
    given = {"id": command.id, "symbol": command.symbol, "interval": command.interval, "name": command.name}
    parameters = json.dumps(written(command.all_parameters))
    added = connection.execute(
        _ADD, {**given, "parameters": parameters, "requested_at": command.requested_at, "by_hand": by_hand}
    )
    if not added.scalar_one():
        return False
    connection.execute(_ADD_SERIES, given)
    return True


def named(connection: Connection) -> dict[UUID, NamedBy]:
    """Return who names each indicator, by its id."""
    return {row.id: NamedBy(row.by_hand, row.by_strategies) for row in connection.execute(_NAMED)}


def mark_named(connection: Connection, by_strategies: Sequence[UUID], by_hand_only: Sequence[UUID]) -> None:
    """Note which indicators strategies name as well, and which they no longer do."""
    if by_strategies or by_hand_only:
        connection.execute(_MARK_NAMED, {"named": list(by_strategies), "left": list(by_hand_only)})


def keep_for_strategies(connection: Connection, indicator_id: UUID) -> bool:
    """Note that no operator names the indicator any more. False if no strategy does either."""
    return connection.execute(_KEEP, {"id": indicator_id}).rowcount > 0


def remove(connection: Connection, indicator_id: UUID, *, named_by_hand: bool = True) -> bool:
    """Remove the indicator, and with the last one of a series all its values. False if there is none with the id.

    One that an operator has just named stays if ``named_by_hand`` is False.
    """
    removed = connection.execute(_REMOVE, {"id": indicator_id, "named_by_hand": named_by_hand}).one_or_none()
    if removed is None:
        return False
    connection.execute(_COUNT_CHANGE, removed._asdict())
    if connection.execute(_REMOVE_SERIES, removed._asdict()).rowcount:
        remove_values(connection, (removed.symbol, removed.interval), LATEST)
    return True


#: In the first slot that is free.
_ADD = text("""
INSERT INTO marketdata.indicators AS known
  (id, symbol, interval, name, parameters, requested_at, slot, by_hand, by_strategies)
SELECT :id, :symbol, :interval, :name, CAST(:parameters AS jsonb), :requested_at, min(free.slot),
       CAST(:by_hand AS boolean), NOT CAST(:by_hand AS boolean)
FROM (
  SELECT 0 AS slot
  UNION ALL
  SELECT slot + 1 FROM marketdata.indicators WHERE symbol = :symbol AND interval = :interval
) free
WHERE NOT EXISTS (
  SELECT FROM marketdata.indicators i WHERE i.symbol = :symbol AND i.interval = :interval AND i.slot = free.slot)
ON CONFLICT (id) DO UPDATE SET
  by_hand = known.by_hand OR excluded.by_hand, by_strategies = known.by_strategies OR excluded.by_strategies
RETURNING xmax = 0
""")
_NAMED = text("SELECT id, by_hand, by_strategies FROM marketdata.indicators")
_MARK_NAMED = text("""
UPDATE marketdata.indicators SET by_strategies = id = ANY(CAST(:named AS uuid[]))
WHERE id = ANY(CAST(:named AS uuid[])) OR id = ANY(CAST(:left AS uuid[]))
""")
_KEEP = text("UPDATE marketdata.indicators SET by_hand = false WHERE id = :id AND by_strategies")
_ADD_SERIES = text("""
INSERT INTO marketdata.indicator_series AS s (symbol, interval, dirty_from) VALUES (:symbol, :interval, 'epoch')
ON CONFLICT (symbol, interval) DO UPDATE SET version = s.version + 1, dirty_from = 'epoch'
""")
_REMOVE = text("""
DELETE FROM marketdata.indicators WHERE id = :id AND (NOT by_hand OR :named_by_hand) RETURNING symbol, interval
""")
_COUNT_CHANGE = text("""
UPDATE marketdata.indicator_series SET version = version + 1 WHERE symbol = :symbol AND interval = :interval
""")
_REMOVE_SERIES = text("""
DELETE FROM marketdata.indicator_series s WHERE symbol = :symbol AND interval = :interval
  AND NOT EXISTS (SELECT FROM marketdata.indicators i WHERE i.symbol = s.symbol AND i.interval = s.interval)
""")
