"""Jobs: live settings, runs and what operators did."""

from alembic import op

revision = "jobs_0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
    CREATE TABLE jobs.jobs (
      name text PRIMARY KEY,
      service text NOT NULL,
      description text NOT NULL,
      market text NOT NULL,
      -- what code and configuration file say
      declared_enabled boolean NOT NULL,
      declared_interval_seconds integer NOT NULL CHECK (declared_interval_seconds >= 1),
      declared_market_hours_only boolean NOT NULL,
      -- what an operator set while it runs; null follows the declaration
      enabled boolean,
      interval_seconds integer CHECK (interval_seconds >= 1),
      market_hours_only boolean,
      last_slot timestamptz,
      updated_at timestamptz NOT NULL
    );
    CREATE TABLE jobs.job_runs (
      id uuid PRIMARY KEY,
      job text NOT NULL REFERENCES jobs.jobs (name),
      service text NOT NULL,
      trigger text NOT NULL CHECK (trigger IN ('schedule', 'manual')),
      scheduled_for timestamptz,
      parameters jsonb NOT NULL DEFAULT '{}',
      queued_at timestamptz NOT NULL,
      started_at timestamptz,
      finished_at timestamptz,
      attempt integer NOT NULL DEFAULT 0,
      worker text,
      outcome text CHECK (outcome IN ('succeeded', 'failed')),
      error text,
      counts jsonb NOT NULL DEFAULT '{}',
      UNIQUE (job, scheduled_for)
    );
    CREATE INDEX job_runs_by_job ON jobs.job_runs (job, queued_at DESC);
    CREATE INDEX job_runs_unfinished ON jobs.job_runs (job) WHERE finished_at IS NULL;
    CREATE TABLE jobs.operator_actions (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      at timestamptz NOT NULL,
      who text NOT NULL,
      what text NOT NULL,
      subject text NOT NULL,
      before jsonb,
      after jsonb
    );
    GRANT SELECT, INSERT, UPDATE ON jobs.jobs, jobs.job_runs TO paperprofit_services;
    GRANT SELECT, INSERT ON jobs.operator_actions TO paperprofit_services;
    """)
