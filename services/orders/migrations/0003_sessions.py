"""Limits that rest, extended hours, the end of gtc orders, and all that was consumed of an update."""

from alembic import op

revision = "orders_v1_0003"
down_revision = "orders_v1_0002"


def upgrade() -> None:
    op.execute(ORDERS)
    op.execute(CONSUMED)


#: Of an order from before this it is not known if it rests. Only orders with extended hours fill outside of regular
#: sessions, so another index finds them then, however many others wait for the open.
ORDERS = """
ALTER TABLE orders.orders ADD COLUMN rests boolean,
  ADD COLUMN works_extended boolean NOT NULL GENERATED ALWAYS AS (
    status IN ('accepted', 'partially_filled') AND extended_hours) STORED;
CREATE INDEX orders_extended ON orders.orders (symbol, trigger_direction, trigger_price) WHERE works_extended;
UPDATE orders.orders SET expires_at = accepted_at + interval '90 days' WHERE is_open AND time_in_force = 'gtc';
"""
CONSUMED = """
ALTER TABLE orders.consumed DROP CONSTRAINT consumed_pool_check;
ALTER TABLE orders.consumed ADD CONSTRAINT consumed_pool_check CHECK (pool IN ('ask', 'bid', 'bar', 'volume'));
"""
