"""The indicators that are computed, and who names each: an operator, running strategies, watchlists, or several."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from services.marketdata.persistence.columns_of_arrays import LATEST
from services.marketdata.persistence.indicators import remove_values
from shared.contracts.indicators import AddIndicator, written


@dataclass(frozen=True)
class NamedBy:
    """Those that name an indicator."""

    by_hand: bool = False
    by_strategies: bool = False
    by_watchlists: bool = False

    @property
    def anybody(self) -> bool:
        return self.by_hand or self.by_strategies or self.by_watchlists


BY_HAND = NamedBy(by_hand=True)


def add(connection: Connection, command: AddIndicator, by: NamedBy = BY_HAND) -> bool:
    """Add the indicator, and have its series computed again. False if it is there.

    An existing one is then named by these as well.
    """
    given = {"id": command.id, "symbol": command.symbol, "interval": command.interval, "name": command.name}
    terms = {"parameters": json.dumps(written(command.all_parameters)), "requested_at": command.requested_at}
    if not connection.execute(_ADD, {**given, **terms, **asdict(by)}).scalar_one():
        return False
    connection.execute(_ADD_SERIES, given)
    return True


def named(connection: Connection) -> dict[UUID, NamedBy]:
    """Return who names each indicator, by its id."""
    return {row.id: NamedBy(row.by_hand, row.by_strategies, row.by_watchlists) for row in connection.execute(_NAMED)}


def mark_named(connection: Connection, changes: Mapping[UUID, NamedBy]) -> None:
    """Note which indicators strategies and watchlists name. Operators note theirs by themselves."""
    if changes:
        given = {"ids": list(changes), "by_strategies": [by.by_strategies for by in changes.values()]}
        connection.execute(_MARK_NAMED, {**given, "by_watchlists": [by.by_watchlists for by in changes.values()]})


def keep_for_others(connection: Connection, indicator_id: UUID) -> bool:
    """Note that no operator names the indicator any more. False if nobody else does either."""
    return connection.execute(_KEEP, {"id": indicator_id}).rowcount > 0


def remove(connection: Connection, indicator_id: UUID, *, named_by_hand: bool = True) -> bool:
    """Remove the indicator, and with the last one of a series all its values. False if there is none with the id.

    An indicator that an operator has just named stays if ``named_by_hand`` is False.
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
  (id, symbol, interval, name, parameters, requested_at, slot, by_hand, by_strategies, by_watchlists)
SELECT :id, :symbol, :interval, :name, CAST(:parameters AS jsonb), :requested_at, min(free.slot),
       CAST(:by_hand AS boolean), CAST(:by_strategies AS boolean), CAST(:by_watchlists AS boolean)
FROM (
  SELECT 0 AS slot
  UNION ALL
  SELECT slot + 1 FROM marketdata.indicators WHERE symbol = :symbol AND interval = :interval
) free
WHERE NOT EXISTS (
  SELECT FROM marketdata.indicators i WHERE i.symbol = :symbol AND i.interval = :interval AND i.slot = free.slot)
ON CONFLICT (id) DO UPDATE SET
  by_hand = known.by_hand OR excluded.by_hand, by_strategies = known.by_strategies OR excluded.by_strategies,
  by_watchlists = known.by_watchlists OR excluded.by_watchlists
RETURNING xmax = 0
""")
_NAMED = text("SELECT id, by_hand, by_strategies, by_watchlists FROM marketdata.indicators")
_MARK_NAMED = text("""
UPDATE marketdata.indicators i SET by_strategies = n.by_strategies, by_watchlists = n.by_watchlists
FROM unnest(CAST(:ids AS uuid[]), CAST(:by_strategies AS boolean[]), CAST(:by_watchlists AS boolean[]))
  AS n (id, by_strategies, by_watchlists)
WHERE i.id = n.id
""")
_KEEP = text("""
UPDATE marketdata.indicators SET by_hand = false WHERE id = :id AND (by_strategies OR by_watchlists)
""")
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
