"""The part that a retry runs again."""

from alembic import op

revision = "jobs_v1_0003"
down_revision = "jobs_v1_0002"


def upgrade() -> None:
    op.execute("""
    -- of a retry: only this part of the earlier run runs again
    ALTER TABLE jobs.job_runs ADD COLUMN only_part integer CHECK (only_part IS NULL OR trigger = 'retry');
    """)
