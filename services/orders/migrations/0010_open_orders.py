"""Questions about open orders that had no index of their own: due orders, awaited auctions, and those of a symbol."""

from alembic import op

revision = "orders_0010"
down_revision = "orders_0009"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE orders.orders
      ADD COLUMN expires boolean NOT NULL
        GENERATED ALWAYS AS (status IN ('accepted', 'held', 'partially_filled') AND expires_at IS NOT NULL) STORED,
      ADD COLUMN awaits_auction boolean NOT NULL
        GENERATED ALWAYS AS (
          status IN ('accepted', 'partially_filled') AND trigger_direction IS NOT DISTINCT FROM 'auction') STORED;
    DROP INDEX orders.orders_expiring;
    DROP INDEX orders.orders_auctions;
    DROP INDEX orders.orders_open;
    -- which orders are due
    CREATE INDEX orders_expiring ON orders.orders (expires_at) WHERE expires;
    -- which auctions have orders, and which orders an auction may fill
    CREATE INDEX orders_auctions ON orders.orders (symbol, auction_day, time_in_force) WHERE awaits_auction;
    -- which orders of a symbol are open, of everybody or of one account
    CREATE INDEX orders_open ON orders.orders (symbol, account_id)
      WHERE status IN ('accepted', 'held', 'partially_filled');
    -- which orders of a symbol are a strategy's
    CREATE INDEX orders_strategies ON orders.orders (account_id, strategy_id, symbol) WHERE strategy_id IS NOT NULL;
    -- which order has a client's id, where it was rejected; the others have orders_client_id
    CREATE INDEX orders_rejected ON orders.orders (account_id, client_order_id) WHERE status = 'rejected';
    """)
