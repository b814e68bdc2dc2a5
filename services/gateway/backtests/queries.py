"""Backtests from the runs of their job and the results of strategy. A result outlives its run."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.keyset import Keyset, Record, records

#: An error is a traceback, whose last line says what happened.
_COLUMNS = """
COALESCE(r.id, b.run_id) AS id, COALESCE(r.queued_at, b.at) AS queued_at, COALESCE(r.finished_at, b.at) AS finished_at,
COALESCE(r.state, 'finished') AS state,
CASE WHEN r.id IS NULL OR (r.outcome IS NULL AND r.state = 'finished') THEN 'succeeded' ELSE r.outcome END AS outcome,
reverse(split_part(reverse(rtrim(r.error, E' \\n')), E'\\n', 1)) AS error, r.done, r.total,
CAST(LEAST(round(100.0 * r.done / NULLIF(r.total, 0), 1), 100) AS float8) AS percent,
COALESCE(b.request, r.parameters) AS request, b.figures
"""
_SOURCE = """
(SELECT * FROM jobs.job_runs WHERE job = :job AND part IS NULL AND trigger <> 'retry') r
FULL JOIN (SELECT * FROM strategy.backtests_v1 WHERE kind = :kind) b ON b.run_id = r.id
"""
#: Job → the kind of its results.
KINDS = {"backtest": "backtest", "optimise": "optimisation"}


def page(job: str) -> Any:
    """The query of a page of the job's runs and results."""
    source = _SOURCE.replace(":job", f"'{job}'").replace(":kind", f"'{KINDS[job]}'")
    keyset = Keyset(f"SELECT * FROM (SELECT {_COLUMNS} FROM {source}) x", ("queued_at", "id"), {})
    return keyset.page


def one(connection: Connection, run_id: UUID, job: str) -> Record | None:
    """One run with its whole result as ``result``, which is None until it has one."""
    return next(iter(records(connection, _ONE, id=run_id, job=job, kind=KINDS[job])), None)


def results(connection: Connection, ids: Sequence[UUID]) -> list[Record]:
    """The finished ones of these, with id, request, figures and equity."""
    return records(connection, _RESULTS, ids=list(ids))


def symbols_without_bars(
    connection: Connection, symbols: Sequence[str], interval: str, begin: datetime, end: datetime
) -> list[str]:
    """Those that have no bar of the interval in that time, in their order."""
    given = {"symbols": list(symbols), "interval": interval, "begin": begin, "end": end}
    return list(connection.execute(_WITHOUT_BARS, given).scalars())


_ONE = text(f"""
SELECT {_COLUMNS}, b.outcome AS result, r.requested_by
FROM (SELECT * FROM jobs.job_runs WHERE id = :id AND job = :job AND part IS NULL) r
FULL JOIN (SELECT * FROM strategy.backtests_v1 WHERE run_id = :id AND kind = :kind) b ON b.run_id = r.id
""")
_RESULTS = text("""
SELECT run_id AS id, request, figures, outcome -> 'equity' AS equity FROM strategy.backtests_v1
WHERE run_id = ANY(:ids) AND kind = 'backtest'
""")
_WITHOUT_BARS = text("""
SELECT given.symbol FROM unnest(CAST(:symbols AS text[])) WITH ORDINALITY AS given (symbol, place)
WHERE NOT EXISTS (
  SELECT FROM marketdata.bars_v1 b
  WHERE b.symbol = given.symbol AND b.interval = :interval AND b.start_at >= :begin AND b.start_at < :end
) ORDER BY given.place
""")
