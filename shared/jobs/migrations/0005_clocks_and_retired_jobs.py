"""The clocks of processes, and jobs that no replica declares any more."""

from alembic import op

revision = "jobs_v1_0005"
down_revision = "jobs_v1_0004"


def upgrade() -> None:
    for statements in (WORKERS, RETIRED):
        op.execute(statements)


WORKERS = """
ALTER TABLE jobs.workers
  -- by how much the process's clock is ahead of this database's
  ADD COLUMN clock_ahead interval,
  -- the jobs that a scheduler declares; null for other processes
  ADD COLUMN jobs text[];
"""
RETIRED = """
-- since when no replica declares the job
ALTER TABLE jobs.jobs ADD COLUMN retired_at timestamptz;
-- a removed job leaves its history
ALTER TABLE jobs.job_runs DROP CONSTRAINT job_runs_job_fkey;
GRANT DELETE ON jobs.jobs TO paperprofit_gateway;
CREATE POLICY remove_for_operators ON jobs.jobs FOR DELETE TO paperprofit_gateway USING (retired_at IS NOT NULL);
"""
