"""The monthly partitions of the OHLCV table: made ahead, and thinned out when they are old.

To thin out an old month, its bars to keep are copied, batch by batch, and at the end the copy takes the month's place.
The room of the other bars is free at once, no transaction is long, and a run that was cut short continues where it was.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from services.marketdata.domain import replay, simulated
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.maintenance import OldRows

#: Bars that are kept however old they are, for charts of years and of the demo: daily ones, and the recorded prices
#: that the demo replays. The recording ends after an hour, and the random walk that goes on from it is not kept.
KEPT = f"(interval = '1d' OR interval = 'replay' AND provider <> '{simulated.NAME}')"
#: Bars that the demo made up.
_DEMO = f"provider IN ('{replay.NAME}', '{simulated.NAME}') AND NOT {KEPT}"
BATCH = 20_000
#: This year and those before it that have a partition for each month. A year before them has one partition.
YEARS_BY_MONTH = 3
#: Suffix of the name of a month that was thinned out.
_THINNED = "_kept"
_PARENT = "marketdata.market_data"


def ensure_partitions(connection: Connection, now: datetime) -> None:
    """Make the OHLCV table's partitions for this month and the next, where they are missing.

    Bars of such a month that went to the default partition meanwhile move to their own.
    """
    first = month_of(now)
    for month in (first, _next_month(first)):
        if not _exists(connection, _partition(month)):
            _make(connection, _partition(month), month, _next_month(month))


def ensure_partitions_between(connection: Connection, first: datetime, last: datetime, now: datetime) -> None:
    """Make the partitions of bars that start from ``first`` to ``last``, where they are missing.

    Years long ago have one partition each, because the planner looks at every partition of a query without a lower
    bound. A year of which a month has a partition already gets one for each of its other months too.
    """
    names = {row.name for row in connection.execute(_NAMES)}
    month = month_of(first)
    while month <= last:
        year, following = month.replace(month=1), _next_month(month)
        by_year = month.year <= now.year - YEARS_BY_MONTH
        if f"{month:%Y}" in names or names & {f"{month:%Y_%m}", f"{month:%Y_%m}{_THINNED}"}:
            pass
        elif by_year and not any(name.startswith(f"{month:%Y_}") for name in names):
            _make(connection, f"{_PARENT}_{month:%Y}", year, year.replace(year=month.year + 1))
            names.add(f"{month:%Y}")
        else:
            _make(connection, _partition(month), month, following)
        month = following


def _make(connection: Connection, name: str, begin: datetime, end: datetime) -> None:
    """Make a partition, unless another replica has just done so."""
    connection.execute(_LOCK_BARS)
    if not _exists(connection, name):
        misplaced = f"FROM {_PARENT}_other WHERE {_within(begin, end)}"
        for statement in (
            f"CREATE TABLE {name} (LIKE {_PARENT} INCLUDING ALL)",
            f"INSERT INTO {name} SELECT * {misplaced}",
            f"DELETE {misplaced}",
            _attach(name, begin, end),
        ):
            connection.execute(text(statement))


def _partition(month: datetime) -> str:
    return f"{_PARENT}_{month:%Y_%m}"


def _exists(connection: Connection, table: str) -> bool:
    return bool(connection.execute(_TABLE_THERE, {"name": table}).scalar_one())


def _attach(name: str, begin: datetime, end: datetime) -> str:
    return f"ALTER TABLE {_PARENT} ATTACH PARTITION {name} FOR VALUES FROM ({_written(begin)}) TO ({_written(end)})"


def _within(begin: datetime, end: datetime) -> str:
    return f"start_at >= {_written(begin)} AND start_at < {_written(end)}"


def _written(at: datetime) -> str:
    return f"'{at:%Y-%m-%d} 00:00+00'"


def month_of(at: datetime) -> datetime:
    """The begin of the month in UTC."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(first: datetime) -> datetime:
    return (first + timedelta(days=32)).replace(day=1)


def old_months(connection: Connection, before: datetime) -> list[datetime]:
    """The months that ended by then and have a partition which was not thinned out, oldest first."""
    months = [datetime.strptime(row.month, "%Y_%m").replace(tzinfo=UTC) for row in connection.execute(_MONTHS)]
    return [month for month in months if _next_month(month) <= before]


def old_demo_months(connection: Connection, before: datetime) -> list[datetime]:
    """List the months that ended by then and hold made-up bars, but no other bars that are kept for longer."""
    return [month for month in old_months(connection, before) if _is_demo(connection, month)]


def _is_demo(connection: Connection, month: datetime) -> bool:
    return bool(connection.execute(text(_IS_DEMO.format(name=_partition(month)))).scalar_one())


