"""The job engine: settings that change while it runs, runs, workers, logs, alerts, breakers and rate limits."""

from alembic import op

revision = "jobs_v1_0001"
down_revision = None


def upgrade() -> None:
    for statements in (JOBS, RUNS, WORKERS, LOG, ALERTS, DEPENDENCIES, GRANTS):
        op.execute(statements)


JOBS = """
CREATE TABLE jobs.jobs (
  name text PRIMARY KEY,
  service text NOT NULL,
  description text NOT NULL,
  market text NOT NULL,
  updated_at timestamptz NOT NULL,
  -- code and configuration file, as shared.jobs.settings.JobSettings has it
  declared jsonb NOT NULL DEFAULT '{}',
  -- an operator's changes over it while it runs
  overrides jsonb NOT NULL DEFAULT '{}',
  settings jsonb NOT NULL GENERATED ALWAYS AS (declared || overrides) STORED,
  -- slots after it are considered next; the latest one that was decided on
  considered_until timestamptz,
  -- the latest slot that had a run; its slots are not run again
  last_slot timestamptz,
  -- the next slot that is known; null where there is none, or where it has to be computed
  next_slot timestamptz,
  -- when the scheduler looks at the job again: at its next slot at the latest; null means at once
  due_at timestamptz,
  -- JSON Schema of a run's parameters; null where it takes nothing
  parameters jsonb
) WITH (fillfactor = 50); -- its rows change with each slot, none of its indexes does
CREATE INDEX jobs_after ON jobs.jobs ((settings ->> 'after')) WHERE settings ->> 'after' IS NOT NULL;
CREATE TABLE jobs.operator_actions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL,
  who text NOT NULL,
  what text NOT NULL,
  subject text NOT NULL,
  before jsonb,
  after jsonb
);
"""
RUNS = """
CREATE TABLE jobs.job_runs (
  id uuid PRIMARY KEY,
  job text NOT NULL REFERENCES jobs.jobs (name),
  service text NOT NULL,
  trigger text NOT NULL CHECK (trigger IN ('schedule', 'manual', 'chain', 'part', 'retry', 'backfill')),
  scheduled_for timestamptz,
  parameters jsonb NOT NULL DEFAULT '{}',
  queued_at timestamptz NOT NULL,
  started_at timestamptz,
  finished_at timestamptz,
  attempt integer NOT NULL DEFAULT 0,
  worker text,
  outcome text CHECK (outcome IN ('succeeded', 'failed', 'canceled', 'skipped', 'lost')),
  error text,
  counts jsonb NOT NULL DEFAULT '{}',
  -- waiting: for its time or for another run; queued: its message is sent; joining: its parts are under way
  state text NOT NULL DEFAULT 'queued' CHECK (state IN ('waiting', 'queued', 'running', 'joining', 'finished')),
  priority smallint NOT NULL DEFAULT 0,
  not_before timestamptz,
  sent_at timestamptz,
  heartbeat_at timestamptz,
  cancel_requested_at timestamptz,
  failures integer NOT NULL DEFAULT 0, -- tries that failed; waiting for a dependency is none
  done bigint,
  total bigint,
  -- why it was skipped, put off, canceled or lost
  reason text,
  error_kind text CHECK (error_kind IN ('transient', 'rate_limited', 'permanent', 'unexpected')),
  -- the run that a part belongs to, that a chained one follows, or that is tried again
  parent_run_id uuid,
  part integer,
  parts integer,
  -- of consecutive skips for one reason: the last of them, and how many they are
  last_slot timestamptz,
  slots bigint NOT NULL DEFAULT 1,
  requested_by text,
  traceparent text,
  CONSTRAINT job_runs_state_and_outcome
    CHECK ((state = 'finished') = (outcome IS NOT NULL) AND (state = 'finished') = (finished_at IS NOT NULL))
);
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
GRANT SELECT, INSERT, UPDATE ON jobs.jobs TO paperprofit_services;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.job_runs TO paperprofit_services;
GRANT SELECT, INSERT ON jobs.operator_actions TO paperprofit_services;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.workers, jobs.queue_controls, jobs.system_log, jobs.notifications,
  jobs.breakers, jobs.rate_limits TO paperprofit_services;
"""
