"""Bars, their coverage and the providers of history, from the views of marketdata."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from shared.contracts.bars import LENGTHS
from shared.storage.keyset import Keyset, Record, records

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
#: Most bars of a stock are missing: it is traded six and a half hours of a day, on five days of a week.
_SPARSE = 8
_HOLIDAYS = timedelta(days=10)
#: Bars of an export that are read at a time.
PAGE = 10_000


def bars(
    connection: Connection,
    filters: Mapping[str, Any],
    /,
    *,
    after: Sequence[Any] | None,
    limit: int,
    now: datetime,
) -> list[Record]:
    """Return the newest bars before the one that started at ``after``.

    The time before ``now`` in which so many bars usually lie is looked at first, which spares the planner the
    partitions of the time before.
    """
    begin, end = filters.get("begin", EARLIEST), min(filters.get("end", LATEST), after[0] if after else LATEST)
    given = {**filters, "adjustment": filters.get("adjustment", "raw"), "most": limit, "end": end}
    near = max(begin, min(end, now) - _SPARSE * limit * LENGTHS[filters["interval"]] - _HOLIDAYS)
    found = records(connection, _BARS, **{**given, "begin": near})
    if len(found) < limit and near > begin:
        found = records(connection, _BARS, **{**given, "begin": begin})
    return [{**each, "symbol": filters["symbol"], "interval": filters["interval"]} for each in found]


def bars_to_export(
    connection: Connection, symbol: str, interval: str, adjustment: str, begin: datetime, end: datetime
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield pages of bars, the oldest first, each bar in the order of a file's columns."""
    given = {"symbol": symbol, "interval": interval, "begin": begin, "end": end}
    first, last = connection.execute(_ENDS, given).one()
    step = PAGE * LENGTHS[interval]
    while first is not None and first <= last:
        following = min(first + step, end)
        page = {**given, "begin": first, "end": following, "adjustment": adjustment, "most": 2 * PAGE}
        found = connection.execute(_BARS, page).all()
        if found:
            yield [
                (symbol, interval, each.start, each.open, each.high, each.low, each.close, each.volume, each.provider)
                for each in reversed(found)
            ]
        first = following


def unknown_symbols(connection: Connection, symbols: Sequence[str]) -> list[str]:
    """Return those that are not instruments, in their order."""
    return list(connection.execute(_UNKNOWN, {"symbols": list(symbols)}).scalars())


def history_providers(connection: Connection) -> list[Record]:
    """Return the providers that can be asked for bars, the preferred one first."""
    return records(connection, _PROVIDERS)


def replay_state(connection: Connection) -> Record | None:
    """Return ``state`` and ``updated_at`` of the replay. None before its first price."""
    return next(iter(records(connection, _REPLAY)), None)


COVERAGE = Keyset(
    'SELECT symbol, interval, provider, begin_at AS "from", end_at AS "to" FROM marketdata.bar_coverage_v1',
    ("symbol", "interval", "provider", "begin_at"),
    {"symbol": "symbol = :symbol", "interval": "interval = :interval", "provider": "provider = :provider"},
)
_BARS = text("""
SELECT start_at AS start, open, high, low, close, volume, provider, origin
FROM marketdata.adjusted_bars_v1(:symbol, :interval, :begin, :end, :adjustment, :most)
""")
_ENDS = text("""
SELECT min(start_at), max(start_at) FROM marketdata.bars_v1
WHERE symbol = :symbol AND interval = :interval AND start_at >= :begin AND start_at < :end
""")
_UNKNOWN = text("""
SELECT given.symbol FROM unnest(CAST(:symbols AS text[])) WITH ORDINALITY AS given (symbol, place)
WHERE NOT EXISTS (SELECT FROM marketdata.instruments_v1 i WHERE i.symbol = given.symbol) ORDER BY given.place
""")
_PROVIDERS = text("""
SELECT name, intervals, preferred, keep_days FROM marketdata.history_providers_v1 ORDER BY preferred DESC, name
""")
_REPLAY = text("SELECT state, updated_at FROM marketdata.provider_states_v1 WHERE provider = 'replay'")
