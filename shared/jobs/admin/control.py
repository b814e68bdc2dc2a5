"""What operators do to jobs, runs and queues. Every change leaves a row: who, what, before and after.

LookupError
├── UnknownJob, UnknownRun, UnknownQueue
ValueError
├── InvalidSetting      a setting or parameter that the job cannot have; it names the field (shared.jobs.settings)
├── RunFinished         there is nothing left to cancel
├── RunUnfinished       it cannot be run again while it runs
├── NoSlots             the schedule has none in that time
└── TooManySlots        more than one request may ask for
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from shared.bus.tracing import current
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.priority import Priority
from shared.contracts.routing import QUEUES
from shared.jobs.checks import check_chain, check_parameters
from shared.jobs.engine.dispatch import send_if_free
from shared.jobs.engine.parts import advance
from shared.jobs.markets import load_markets
from shared.jobs.schedule.planning import slots_between
from shared.jobs.settings import TIMING, JobSettings, check_settings

MOST_SLOTS = 1000


class UnknownJob(LookupError):
    """No service has declared a job of this name."""


class UnknownRun(LookupError):
    """No run has this id."""


class UnknownQueue(LookupError):
    """No service has a queue of this name."""


class RunFinished(ValueError):
    """The run has ended already."""


class RunUnfinished(ValueError):
    """The run has not ended yet."""


class NoSlots(ValueError):
    """The job has no slots in that time."""


class TooManySlots(ValueError):
    """The job has more slots in that time than one request may ask for."""


def trigger(uow: UnitOfWork, job: str, *, parameters: Mapping[str, Any], who: str) -> UUID:
    """Queue a run by hand: also of a disabled job, and in a closed market. It begins after the one before it."""
    row = _job(uow, job)
    check_parameters(row.parameters, parameters)
    run_id = uuid4()
    _add(uow, job, [run_id], [None], "manual", parameters, who)
    note(uow, who, "trigger", job, None, {"run_id": str(run_id), "parameters": dict(parameters)})
    return run_id


def set_enabled(uow: UnitOfWork, job: str, *, enabled: bool, who: str) -> None:
    """Enable or disable a job from now on; the scheduler follows within two seconds."""
    before = _job(uow, job).settings["enabled"]
    _override(uow, job, {"enabled": enabled})
    note(uow, who, "toggle", job, {"enabled": before}, {"enabled": enabled})


def edit(uow: UnitOfWork, job: str, changes: Mapping[str, Any], *, who: str) -> dict[str, Any]:
    """Change settings from now on; None gives one back to the declaration. Returns all that are in force."""
    row = _job(uow, job)
    kept = {name: value for name, value in row.overrides.items() if changes.get(name, ...) is not None}
    given = {name: value for name, value in changes.items() if value is not None}
    unknown = set(changes) - set(JobSettings.model_fields) - {"interval"}
    overrides = kept | check_settings(given if not unknown else changes, base={**row.declared, **kept})
    settings = {**row.declared, **overrides}
    check_chain(uow.connection, job, settings["after"])
    _override(uow, job, overrides, instead=True)
    changed = {name for name in settings if settings[name] != row.settings[name]}
    note(uow, who, "edit", job, {n: row.settings[n] for n in changed}, {n: settings[n] for n in changed})
    return settings


def cancel(uow: UnitOfWork, run_id: UUID, *, who: str) -> str:
    """End a run: one that waits at once, one that runs when it next looks. The state that it is in now."""
    row = _run(uow, run_id)
    if row.state == "finished":
        raise RunFinished(f"the run has ended already: {row.outcome}")
    after = uow.connection.execute(_CANCEL, {"id": run_id, "who": who, "now": uow.now}).scalar_one()
    for parent in {run_id, row.parent_run_id} - {None}:
        advance(uow, parent)
    note(uow, who, "cancel", str(run_id), {"state": row.state}, {"state": after})
    return str(after)


def retry(uow: UnitOfWork, run_id: UUID, *, who: str) -> UUID:
    """Run it once more, for the same slot and with the same parameters, as a run of its own."""
    row = _run(uow, run_id)
    if row.state != "finished":
        raise RunUnfinished("the run has not ended yet; cancel it first")
    again = uuid4()
    _add(uow, row.job, [again], [row.scheduled_for], "retry", row.parameters, who, parent=run_id)
    note(uow, who, "retry", str(run_id), {"outcome": row.outcome}, {"run_id": str(again)})
    return again


def backfill(
    uow: UnitOfWork, job: str, begin: datetime, end: datetime, *, parameters: Mapping[str, Any], who: str
) -> list[UUID]:
    """Run the job for its slots from ``begin`` to before ``end``, one after the other; the runs in that order."""
    row = _job(uow, job)
    check_parameters(row.parameters, parameters)
    settings = JobSettings.model_validate(row.settings)
    market = load_markets(uow.connection, [settings.market], begin, end).get(settings.market)
    slots = list(islice(slots_between(settings, market, begin, end), MOST_SLOTS + 1)) if market else []
    if not slots:
        raise NoSlots(f"{job} has no slot in that time")
    if len(slots) > MOST_SLOTS:
        raise TooManySlots(f"{job} has more than {MOST_SLOTS} slots in that time; ask for a shorter one")
    ids = [uuid4() for _ in slots]
    _add(uow, job, ids, slots, "backfill", parameters, who)
    note(uow, who, "backfill", job, None, {"from": begin.isoformat(), "to": end.isoformat(), "runs": len(ids)})
    return ids


def set_queue_paused(uow: UnitOfWork, queue: str, *, paused: bool, who: str) -> None:
    """Let the workers of a queue take nothing more from it, or go on; they follow within two seconds."""
    if queue not in QUEUES:
        raise UnknownQueue(queue)
    given = {"queue": queue, "paused": paused, "who": who, "now": uow.now}
    before = bool(uow.connection.execute(_PAUSED, {"queue": queue}).scalar())
    uow.connection.execute(_PAUSE, given)
    note(uow, who, "pause" if paused else "resume", queue, {"paused": before}, {"paused": paused})


def note(uow: UnitOfWork, who: str, what: str, subject: str, before: object, after: object) -> None:
    """Put on record what an operator did."""
    given = {"who": who, "what": what, "subject": subject, "now": uow.now}
    uow.connection.execute(_NOTE, {**given, "before": json.dumps(before), "after": json.dumps(after)})


def _job(uow: UnitOfWork, name: str) -> Any:
    """The job's row, locked: changes of one job happen one after the other."""
    row = uow.connection.execute(_JOB, {"job": name}).first()
    if row is None:
        raise UnknownJob(name)
    return row


