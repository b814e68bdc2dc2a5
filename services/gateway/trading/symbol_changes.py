"""Watchlists follow a changed symbol: an entry is an asset, as in Alpaca's API, and keeps its place on the list."""

from datetime import datetime

from sqlalchemy import Connection, text

from shared.bus.unit_of_work import ServiceContext
from shared.repeated import Repeated

POLL_SECONDS = 2.0


class SymbolChanges(Repeated):
    """Looks for changed symbols on watchlists every two seconds. Several gateways may do so at once."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__("symbol changes")
        self._context = context

    def step(self) -> float:
        with self._context.engine.begin() as connection:
            follow(connection, self._context.clock())
        return POLL_SECONDS


def follow(connection: Connection, now: datetime) -> int:
    """Put the present symbol in the place of each changed one, and return the number of lists that changed.

    A list that has both keeps the first of the two places.
    """
    if not connection.execute(_IS_READY).scalar_one():
        return 0
    changes = {row.old_symbol: row.new_symbol for row in connection.execute(_CHANGES)}
    if not changes:
        return 0
    given = {"old": list(changes), "new": list(changes.values()), "now": now}
    return connection.execute(_FOLLOW, given).rowcount


_IS_READY = text("""
SELECT COALESCE(has_table_privilege(to_regclass('marketdata.symbol_changes_v1'), 'SELECT'), false)
""")
_CHANGES = text("SELECT old_symbol, new_symbol FROM marketdata.symbol_changes_v1")
_FOLLOW = text("""
UPDATE gateway.watchlists w SET updated_at = :now, symbols = (
  SELECT array_agg(present.symbol ORDER BY present.place) FROM (
    SELECT COALESCE(c.new_symbol, s.symbol) AS symbol, min(s.place) AS place
    FROM unnest(w.symbols) WITH ORDINALITY AS s (symbol, place)
    LEFT JOIN unnest(CAST(:old AS text[]), CAST(:new AS text[])) AS c (old_symbol, new_symbol)
      ON c.old_symbol = s.symbol
    GROUP BY 1
  ) present
)
WHERE w.symbols && CAST(:old AS text[])
""")
