"""Operators' changes to jobs, runs and queues. Each change is recorded: who, what, before and after.

LookupError
├── UnknownJob, UnknownRun, UnknownQueue
ValueError
├── InvalidSetting      the job cannot have this setting or parameter, which it names (shared.jobs.settings)
├── RunFinished         the run has ended, so it cannot be canceled
├── RunUnfinished       the run has not ended, so it cannot be retried
├── JobRetired          no replica declares the job any more, so nothing would run it
├── TooManyRuns         so many runs of the job wait already that no more are taken
├── NotBackfilled       the job says that it cannot run for slots of the past
│   └── NotPassed       the time to backfill lies in the future
├── NoSlots             the schedule has no slot in that time
└── TooManySlots        the schedule has more slots in that time than one request may backfill
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from shared.bus.tracing import current
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.priority import Priority
from shared.contracts.routing import QUEUES
from shared.jobs.checks import check_chain, check_parameters
from shared.jobs.engine.claims import decide_up_to_now
from shared.jobs.engine.dispatch import send_if_idle
from shared.jobs.engine.followers import FOLLOWERS, ended_columns, round_of
from shared.jobs.engine.parts import advance
from shared.jobs.run_context import Trigger
from shared.jobs.schedule.calendar import LoadMarket
from shared.jobs.schedule.planning import slots_between
from shared.jobs.settings import TIMING, JobSettings, check_settings, stored_settings

MAX_SLOTS = 1000
#: The most runs of one job that somebody asked for one by one and that have not ended, and the most of all its runs.
MAX_ASKED, MAX_UNFINISHED = 100, 2000


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


class JobRetired(ValueError):
    """No replica declares the job any more."""


class TooManyRuns(ValueError):
    """Too many runs of the job have not ended yet."""


class NotBackfilled(ValueError):
    """The job cannot be backfilled, or not for that time."""


class NotPassed(NotBackfilled):
    """The time to backfill has not passed yet."""


class NoSlots(ValueError):
    """The job has no slots in that time."""


class TooManySlots(ValueError):
    """The job has more slots in that time than one request may backfill."""


def trigger(uow: UnitOfWork, job: str, *, parameters: Mapping[str, Any], who: str) -> UUID:
    """Queue a run, even if the job is disabled or its market closed. It starts after the run before it.

    Raises UnknownJob, JobRetired, TooManyRuns, and InvalidSetting for parameters that the job does not take.
    """
    row = _declared_job(uow, job)
    check_parameters(row.parameters, parameters)
    run_id = uuid4()
    _add(uow, job, [run_id], [None], Trigger.MANUAL, parameters, who)
    record_action(uow, who, "trigger", job, None, {"run_id": str(run_id), "parameters": dict(parameters)})
    return run_id


def set_enabled(uow: UnitOfWork, job: str, *, enabled: bool, load_market: LoadMarket, who: str) -> None:
    """Enable or disable a job from now on. The scheduler follows within two seconds. Raises UnknownJob."""
    row = _job(uow, job)
    _override(uow, row, row.overrides | {"enabled": enabled}, load_market)
    record_action(uow, who, "toggle", job, {"enabled": row.settings["enabled"]}, {"enabled": enabled})


def edit(uow: UnitOfWork, job: str, changes: Mapping[str, Any], *, load_market: LoadMarket, who: str) -> dict[str, Any]:
    """Change settings from now on, and return all current settings. None restores the declared setting.

    Slots that came before the change, and that no tick has decided yet, are decided by the settings before it.

    Raises UnknownJob, and InvalidSetting for the first setting that the job cannot have.
    """
    row = _job(uow, job)
    kept = {name: value for name, value in row.overrides.items() if changes.get(name, ...) is not None}
    given = {name: value for name, value in changes.items() if value is not None}
    unknown = set(changes) - set(JobSettings.model_fields) - {"interval"}
    overrides = kept | check_settings(given if not unknown else changes, base={**row.declared, **kept})
    settings = {**row.declared, **overrides}
    check_chain(uow.connection, job, settings["after"])
    _override(uow, row, overrides, load_market)
    changed = {name for name in settings if settings[name] != row.settings[name]}
    record_action(uow, who, "edit", job, {n: row.settings[n] for n in changed}, {n: settings[n] for n in changed})
    return settings


def cancel(uow: UnitOfWork, run_id: UUID, *, who: str) -> str:
    """Cancel a run, and return its state: a waiting run ends at once, a running one at its next check.

    Raises UnknownRun and RunFinished.
    """
    row = _run(uow, run_id)
    if row.state == "finished":
        raise RunFinished(f"the run has ended already: {row.outcome}")
    after = uow.connection.execute(_CANCEL, {"id": run_id, "who": who, "now": uow.now}).scalar_one()
    for parent in {run_id, row.parent_run_id} - {None}:
        advance(uow, parent)
    record_action(uow, who, "cancel", str(run_id), {"state": row.state}, {"state": after})
    return str(after)


def retry(uow: UnitOfWork, run_id: UUID, *, who: str) -> UUID:
    """Queue another run for the same slot with the same parameters.

    The retry of a part runs that part, takes the results of the other parts from the run that it belongs to, and joins
    them. Raises UnknownRun, RunUnfinished, UnknownJob, JobRetired and TooManyRuns.
    """
    row = whole = _run(uow, run_id)
    if row.part is not None:
        whole = _run(uow, row.parent_run_id)
    if whole.state != "finished":
        raise RunUnfinished("the run has not ended yet; cancel it first")
    _declared_job(uow, row.job)
    again = uuid4()
    _add(uow, row.job, [again], [whole.scheduled_for], Trigger.RETRY, whole.parameters, who, whole.id, row.part)
    record_action(uow, who, "retry", str(run_id), {"outcome": row.outcome}, {"run_id": str(again)})
    return again


def backfill(
    uow: UnitOfWork,
    job: str,
    begin: datetime,
    end: datetime,
    *,
    load_market: LoadMarket,
    parameters: Mapping[str, Any],
    who: str,
) -> list[UUID]:
    """Queue a run for each of the job's slots from ``begin`` to before ``end``, and return the runs in that order.

    Raises UnknownJob, JobRetired, NotBackfilled, NoSlots, TooManySlots, TooManyRuns, and InvalidSetting for parameters
    that the job does not take.
    """
    row = _declared_job(uow, job)
    check_parameters(row.parameters, parameters)
    settings = stored_settings(row.settings)
    if not settings.backfill:
        raise NotBackfilled(f"{job} does not run for slots of the past: its setting backfill is false")
    if end > uow.now:
        raise NotPassed("must not lie in the future: the time to backfill must have passed")
    market = load_market(uow.connection, settings.market, begin, end)
    slots = list(islice(slots_between(settings, market, begin, end), MAX_SLOTS + 1)) if market else []
    if not slots:
        raise NoSlots(f"{job} has no slot in that time; ask for a longer one")
    if len(slots) > MAX_SLOTS:
        raise TooManySlots(f"{job} has more than {MAX_SLOTS} slots in that time; ask for a shorter one")
    ids = [uuid4() for _ in slots]
    _add(uow, job, ids, slots, Trigger.BACKFILL, parameters, who)
    record_action(uow, who, "backfill", job, None, {"from": begin.isoformat(), "to": end.isoformat(), "runs": len(ids)})
    return ids


def set_queue_paused(uow: UnitOfWork, queue: str, *, paused: bool, who: str) -> None:
    """Pause or resume a queue. Its workers follow within two seconds. Raises UnknownQueue."""
    if queue not in QUEUES:
        raise UnknownQueue(queue)
    given = {"queue": queue, "paused": paused, "who": who, "now": uow.now}
    before = bool(uow.connection.execute(_PAUSED, {"queue": queue}).scalar())
    uow.connection.execute(_PAUSE, given)
    record_action(uow, who, "pause" if paused else "resume", queue, {"paused": before}, {"paused": paused})


def record_action(uow: UnitOfWork, who: str, what: str, subject: str, before: object, after: object) -> None:
    """Record an operator's action."""
    given = {"who": who, "what": what, "subject": subject, "now": uow.now}
    uow.connection.execute(_RECORD, {**given, "before": json.dumps(before), "after": json.dumps(after)})