def _run(uow: UnitOfWork, run_id: UUID) -> Any:
    row = uow.connection.execute(_RUN, {"id": run_id}).first()
    if row is None:
        raise UnknownRun(str(run_id))
    return row


def _add(
    uow: UnitOfWork,
    job: str,
    ids: list[UUID],
    slots: Sequence[datetime | None],
    cause: str,
    parameters: Mapping[str, Any],
    who: str,
    parent: UUID | None = None,
) -> None:
    """Runs that wait for each other; the first is sent at once where none of its job is under way."""
    uow.connection.execute(
        _ADD,
        {
            "ids": ids,
            "slots": list(slots),
            "job": job,
            "cause": cause,
            "parameters": json.dumps(dict(parameters)),
            "who": who,
            "parent": parent,
            "traceparent": current(),
            "priority": Priority.LOW if cause == "backfill" else Priority.HIGH,  # somebody waits for the others
            "now": uow.now,
        },
    )
    send_if_free(uow, _SEND_FIRST, {"job": job, "id": ids[0], "now": uow.now})


def _override(uow: UnitOfWork, job: str, changes: Mapping[str, Any], *, instead: bool = False) -> None:
    """``instead`` of what was set before, or over it. Slots before a change of the timing are not made up for."""
    given = {"job": job, "changes": json.dumps(dict(changes)), "instead": instead, "now": uow.now}
    uow.connection.execute(_OVERRIDE, {**given, "timing": sorted(TIMING)})


