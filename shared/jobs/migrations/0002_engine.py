"""The job engine: settings that change while it runs, runs with a state, workers, logs, alerts, breakers and limits.

The columns of ``jobs.jobs`` that the settings replace stay for a release: replicas of the one before still read them.
"""

from alembic import op

revision = "jobs_0002"
down_revision = "jobs_0001"


def upgrade() -> None:
    for statements in (SETTINGS, RUNS, WORKERS, LOG, ALERTS, DEPENDENCIES, GRANTS):
        op.execute(statements)


SETTINGS = """
ALTER TABLE jobs.jobs
  ALTER COLUMN declared_enabled DROP NOT NULL,
  ALTER COLUMN declared_interval_seconds DROP NOT NULL,
  ALTER COLUMN declared_market_hours_only DROP NOT NULL,
  -- what code and configuration file say, as shared.jobs.settings.JobSettings has it
  ADD COLUMN declared jsonb NOT NULL DEFAULT '{}',
  -- what an operator set over it while it runs
  ADD COLUMN overrides jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN settings jsonb NOT NULL GENERATED ALWAYS AS (declared || overrides) STORED,
  -- slots after it are considered next; the latest one that was decided on
  ADD COLUMN considered_until timestamptz,
  -- the next slot that is known; null where there is none, or where it has to be computed
  ADD COLUMN next_slot timestamptz,
  -- when the scheduler looks at the job again: at its next slot at the latest; null means at once
  ADD COLUMN due_at timestamptz,
  -- JSON Schema of what a run may be given; null where it takes nothing
  ADD COLUMN parameters jsonb;
UPDATE jobs.jobs SET considered_until = last_slot,
  overrides = CASE WHEN enabled IS NULL THEN '{}' ELSE jsonb_build_object('enabled', enabled) END;
ALTER TABLE jobs.jobs SET (fillfactor = 50); -- its rows change with each slot, none of its indexes does
CREATE INDEX jobs_after ON jobs.jobs ((settings ->> 'after')) WHERE settings ->> 'after' IS NOT NULL;
"""

RUNS = """
ALTER TABLE jobs.job_runs
  DROP CONSTRAINT job_runs_trigger_check,
  DROP CONSTRAINT job_runs_outcome_check,
  DROP CONSTRAINT job_runs_job_scheduled_for_key,
  ADD CONSTRAINT job_runs_trigger_check
    CHECK (trigger IN ('schedule', 'manual', 'chain', 'part', 'retry', 'backfill')),
  ADD CONSTRAINT job_runs_outcome_check
    CHECK (outcome IN ('succeeded', 'failed', 'canceled', 'skipped', 'lost')),
  -- waiting: for its time or for another run; queued: its message is sent; joining: its parts are under way
  ADD COLUMN state text NOT NULL DEFAULT 'queued'
    CHECK (state IN ('waiting', 'queued', 'running', 'joining', 'finished')),
  ADD COLUMN priority smallint NOT NULL DEFAULT 0,
  ADD COLUMN not_before timestamptz,
  ADD COLUMN sent_at timestamptz,
  ADD COLUMN heartbeat_at timestamptz,
  ADD COLUMN cancel_requested_at timestamptz,
  ADD COLUMN failures integer NOT NULL DEFAULT 0, -- tries that failed; waiting for a dependency is none
  ADD COLUMN done bigint,
  ADD COLUMN total bigint,
  -- why it was skipped, put off, canceled or lost
  ADD COLUMN reason text,
  ADD COLUMN error_kind text CHECK (error_kind IN ('transient', 'rate_limited', 'permanent', 'unexpected')),
  -- the run that a part belongs to, that a chained one follows, or that is tried again
  ADD COLUMN parent_run_id uuid,
  ADD COLUMN part integer,
  ADD COLUMN parts integer,
  -- of consecutive skips for one reason: the last of them, and how many they are
  ADD COLUMN last_slot timestamptz,
  ADD COLUMN slots bigint NOT NULL DEFAULT 1,
  ADD COLUMN requested_by text,
  ADD COLUMN traceparent text;
UPDATE jobs.job_runs SET state = CASE WHEN finished_at IS NOT NULL THEN 'finished'
                                      WHEN started_at IS NOT NULL THEN 'running' ELSE 'queued' END;
UPDATE jobs.job_runs SET heartbeat_at = started_at WHERE state = 'running';
UPDATE jobs.job_runs r SET state = 'finished', outcome = 'lost', finished_at = now(), reason = 'ended by an upgrade'
WHERE state <> 'finished'
  AND EXISTS (SELECT FROM jobs.job_runs o WHERE o.job = r.job AND o.state <> 'finished' AND o.queued_at > r.queued_at);
ALTER TABLE jobs.job_runs ADD CONSTRAINT job_runs_state_and_outcome
  CHECK ((state = 'finished') = (outcome IS NOT NULL) AND (state = 'finished') = (finished_at IS NOT NULL));
DROP INDEX jobs.job_runs_by_job, jobs.job_runs_unfinished;
CREATE UNIQUE INDEX job_runs_slot ON jobs.job_runs (job, scheduled_for) WHERE trigger = 'schedule';
-- of each job one run is under way at a time; its parts are beside it
CREATE UNIQUE INDEX job_runs_one_active ON jobs.job_runs (job)
  WHERE state IN ('queued', 'running', 'joining') AND part IS NULL;
CREATE INDEX job_runs_unfinished ON jobs.job_runs (job) WHERE state <> 'finished' AND part IS NULL;
CREATE INDEX job_runs_waiting ON jobs.job_runs (service, not_before) WHERE state = 'waiting';
CREATE INDEX job_runs_under_way ON jobs.job_runs (service, state, heartbeat_at)
  WHERE state IN ('queued', 'running', 'joining');
CREATE INDEX job_runs_latest ON jobs.job_runs (job, queued_at DESC, id DESC) WHERE part IS NULL;
CREATE INDEX job_runs_by_time ON jobs.job_runs (queued_at DESC, id DESC);
CREATE INDEX job_runs_by_parent ON jobs.job_runs (parent_run_id, part) WHERE parent_run_id IS NOT NULL;
"""

