"""Publish the quote that each fill met, so that its slippage can be measured."""

from alembic import op

revision = "orders_v1_0006"
down_revision = "orders_v1_0005"


def upgrade() -> None:
    op.execute("""
    CREATE OR REPLACE VIEW orders.fills_v1 AS
      SELECT account_id, order_id, number, id, symbol, side, qty, price, amount, fee, filled_at, currency, rate,
             generation, bid, ask, last, realized_pl
      FROM orders.fills;
    """)
