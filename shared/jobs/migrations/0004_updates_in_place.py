"""Cheaper updates of runs: no index has a column that changes while a run is under way.

Starts and heartbeats then add nothing to the indexes. The end of a run does, because unfinished runs are found by one.
"""

from alembic import op

revision = "jobs_v1_0004"
down_revision = "jobs_v1_0003"


def upgrade() -> None:
    op.execute("""
    DROP INDEX jobs.job_runs_one_active, jobs.job_runs_unfinished, jobs.job_runs_waiting, jobs.job_runs_under_way;
    ALTER TABLE jobs.job_runs
      -- false: it waits; true: it is queued, running or joining; null: it has ended
      ADD COLUMN active boolean GENERATED ALWAYS AS (CASE WHEN state <> 'finished' THEN state <> 'waiting' END) STORED,
      SET (fillfactor = 80);
    -- of each job one run is under way at a time; its parts are beside it
    CREATE UNIQUE INDEX job_runs_one_active ON jobs.job_runs (job) WHERE active AND part IS NULL;
    CREATE INDEX job_runs_unfinished ON jobs.job_runs (job) WHERE active IS NOT NULL AND part IS NULL;
    CREATE INDEX job_runs_waiting ON jobs.job_runs (service) WHERE NOT active;
    CREATE INDEX job_runs_under_way ON jobs.job_runs (service) WHERE active;
    """)
