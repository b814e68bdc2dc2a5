"""Each question about open orders has an index of its own, which no other question can use.

A plan is kept for as long as its connection. Made while hardly an order was open, it took any index of open orders for
as good as the right one, and later read all of them for each price. Which index can be used is decided by its
condition: hence a column for each.
"""

from alembic import op

revision = "orders_0009"
down_revision = "orders_0008"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE orders.orders
      ADD COLUMN is_open boolean NOT NULL
        GENERATED ALWAYS AS (status IN ('accepted', 'held', 'partially_filled')) STORED,
      ADD COLUMN works boolean NOT NULL
        GENERATED ALWAYS AS (status IN ('accepted', 'partially_filled')) STORED,
      ADD COLUMN trails boolean NOT NULL
        GENERATED ALWAYS AS (
          status IN ('accepted', 'partially_filled') AND type = 'trailing_stop' AND NOT triggered) STORED;
    DROP INDEX orders.orders_by_trigger;
    DROP INDEX orders.orders_trailing;
    DROP INDEX orders.orders_by_group;
    -- which orders a price may fill
    CREATE INDEX orders_by_trigger ON orders.orders (symbol, trigger_direction, trigger_price) WHERE works;
    -- which trailing stops have a better price to follow
    CREATE INDEX orders_trailing ON orders.orders (symbol, side, hwm) WHERE trails;
    -- which orders end together
    CREATE INDEX orders_by_group ON orders.orders (account_id, order_group) WHERE is_open;
    """)