WORKERS = """
CREATE TABLE jobs.workers (
  id text PRIMARY KEY, -- host:pid:start
  service text NOT NULL,
  host text NOT NULL,
  pid integer NOT NULL,
  kind text NOT NULL CHECK (kind IN ('worker', 'scheduler', 'gateway')),
  queues text[] NOT NULL DEFAULT '{}',
  runs integer NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL,
  heartbeat_at timestamptz NOT NULL,
  stopped_at timestamptz
);
CREATE TABLE jobs.queue_controls (
  queue text PRIMARY KEY,
  paused boolean NOT NULL,
  changed_at timestamptz NOT NULL,
  changed_by text NOT NULL
);
"""

LOG = """
CREATE TABLE jobs.system_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL,
  service text NOT NULL,
  level text NOT NULL CHECK (level IN ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')),
  logger text NOT NULL,
  message text NOT NULL,
  fields jsonb NOT NULL DEFAULT '{}',
  error text, -- with its traceback
  worker text NOT NULL,
  job text,
  run_id uuid,
  trace_id text
);
CREATE INDEX system_log_by_time ON jobs.system_log (at DESC, id DESC);
CREATE INDEX system_log_by_run ON jobs.system_log (run_id, id) WHERE run_id IS NOT NULL;
"""

ALERTS = """
CREATE TABLE jobs.notifications (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,
  subject text NOT NULL, -- the job, run, breaker, queue, service or worker that it is about
  severity text NOT NULL CHECK (severity IN ('warning', 'critical')),
  message text NOT NULL,
  facts jsonb NOT NULL DEFAULT '{}',
  opened_at timestamptz NOT NULL,
  seen_at timestamptz NOT NULL,
  resolved_at timestamptz,
  sent_at timestamptz,
  recovery_sent_at timestamptz,
  tries integer NOT NULL DEFAULT 0,
  next_try_at timestamptz,
  error text -- of the last try to send it
);
CREATE UNIQUE INDEX notifications_open ON jobs.notifications (kind, subject) WHERE resolved_at IS NULL;
CREATE INDEX notifications_by_time ON jobs.notifications (opened_at DESC, id DESC);
CREATE INDEX notifications_to_send ON jobs.notifications (next_try_at)
  WHERE sent_at IS NULL OR (resolved_at IS NOT NULL AND recovery_sent_at IS NULL);
"""

DEPENDENCIES = """
CREATE TABLE jobs.breakers (
  name text PRIMARY KEY, -- the dependency that it guards
  state text NOT NULL CHECK (state IN ('closed', 'open', 'half_open')),
  failures integer NOT NULL DEFAULT 0, -- in a row
  since timestamptz NOT NULL, -- of the state
  next_attempt_at timestamptz,
  openings integer NOT NULL DEFAULT 0, -- in a row; the pause grows with them
  last_error text,
  updated_at timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE jobs.rate_limits (
  name text PRIMARY KEY,
  allowed integer NOT NULL CHECK (allowed >= 1), -- calls in each period
  period_seconds numeric NOT NULL CHECK (period_seconds > 0),
  full_until timestamptz NOT NULL, -- the theoretical arrival time of the generic cell rate algorithm
  refused bigint NOT NULL DEFAULT 0,
  updated_at timestamptz NOT NULL
) WITH (fillfactor = 70);
"""

GRANTS = """
GRANT DELETE ON jobs.job_runs TO paperprofit_services;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.workers, jobs.queue_controls, jobs.system_log, jobs.notifications,
  jobs.breakers, jobs.rate_limits TO paperprofit_services;
"""
