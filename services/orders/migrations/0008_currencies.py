"""Orders and fills in another currency than their account's.

What an earlier release wrote, or still writes beside this one, is in the currency of its account.
"""

from alembic import op

revision = "orders_0008"
down_revision = "orders_0007"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE orders.orders
      -- the instrument's, and at which rate in the account's its fills were converted, on average
      ADD COLUMN currency text NOT NULL DEFAULT 'USD',
      ADD COLUMN filled_avg_rate numeric NOT NULL DEFAULT 1 CHECK (filled_avg_rate > 0);
    UPDATE orders.orders o SET currency = a.currency
    FROM orders.accounts a WHERE a.id = o.account_id AND a.currency <> 'USD';
    ALTER TABLE orders.fills
      -- price and slippage are in this currency, which cost or brought so much of the account's; the rest is in that
      ADD COLUMN currency text NOT NULL DEFAULT 'USD',
      ADD COLUMN rate numeric NOT NULL DEFAULT 1 CHECK (rate > 0),
      ADD COLUMN rate_quoted_at timestamptz,
      ADD COLUMN rate_bid numeric,
      ADD COLUMN rate_ask numeric;
    UPDATE orders.fills f SET currency = a.currency
    FROM orders.accounts a WHERE a.id = f.account_id AND a.currency <> 'USD';
    CREATE OR REPLACE VIEW orders.fills_v1 AS
      SELECT account_id, order_id, number, id, symbol, side, qty, price, amount, fee, filled_at, currency, rate
      FROM orders.fills;
    """)
