"""Runs in parts: each part is a run of its own, several run at a time, and the last to end wakes the parent run."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.jobs import check_sendable
from shared.jobs.engine.dispatch import TURN_HAS_COME, send_runs
from shared.jobs.schedule.planning import CLOCK_TOLERANCE

#: The parts of a run, and the characters of a part's parameters, as JSON.
MOST_PARTS, LONGEST_PARAMETERS = 10_000, 100_000
LONGEST_PARAMETER_ERROR = 300
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class InvalidParameters(ValueError):
    """The parts are none, too many, or one has a parameter that cannot be stored or sent, which the message names."""


def storable(given: Mapping[str, Any], parts: object) -> list[str]:
    """Write the parameters of each part as JSON: those ``given`` to the whole run, and its own.

    Raises InvalidParameters.
    """
    if not isinstance(parts, Sequence) or isinstance(parts, str | bytes):
        raise InvalidParameters(f"parts: must be a list, not {type(parts).__name__}")
    if len(parts) > MOST_PARTS:
        raise InvalidParameters(f"parts: must be at most {MOST_PARTS}, not {len(parts)}")
    for number, part in enumerate(parts, start=1):
        if not isinstance(part, Mapping):
            raise InvalidParameters(f"part {number}: must be a mapping of parameters, not {type(part).__name__}")
    return [_storable(number, {**given, **part}) for number, part in enumerate(parts, start=1)]


def split(uow: UnitOfWork, run_id: UUID, attempt: int, parameters: Sequence[str]) -> None:
    """Split the run into a run for each part, and let it wait until all have ended.

    ``parameters`` are those of each part, as ``storable`` writes them. Nothing happens if the run is no longer in
    progress.
    """
    if uow.connection.execute(_SPLIT, {"id": run_id, "attempt": attempt, "parts": len(parameters)}).rowcount != 1:
        return
    uow.connection.execute(
        _ADD_PARTS,
        {
            "id": run_id,
            "ids": [uuid4() for _ in parameters],
            "parameters": list(parameters),
            "now": uow.now,
        },
    )
    advance(uow, run_id)


def _storable(number: int, parameters: Mapping[str, Any]) -> str:
    """Write the parameters of a part as JSON that PostgreSQL and a message take. Raises InvalidParameters."""
    for name, value in parameters.items():
        try:
            written = json.dumps({name: value}, allow_nan=False, ensure_ascii=False)
            written.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidParameters(f"part {number}: parameters.{name!s:.100}: is no JSON: {error}") from None
        if _NUL.search(written):
            raise InvalidParameters(f"part {number}: parameters.{name!s:.100}: must not contain NUL")
    written = json.dumps(dict(parameters))
    try:
        check_sendable(written)
    except ValueError as error:
        raise InvalidParameters(f"part {number}: parameters: {str(error)[:LONGEST_PARAMETER_ERROR]}") from None
    if len(written) > LONGEST_PARAMETERS:
        raise InvalidParameters(f"part {number}: parameters: must have at most {LONGEST_PARAMETERS} characters as JSON")
    return written


def split_again(uow: UnitOfWork, run_id: UUID, attempt: int) -> None:
    """Split a retry of one part: the part runs again, and the others have the results of the earlier run.

    Nothing happens if the run is no longer in progress.
    """
    parts = uow.connection.execute(_COPY_PARTS, {"id": run_id, "attempt": attempt, "now": uow.now}).rowcount
    if parts:
        uow.connection.execute(_SPLIT, {"id": run_id, "attempt": attempt, "parts": parts})
        advance(uow, run_id)


def advance(uow: UnitOfWork, parent: UUID) -> None:
    """Send as many parts as may run at a time, or the parent again when all have ended. Those of a retired job wait.

    The lock of the parent's row serializes this.
    """
    locked = uow.connection.execute(_LOCK_PARENT, {"id": parent}).first()
    if locked is not None:
        given = {"id": parent, "parallel": locked.parallel, "now": uow.now, "tolerance": CLOCK_TOLERANCE}
        send_runs(uow, uow.connection.execute(_ADVANCE, given).all())


def part_results(connection: Connection, parent: UUID) -> list[Any]:
    """Read the outcome and counts of each part, in their order."""
    return list(connection.execute(_RESULTS, {"id": parent}))


_SPLIT = text("""
UPDATE jobs.job_runs SET state = 'joining', parts = :parts, done = 0, total = :parts
WHERE id = :id AND state = 'running' AND attempt = :attempt
""")
_ADD_PARTS = text("""
INSERT INTO jobs.job_runs (id, job, service, trigger, parent_run_id, part, scheduled_for, parameters, priority, state,
                           queued_at, traceparent)
