"""Messages that wait until the one before them is settled; the trace that an order belongs to."""

from alembic import op

from shared.bus import tables

revision = "orders_0004"
down_revision = "orders_0003"


def upgrade() -> None:
    op.execute(tables.create_v4("orders"))
    op.execute("ALTER TABLE orders.orders ADD COLUMN trace text")
