"""Orders for the opening and closing auctions of a trading day."""

from alembic import op

revision = "orders_0007"
down_revision = "orders_0006"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE orders.orders
      DROP CONSTRAINT orders_times,
      DROP CONSTRAINT orders_trigger_direction_check,
      ADD COLUMN auction_day date,
      -- when the auction is due
      ADD COLUMN auction_at timestamptz,
      ADD CONSTRAINT orders_times CHECK (time_in_force IN ('day', 'gtc', 'opg', 'cls', 'ioc', 'fok')),
      ADD CONSTRAINT orders_trigger_direction_check CHECK (trigger_direction IN ('below', 'above', 'auction')),
      ADD CONSTRAINT orders_auction CHECK (status NOT IN ('accepted', 'held', 'partially_filled')
        OR trigger_direction = 'auction' AND time_in_force IN ('opg', 'cls')
           AND num_nulls(auction_day, auction_at, expires_at) = 0
        OR trigger_direction <> 'auction' AND time_in_force NOT IN ('opg', 'cls')
           AND num_nonnulls(auction_day, auction_at) = 0);
    CREATE INDEX orders_auctions ON orders.orders (symbol, auction_day)
      WHERE status IN ('accepted', 'partially_filled') AND trigger_direction = 'auction';
    ALTER TABLE orders.fills
      DROP CONSTRAINT fills_stage_check,
      ADD CONSTRAINT fills_stage_check CHECK (stage IN ('open', 'range', 'quote', 'auction'));
    """)