def old_demo_bars(connection: Connection, now: datetime, keep: timedelta) -> list[OldRows]:
    """Describe the made-up bars of the months in which bars have grown old since the last runs.

    Only these months are read. Bars of earlier months are gone, or go with their month.
    """
    month = (now - keep).replace(day=1)
    names = [_partition(month - timedelta(days=1)), _partition(month)]
    tables = [f"{_PARENT}_other", *(name for name in names if _exists(connection, name))]
    return [OldRows(name, f"start_at < :before AND {_DEMO}", keep) for name in tables]


def thin_out(context: ServiceContext, month: datetime, progress: Callable[[int], None]) -> int | None:
    """Remove the month's bars that are not kept, and return the number of bars that stay.

    Returns None, and changes nothing, if a bar to keep came meanwhile. The next run tries again.
    """
    name = _partition(month)
    with context.engine.begin() as connection:
        connection.execute(text(_MAKE_COPY.format(name=name, within=_within(month, _next_month(month)))))
        connection.execute(text(f"ANALYZE {name}"))  # else each batch might be found by sorting the whole month
    copied = 0
    while number := _copy_batch(context, name):
        copied += number
        progress(copied)
    with context.engine.begin() as connection:
        return _swap(connection, name, month)


def _copy_batch(context: ServiceContext, name: str) -> int:
    """Copy the next bars in the order of their key. The last copied one says where to continue."""
    with context.engine.begin() as connection:
        return connection.execute(text(_COPY.format(name=name)), {"batch": BATCH}).rowcount


def _swap(connection: Connection, name: str, month: datetime) -> int | None:
    copy = name + _THINNED
    connection.execute(text(f"LOCK TABLE {name} IN EXCLUSIVE MODE"))
    counts = connection.execute(text(_COUNTS.format(name=name))).one()
    copied: int = counts.copied
    if counts.kept != copied:
        connection.execute(text(f"DROP TABLE {copy}"))
        return None
    for statement in (f"ALTER TABLE {_PARENT} DETACH PARTITION {name}", f"DROP TABLE {name}"):
        connection.execute(text(statement))
    connection.execute(text(_attach(copy, month, _next_month(month)) if copied else f"DROP TABLE {copy}"))
    return copied


def strays(connection: Connection, keep: timedelta) -> list[OldRows]:
    """Describe old bars in partitions that are not a month's: the default one, and those of years."""
    names = sorted(row.name for row in connection.execute(_NAMES) if len(row.name) == len("2024"))
    return [OldRows(f"{_PARENT}_{name}", f"start_at < :before AND NOT {KEPT}", keep) for name in ("other", *names)]


_TABLE_THERE = text("SELECT to_regclass(:name) IS NOT NULL")
_LOCK_BARS = text(f"LOCK TABLE {_PARENT} IN SHARE ROW EXCLUSIVE MODE")
_NAMES = text(rf"""
SELECT substr(relname, length('market_data_') + 1) AS name
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = CAST('{_PARENT}' AS regclass) AND relname ~ '^market_data_\d{{4}}'
""")
_MONTHS = text(rf"""
SELECT substr(relname, length('market_data_') + 1) AS month
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = CAST('{_PARENT}' AS regclass) AND relname ~ '^market_data_\d{{4}}_\d\d$'
ORDER BY relname
""")
_IS_DEMO = f"""
SELECT CASE WHEN EXISTS (SELECT FROM {{name}} WHERE NOT {KEPT} AND NOT ({_DEMO})) THEN false
            ELSE EXISTS (SELECT FROM {{name}} WHERE {_DEMO}) END
"""
#: The constraint spares the scan when the copy is attached.
_MAKE_COPY = f"""
CREATE TABLE IF NOT EXISTS {{name}}{_THINNED} (LIKE {_PARENT} INCLUDING ALL, CONSTRAINT within_month CHECK ({{within}}))
"""
_COPY = f"""
WITH last AS (
  SELECT symbol, interval, start_at FROM {{name}}{_THINNED}
  ORDER BY symbol DESC, interval DESC, start_at DESC LIMIT 1
)
INSERT INTO {{name}}{_THINNED}
SELECT * FROM {{name}}
WHERE {KEPT}
  AND (symbol, interval, start_at) > (COALESCE((SELECT symbol FROM last), ''),
                                      COALESCE((SELECT interval FROM last), ''),
                                      COALESCE((SELECT start_at FROM last), '-infinity'))
ORDER BY symbol, interval, start_at LIMIT :batch
"""
_COUNTS = f"""
SELECT (SELECT count(*) FROM {{name}} WHERE {KEPT}) AS kept,
       (SELECT count(*) FROM {{name}}{_THINNED}) AS copied
"""
