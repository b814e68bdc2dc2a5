"""Cheaper updates of runs, the clocks of processes, and jobs that no replica declares any more."""

from alembic import op

revision = "jobs_v1_0004"
down_revision = "jobs_v1_0003"


def upgrade() -> None:
    for statements in (RUNS, WORKERS, RETIRED):
        op.execute(statements)


#: No index has a column that changes while a run is under way, so its updates add nothing to the indexes.
RUNS = """
DROP INDEX jobs.job_runs_one_active, jobs.job_runs_unfinished, jobs.job_runs_waiting, jobs.job_runs_under_way;
ALTER TABLE jobs.job_runs
  -- false: it waits; true: it is queued, running or joining; null: it has ended
  ADD COLUMN active boolean GENERATED ALWAYS AS (CASE WHEN state <> 'finished' THEN state <> 'waiting' END) STORED,
  -- a removed job leaves its history
  DROP CONSTRAINT job_runs_job_fkey,
  SET (fillfactor = 80);
-- of each job one run is under way at a time; its parts are beside it
CREATE UNIQUE INDEX job_runs_one_active ON jobs.job_runs (job) WHERE active AND part IS NULL;
CREATE INDEX job_runs_unfinished ON jobs.job_runs (job) WHERE active IS NOT NULL AND part IS NULL;
CREATE INDEX job_runs_waiting ON jobs.job_runs (service) WHERE NOT active;
CREATE INDEX job_runs_under_way ON jobs.job_runs (service) WHERE active;
"""
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
GRANT DELETE ON jobs.jobs TO paperprofit_gateway;
CREATE POLICY remove_for_operators ON jobs.jobs FOR DELETE TO paperprofit_gateway USING (retired_at IS NOT NULL);
"""
