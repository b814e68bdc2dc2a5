"""Jobs that follow several others: the rounds of runs, and the joins that wait for their parents."""

from alembic import op

revision = "jobs_v1_0006"
down_revision = "jobs_v1_0005"


def upgrade() -> None:
    for statements in (ROUNDS, JOINS, RIGHTS):
        op.execute(statements)


ROUNDS = """
-- of chained runs and retries: the round that the first run of their chain began
ALTER TABLE jobs.job_runs ADD COLUMN round text;
-- finds the jobs that follow a job by an edge of a list
CREATE INDEX jobs_after_each ON jobs.jobs USING gin ((settings -> 'after') jsonb_path_ops)
  WHERE jsonb_typeof(settings -> 'after') = 'array';
"""
JOINS = """
-- what the parents of a job have done in a round
CREATE TABLE jobs.joins (
  job text NOT NULL, -- that follows
  service text NOT NULL, -- of that job
  round text NOT NULL,
  run_id uuid NOT NULL, -- its run in this round, which waits until started_by is set
  parents text[] NOT NULL,
  any_parent boolean NOT NULL, -- one satisfied edge is enough
  satisfied jsonb NOT NULL, -- parent: its run that satisfied the edge
  unsatisfied jsonb NOT NULL, -- parent: its outcome, or the condition that its run did not meet
  opened_by uuid NOT NULL, -- the run of a parent that the run was made by
  opened_at timestamptz NOT NULL,
  started_by uuid, -- the run that satisfied the last edge that was missing
  skipped_at timestamptz,
  PRIMARY KEY (job, round)
);
CREATE UNIQUE INDEX joins_by_run ON jobs.joins (run_id);
CREATE INDEX joins_open ON jobs.joins (service) WHERE started_by IS NULL AND skipped_at IS NULL;
"""
#: A run may be of another service than those that follow it, so its service writes their joins and adds their runs.
RIGHTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.joins TO paperprofit_services;
ALTER TABLE jobs.joins ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON jobs.joins FOR SELECT USING (true);
CREATE POLICY own_rows ON jobs.joins USING (service = substr(CURRENT_USER, 13));
CREATE POLICY add_for_operators ON jobs.joins FOR INSERT TO paperprofit_gateway WITH CHECK (true);
CREATE POLICY change_for_operators ON jobs.joins FOR UPDATE TO paperprofit_gateway USING (true);
CREATE FUNCTION jobs.follows_own(follower text) RETURNS boolean STABLE LANGUAGE sql AS $$
  SELECT EXISTS (
    SELECT FROM jobs.jobs f JOIN jobs.jobs p
      ON f.settings -> 'after' @> jsonb_build_array(jsonb_build_object('job', p.name))
    WHERE f.name = follower AND p.service = substr(CURRENT_USER, 13))
$$;
CREATE POLICY add_followers ON jobs.joins FOR INSERT WITH CHECK (jobs.follows_own(job));
CREATE POLICY change_followers ON jobs.joins FOR UPDATE USING (jobs.follows_own(job));
CREATE POLICY joined ON jobs.job_runs FOR INSERT WITH CHECK (
  trigger = 'chain' AND state = 'waiting' AND jobs.follows_own(job));
"""
