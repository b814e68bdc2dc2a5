"""A trade is a completed order: one that has ended, of which something was filled.

What it realised is summed up from its fills; so each fill says what it closed.
"""

from alembic import op

revision = "orders_0011"
down_revision = "orders_0010"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE orders.fills
      -- of the lots that it closed; null where it closed none
      ADD COLUMN realized_pl numeric;
    UPDATE orders.fills f SET realized_pl = t.realized_pl
    FROM (SELECT account_id, exit_fill_id, sum(realized_pl) AS realized_pl FROM orders.round_trips GROUP BY 1, 2) t
    WHERE t.account_id = f.account_id AND t.exit_fill_id = f.id;

    CREATE TABLE orders.trades (
      account_id uuid NOT NULL,
      order_id uuid NOT NULL,
      generation integer NOT NULL,
      symbol text NOT NULL,
      side text NOT NULL CHECK (side IN ('buy', 'sell')),
      -- of all its fills; the price is in the instrument's currency, fees and P&L in the account's
      qty numeric NOT NULL CHECK (qty > 0),
      avg_price numeric NOT NULL CHECK (avg_price > 0),
      currency text NOT NULL,
      fees numeric NOT NULL,
      -- null where it closed nothing
      realized_pl numeric,
      strategy_id uuid,
      submitted_at timestamptz NOT NULL,
      first_fill_at timestamptz NOT NULL,
      completed_at timestamptz NOT NULL,
      PRIMARY KEY (account_id, order_id)
    );
    CREATE INDEX completed_orders ON orders.trades (account_id, completed_at DESC, order_id DESC);
    INSERT INTO orders.trades (account_id, order_id, generation, symbol, side, qty, avg_price, currency, fees,
                               realized_pl, strategy_id, submitted_at, first_fill_at, completed_at)
    SELECT o.account_id, o.id, o.generation, o.symbol, o.side, o.filled_qty, o.filled_avg_price, o.currency, o.fees,
           f.realized_pl, o.strategy_id, o.submitted_at, f.first_at,
           GREATEST(COALESCE(o.filled_at, o.canceled_at, o.expired_at, o.replaced_at, o.updated_at), f.last_at)
    FROM orders.orders o
    JOIN (SELECT account_id, order_id, sum(realized_pl) AS realized_pl, min(filled_at) AS first_at,
                 max(filled_at) AS last_at
          FROM orders.fills GROUP BY 1, 2) f ON f.account_id = o.account_id AND f.order_id = o.id
    WHERE NOT o.is_open;
    CREATE VIEW orders.trades_v1 AS
      SELECT account_id, order_id, generation, symbol, side, qty, avg_price, currency, fees, realized_pl, strategy_id,
             submitted_at, first_fill_at, completed_at
      FROM orders.trades;
    GRANT SELECT ON orders.trades_v1 TO paperprofit_services;
    """)
