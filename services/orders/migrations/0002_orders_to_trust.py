"""Order terms of Alpaca's, orders of margin calls, the figures behind a rejection and average entry prices."""

from alembic import op

revision = "orders_v1_0002"
down_revision = "orders_v1_0001"


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(VIEWS)


#: A position from before this has no average entry price until it is traded again.
COLUMNS = """
ALTER TABLE orders.orders
  ADD COLUMN position_intent text,
  ADD COLUMN do_not_reduce boolean NOT NULL DEFAULT false,
  ADD COLUMN liquidation boolean NOT NULL DEFAULT false,
  ADD COLUMN reject_details text;
ALTER TABLE orders.positions ADD COLUMN avg_entry_price numeric;
"""
VIEWS = """
CREATE OR REPLACE VIEW orders.orders_v1 AS
  SELECT account_id, id, client_order_id, symbol, side, type, time_in_force, extended_hours, qty,
         limit_price, stop_price, status, filled_qty, filled_avg_price, strategy_id, submitted_at,
         accepted_at, filled_at, canceled_at, expires_at, expired_at, updated_at, reject_reason,
         reject_message, notional, trail_price, trail_percent, hwm, triggered, order_class, order_group, leg, replaces,
         replaced_by, replaced_at, cancel_reason, fees, held_for_orders, reserved, generation,
         position_intent, do_not_reduce, liquidation, reject_details
  FROM orders.orders;
CREATE OR REPLACE VIEW orders.positions_v1 AS
  SELECT account_id, symbol, qty, cost, avg_entry_price FROM orders.positions WHERE qty <> 0;
"""