_JOB = text("SELECT name, declared, overrides, settings, parameters FROM jobs.jobs WHERE name = :job FOR UPDATE")
_RUN = text("""
SELECT id, job, state, outcome, scheduled_for, parameters, parent_run_id FROM jobs.job_runs WHERE id = :id FOR UPDATE
""")
_ADD = text("""
INSERT INTO jobs.job_runs (id, job, service, trigger, scheduled_for, parameters, priority, state, queued_at,
                           requested_by, parent_run_id, traceparent)
SELECT given.id, j.name, j.service, :cause, given.slot, CAST(:parameters AS jsonb), :priority, 'waiting', :now, :who,
       CAST(:parent AS uuid), :traceparent
FROM jobs.jobs j, unnest(CAST(:ids AS uuid[]), CAST(:slots AS timestamptz[])) AS given (id, slot)
WHERE j.name = :job
""")
_SEND_FIRST = text("""
UPDATE jobs.job_runs r SET state = 'queued', sent_at = :now
WHERE r.id = :id AND NOT EXISTS (
  SELECT FROM jobs.job_runs o WHERE o.job = :job AND o.part IS NULL AND o.state IN ('queued', 'running', 'joining'))
RETURNING r.id, r.job, r.service, r.parameters, r.attempt, r.priority, r.traceparent
""")
_OVERRIDE = text("""
UPDATE jobs.jobs SET
  overrides = CASE WHEN :instead THEN CAST(:changes AS jsonb) ELSE overrides || CAST(:changes AS jsonb) END,
  considered_until = CASE
    WHEN EXISTS (
      SELECT FROM unnest(CAST(:timing AS text[])) AS t (name)
      WHERE settings -> t.name IS DISTINCT FROM
        (declared || CASE WHEN :instead THEN CAST(:changes AS jsonb) ELSE overrides || CAST(:changes AS jsonb) END)
          -> t.name)
    THEN NULL ELSE considered_until END,
  due_at = NULL, next_slot = NULL, updated_at = :now
WHERE name = :job
""")
#: Its parts end with it.
_CANCEL = text("""
WITH ended AS (
  UPDATE jobs.job_runs SET
    cancel_requested_at = COALESCE(cancel_requested_at, :now), requested_by = COALESCE(requested_by, :who),
    reason = 'canceled by ' || :who,
    state = CASE WHEN state IN ('waiting', 'queued') THEN 'finished' ELSE state END,
    outcome = CASE WHEN state IN ('waiting', 'queued') THEN 'canceled' END,
    finished_at = CASE WHEN state IN ('waiting', 'queued') THEN CAST(:now AS timestamptz) END
  WHERE (id = :id OR (parent_run_id = :id AND part IS NOT NULL)) AND state <> 'finished'
  RETURNING id, state
)
SELECT state FROM ended WHERE id = :id
""")
_PAUSED = text("SELECT paused FROM jobs.queue_controls WHERE queue = :queue FOR UPDATE")
_PAUSE = text("""
INSERT INTO jobs.queue_controls (queue, paused, changed_at, changed_by) VALUES (:queue, :paused, :now, :who)
ON CONFLICT (queue) DO UPDATE SET paused = excluded.paused, changed_at = excluded.changed_at,
                                  changed_by = excluded.changed_by
""")
_NOTE = text("""
INSERT INTO jobs.operator_actions (at, who, what, subject, before, after)
VALUES (:now, :who, :what, :subject, CAST(:before AS jsonb), CAST(:after AS jsonb))
""")
