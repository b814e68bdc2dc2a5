"""Messages that wait until the one before them is settled; what a submission follows, should it be sent again."""

from alembic import op

from shared.bus import tables

revision = "gateway_0004"
down_revision = "gateway_0003"


def upgrade() -> None:
    op.execute(tables.create_v4("gateway"))
    op.execute("ALTER TABLE gateway.submissions ADD COLUMN previous uuid")
