"""Removal of a job that no replica declares any more. Its runs stay as history, until their retention ends."""

from sqlalchemy import text

from shared.bus.unit_of_work import UnitOfWork
from shared.jobs.admin.control import UnknownJob, record_action
from shared.jobs.engine.claims import may_be_declared


class JobDeclared(ValueError):
    """A live replica declares the job."""


def remove(uow: UnitOfWork, job: str, *, who: str) -> None:
    """Remove the job and its settings, and cancel its unfinished runs. Raises UnknownJob and JobDeclared."""
    row = uow.connection.execute(_JOB, {"job": job}).first()
    if row is None:
        raise UnknownJob(job)
    if may_be_declared(uow.connection, row.service, job, retired=row.retired_at is not None):
        raise JobDeclared(f"replicas of {row.service} declare {job}: deploy a version without it, or disable it")
    canceled = uow.connection.execute(_CANCEL, {"job": job, "who": who, "now": uow.now}).rowcount
    uow.connection.execute(_RETIRE, {"job": job})
    uow.connection.execute(_REMOVE, {"job": job})
    before = {"service": row.service, "settings": row.settings, "overrides": row.overrides}
    record_action(uow, who, "remove", job, before, {"canceled_runs": canceled})


_JOB = text("SELECT service, settings, overrides, retired_at FROM jobs.jobs WHERE name = :job FOR UPDATE")
#: A worker that still works on such a run learns at its next heartbeat that the run is no longer its own.
_CANCEL = text("""
UPDATE jobs.job_runs SET
  state = 'finished', outcome = 'canceled', finished_at = :now,
  cancel_requested_at = COALESCE(cancel_requested_at, :now), requested_by = COALESCE(requested_by, :who),
  reason = 'canceled by ' || :who || ', who removed the job'
WHERE job = :job AND active IS NOT NULL
""")
#: The gateway may delete retired jobs only.
_RETIRE = text("UPDATE jobs.jobs SET retired_at = COALESCE(retired_at, now()) WHERE name = :job")
_REMOVE = text("DELETE FROM jobs.jobs WHERE name = :job")
