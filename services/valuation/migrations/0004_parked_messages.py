"""Messages that wait until the one before them is settled."""

from alembic import op

from shared.bus import tables

revision = "valuation_0004"
down_revision = "valuation_0003"


def upgrade() -> None:
    op.execute(tables.create_v4("valuation"))
