"""Which message of a key was the last, so that the next one can name it."""

from alembic import op

from shared.bus import tables

revision = "marketdata_0003"
down_revision = "marketdata_0002"


def upgrade() -> None:
    op.execute(tables.create_v3("marketdata"))