def _job(uow: UnitOfWork, name: str) -> Any:
    """Lock the job's row, so that changes to one job happen one after the other."""
    row = uow.connection.execute(_JOB, {"job": name}).first()
    if row is None:
        raise UnknownJob(name)
    return row


def _declared_job(uow: UnitOfWork, name: str) -> Any:
    """Lock the row of a job that some replica runs. Raises UnknownJob and JobRetired."""
    row = _job(uow, name)
    if row.retired_at is not None:
        since = f"{row.retired_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        raise JobRetired(
            f"{name} is retired, since no replica has declared it from {since} on: deploy a version that declares it,"
            f" or remove it with DELETE /api/jobs/{name}"
        )
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
    trigger: Trigger,
    parameters: Mapping[str, Any],
    who: str,
    parent: UUID | None = None,
    only_part: int | None = None,
) -> None:
    """Add runs that wait for each other. The first is sent at once if no other run of its job is in progress.

    Raises TooManyRuns.
    """
    waiting = uow.connection.execute(_UNFINISHED, {"job": job}).one()
    if waiting.runs + len(ids) > MAX_UNFINISHED or (len(ids) == 1 and waiting.asked >= MAX_ASKED):
        raise TooManyRuns(f"{waiting.runs} runs of {job} have not ended yet: wait until some have, or cancel them")
    uow.connection.execute(
        _ADD,
        {
            "ids": ids,
            "slots": list(slots),
            "job": job,
            "trigger": trigger,
            "parameters": json.dumps(dict(parameters)),
            "who": who,
            "parent": parent,
            "only_part": only_part,
            "traceparent": current(),
            "priority": Priority.LOW if trigger is Trigger.BACKFILL else Priority.HIGH,  # somebody waits for it
            "now": uow.now,
        },
    )
    send_if_idle(uow, _SEND_FIRST, {"job": job, "id": ids[0], "now": uow.now})


