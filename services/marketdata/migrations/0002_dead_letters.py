"""Dead letters that can be read, sent again and discarded; the latest sequence applied of each key."""

from alembic import op

from shared.bus import tables

revision = "marketdata_0002"
down_revision = "marketdata_0001"


def upgrade() -> None:
    op.execute(tables.create_v2("marketdata"))
