"""Messages that wait until the one before them is settled."""

from alembic import op

from shared.bus import tables

revision = "marketdata_0004"
down_revision = "marketdata_0003"


def upgrade() -> None:
    op.execute(tables.create_v4("marketdata"))