def _override(uow: UnitOfWork, row: Any, overrides: Mapping[str, Any], load_market: LoadMarket) -> None:
    """Replace the overrides. If the timing changes, the slots up to now are decided by the timing before."""
    settings = {**row.declared, **overrides}
    if row.retired_at is None and any(settings.get(name) != row.settings.get(name) for name in TIMING):
        decide_up_to_now(uow.connection, [row.name], uow.now, load_market=load_market)
    given = {"job": row.name, "overrides": json.dumps(dict(overrides)), "now": uow.now}
    uow.connection.execute(_OVERRIDE, {**given, "timing": sorted(TIMING)})


_JOB = text("""
SELECT name, declared, overrides, settings, parameters, retired_at FROM jobs.jobs WHERE name = :job FOR UPDATE
""")
_RUN = text("""
SELECT id, job, state, outcome, scheduled_for, parameters, parent_run_id, part FROM jobs.job_runs
WHERE id = :id FOR UPDATE
""")
_UNFINISHED = text("""
SELECT count(*) AS runs, count(*) FILTER (WHERE trigger IN ('manual', 'retry')) AS asked FROM jobs.job_runs
WHERE job = :job AND active IS NOT NULL AND part IS NULL
""")
_ADD = text(f"""
INSERT INTO jobs.job_runs (id, job, service, trigger, scheduled_for, parameters, priority, state, queued_at,
                           requested_by, parent_run_id, only_part, traceparent, round)
SELECT given.id, j.name, j.service, :trigger, given.slot, CAST(:parameters AS jsonb), :priority, 'waiting', :now, :who,
       CAST(:parent AS uuid), CAST(:only_part AS integer), :traceparent,
       (SELECT {round_of("p")} FROM jobs.job_runs p WHERE p.id = CAST(:parent AS uuid))
FROM jobs.jobs j, unnest(CAST(:ids AS uuid[]), CAST(:slots AS timestamptz[])) AS given (id, slot)
WHERE j.name = :job
""")
_SEND_FIRST = text("""
UPDATE jobs.job_runs r SET state = 'queued', sent_at = :now
WHERE r.id = :id AND NOT EXISTS (
  SELECT FROM jobs.job_runs o WHERE o.job = :job AND o.part IS NULL AND o.active)
RETURNING r.id, r.job, r.service, r.parameters, r.attempt, r.priority, r.traceparent
""")
_OVERRIDE = text("""
UPDATE jobs.jobs SET
  overrides = CAST(:overrides AS jsonb),
  considered_until = CASE
    WHEN EXISTS (
      SELECT FROM unnest(CAST(:timing AS text[])) AS t (name)
      WHERE settings -> t.name IS DISTINCT FROM (declared || CAST(:overrides AS jsonb)) -> t.name)
    THEN NULL ELSE considered_until END,
  due_at = NULL, next_slot = NULL, updated_at = :now
WHERE name = :job
""")
#: The parts of a run end with it. The joins that wait for it hear of it.
_CANCEL = text(f"""
WITH ended AS (
  UPDATE jobs.job_runs r SET
    cancel_requested_at = COALESCE(cancel_requested_at, :now), requested_by = COALESCE(requested_by, :who),
    reason = 'canceled by ' || :who,
    state = CASE WHEN state IN ('waiting', 'queued') THEN 'finished' ELSE state END,
    outcome = CASE WHEN state IN ('waiting', 'queued') THEN 'canceled' END,
    finished_at = CASE WHEN state IN ('waiting', 'queued') THEN CAST(:now AS timestamptz) END
  WHERE (id = :id OR (parent_run_id = :id AND part IS NOT NULL)) AND state <> 'finished'
  RETURNING r.state, {ended_columns("r")}
), {FOLLOWERS}
SELECT state FROM ended WHERE id = :id
""")
_PAUSED = text("SELECT paused FROM jobs.queue_controls WHERE queue = :queue FOR UPDATE")
_PAUSE = text("""
INSERT INTO jobs.queue_controls (queue, paused, changed_at, changed_by) VALUES (:queue, :paused, :now, :who)
ON CONFLICT (queue) DO UPDATE SET paused = excluded.paused, changed_at = excluded.changed_at,
                                  changed_by = excluded.changed_by
""")
_RECORD = text("""
INSERT INTO jobs.operator_actions (at, who, what, subject, before, after)
VALUES (:now, :who, :what, :subject, CAST(:before AS jsonb), CAST(:after AS jsonb))
""")
