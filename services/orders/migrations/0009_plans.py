"""Each question about open orders has an index of its own, which no other question could use.

A plan is kept for as long as its connection. Made while hardly an order was open, it took any index of open orders for
as good as the right one, and later read all of them for each price. Which index can be used is decided by its
condition: ``num_nonnulls`` is one that only a query with the very same words has.
"""

from alembic import op

revision = "orders_0009"
down_revision = "orders_0008"


def upgrade() -> None:
    op.execute("""
    DROP INDEX orders.orders_waking;
    DROP INDEX orders.orders_trailing;
    DROP INDEX orders.orders_families;
    UPDATE orders.orders SET direction = NULL, threshold = NULL
    WHERE status NOT IN ('accepted', 'held', 'partially_filled') AND num_nonnulls(direction, threshold) > 0;
    ALTER TABLE orders.orders ADD CONSTRAINT orders_not_waking
      CHECK (status IN ('accepted', 'held', 'partially_filled') OR num_nonnulls(direction, threshold) = 0);
    -- which orders a price may fill
    CREATE INDEX orders_waking ON orders.orders (symbol, direction, threshold) WHERE direction IS NOT NULL;
    -- which trailing stops have a better price to follow
    CREATE INDEX orders_trailing ON orders.orders (symbol, side, hwm)
      WHERE num_nonnulls(threshold) = 1 AND type = 'trailing_stop' AND NOT triggered;
    -- which orders end together
    CREATE INDEX orders_families ON orders.orders (account_id, family) WHERE num_nonnulls(direction) = 1;
    """)
