"""The mark of a strategy's largest position."""

from alembic import op

revision = "strategy_v1_0005"
down_revision = "strategy_v1_0004"


def upgrade() -> None:
    op.execute("""
    -- null until it is measured after a start or a resume
    ALTER TABLE strategy.strategies ADD COLUMN concentration_mark numeric DEFAULT 0;
    """)
