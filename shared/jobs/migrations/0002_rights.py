"""Fewer rights: a service changes its own rows only, alerts are the gateway's, and nobody changes operators' actions.

And ``progress``, the time up to which a part of a service has done its work.
"""

from alembic import op

revision = "jobs_v1_0002"
down_revision = "jobs_v1_0001"


def upgrade() -> None:
    for statements in (PROGRESS, GRANTS, OWN_ROWS, MORE_ROWS):
        op.execute(statements)


PROGRESS = """
CREATE TABLE jobs.progress (
  service text NOT NULL,
  part text NOT NULL, -- outbox: all messages until then are sent; values: all prices until then are in the values
  reached_at timestamptz NOT NULL,
  measured_at timestamptz NOT NULL,
  PRIMARY KEY (service, part)
) WITH (fillfactor = 50);
INSERT INTO jobs.progress VALUES ('valuation', 'values', now(), now());
"""
GRANTS = """
REVOKE ALL ON ALL TABLES IN SCHEMA jobs FROM paperprofit_services;
GRANT SELECT ON jobs.alembic_version, jobs.jobs, jobs.job_runs, jobs.workers, jobs.queue_controls, jobs.system_log,
  jobs.breakers, jobs.rate_limits, jobs.progress, jobs.operator_actions TO paperprofit_services;
GRANT INSERT ON jobs.operator_actions TO paperprofit_services;
GRANT INSERT, UPDATE ON jobs.jobs, jobs.queue_controls, jobs.breakers, jobs.rate_limits, jobs.progress
  TO paperprofit_services;
GRANT INSERT, UPDATE, DELETE ON jobs.job_runs, jobs.workers TO paperprofit_services;
GRANT INSERT, DELETE ON jobs.system_log TO paperprofit_services;
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs.notifications TO paperprofit_gateway;
"""
#: The tables, and the service that a row of each belongs to. The role of a service is paperprofit_<service>.
OWNERS = {
    "jobs": "service",
    "job_runs": "service",
    "workers": "service",
    "system_log": "service",
    "progress": "service",
    "queue_controls": "split_part(queue, '.', 1)",
}
OWN_ROWS = "".join(
    f"""
    ALTER TABLE jobs.{table} ENABLE ROW LEVEL SECURITY;
    CREATE POLICY read ON jobs.{table} FOR SELECT USING (true);
    CREATE POLICY own_rows ON jobs.{table} USING ({owner} = substr(CURRENT_USER, 13));
    -- operators act on all services through the gateway
    CREATE POLICY add_for_operators ON jobs.{table} FOR INSERT TO paperprofit_gateway WITH CHECK (true);
    CREATE POLICY change_for_operators ON jobs.{table} FOR UPDATE TO paperprofit_gateway USING (true);
    """
    for table, owner in OWNERS.items()
)
MORE_ROWS = """
-- a run that follows one of ours may be of another service
CREATE POLICY chained ON jobs.job_runs FOR INSERT WITH CHECK (
  trigger = 'chain' AND state = 'waiting' AND EXISTS (
    SELECT FROM jobs.jobs follower JOIN jobs.jobs followed ON followed.name = follower.settings ->> 'after'
    WHERE follower.name = job_runs.job AND followed.service = substr(CURRENT_USER, 13)));
-- a line may name the service that it is about
CREATE POLICY lines ON jobs.system_log FOR INSERT WITH CHECK (true);
"""