SELECT given.id, p.job, p.service, 'part', p.id, given.number, p.scheduled_for, CAST(given.parameters AS jsonb),
       p.priority, 'waiting', :now, p.traceparent
FROM jobs.job_runs p,
  unnest(CAST(:ids AS uuid[]), CAST(:parameters AS text[])) WITH ORDINALITY AS given (id, parameters, number)
WHERE p.id = :id
""")
_COPY_PARTS = text("""
INSERT INTO jobs.job_runs (id, job, service, trigger, parent_run_id, part, scheduled_for, parameters, priority, state,
                           queued_at, traceparent, started_at, finished_at, outcome, counts, reason, worker)
SELECT gen_random_uuid(), r.job, r.service, 'part', r.id, p.part, r.scheduled_for, p.parameters, r.priority,
       CASE WHEN p.part = r.only_part THEN 'waiting' ELSE 'finished' END, :now, r.traceparent,
       CASE WHEN p.part <> r.only_part THEN p.started_at END, CASE WHEN p.part <> r.only_part THEN p.finished_at END,
       CASE WHEN p.part <> r.only_part THEN p.outcome END,
       CASE WHEN p.part <> r.only_part THEN p.counts ELSE '{}' END, CASE WHEN p.part <> r.only_part THEN p.reason END,
       CASE WHEN p.part <> r.only_part THEN p.worker END
FROM jobs.job_runs r JOIN jobs.job_runs p ON p.parent_run_id = r.parent_run_id AND p.part IS NOT NULL
WHERE r.id = :id AND r.state = 'running' AND r.attempt = :attempt
""")
_LOCK_PARENT = text("""
SELECT CAST(j.settings ->> 'parallel' AS integer) AS parallel
FROM jobs.job_runs r JOIN jobs.jobs j ON j.name = r.job
WHERE r.id = :id AND r.state = 'joining' AND j.retired_at IS NULL FOR UPDATE OF r
""")
_ADVANCE = text(f"""
WITH counted AS (
  SELECT count(*) FILTER (WHERE state IN ('queued', 'running')) AS in_progress,
         count(*) FILTER (WHERE state = 'finished') AS ended,
         count(*) FILTER (WHERE state = 'waiting') AS waiting
  FROM jobs.job_runs WHERE parent_run_id = :id AND part IS NOT NULL
), ready AS (
  SELECT id FROM jobs.job_runs
  WHERE parent_run_id = :id AND part IS NOT NULL AND state = 'waiting' AND {TURN_HAS_COME}
  ORDER BY part LIMIT GREATEST(0, :parallel - (SELECT in_progress FROM counted))
), sent AS (
  UPDATE jobs.job_runs r SET state = 'queued', sent_at = :now, not_before = NULL FROM ready WHERE r.id = ready.id
  RETURNING r.id, r.job, r.service, r.parameters, r.attempt, r.priority, r.traceparent
), parent AS (
  UPDATE jobs.job_runs r SET done = counted.ended,
    state = CASE WHEN counted.in_progress + counted.waiting = 0 THEN 'queued' ELSE r.state END,
    sent_at = CASE WHEN counted.in_progress + counted.waiting = 0 THEN :now ELSE r.sent_at END
  FROM counted WHERE r.id = :id
  RETURNING r.id, r.job, r.service, r.parameters, r.attempt, r.priority, r.traceparent, r.state
)
SELECT * FROM sent
UNION ALL
SELECT id, job, service, parameters, attempt, priority, traceparent FROM parent WHERE state = 'queued'
""")
_RESULTS = text("""
SELECT part, outcome, counts, reason FROM jobs.job_runs WHERE parent_run_id = :id AND part IS NOT NULL ORDER BY part
""")
