"""Dividends from their ex-date until they are paid, and the splits that the positions of a symbol have."""

from alembic import op

revision = "orders_v1_0005"
down_revision = "orders_v1_0004"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE orders.dividends (
      account_id uuid NOT NULL REFERENCES orders.accounts (id),
      -- the corporate action
      action_id uuid NOT NULL,
      generation integer NOT NULL,
      symbol text NOT NULL,
      -- the shares held at the ex-date, negative where they were short, and the dividend of each in their currency
      qty numeric NOT NULL CHECK (qty <> 0),
      amount numeric NOT NULL CHECK (amount > 0),
      ex_at timestamptz NOT NULL,
      pay_at timestamptz NOT NULL,
      paid_at timestamptz,
      -- in the account's currency
      cash numeric,
      PRIMARY KEY (account_id, action_id),
      CONSTRAINT dividends_paid CHECK ((paid_at IS NULL) = (cash IS NULL)),
      CONSTRAINT dividends_order CHECK (pay_at >= ex_at)
    );
    CREATE INDEX dividends_due ON orders.dividends (pay_at) WHERE paid_at IS NULL;
    CREATE INDEX dividends_by_time ON orders.dividends (account_id, ex_at DESC, action_id DESC);
    -- who sold shares since a dividend's ex-date
    CREATE INDEX round_trips_by_symbol ON orders.round_trips (symbol, closed_at);
    CREATE VIEW orders.dividends_v1 AS
      SELECT account_id, action_id, generation, symbol, qty, amount, ex_at, pay_at, paid_at, cash FROM orders.dividends;
    -- the corporate actions that the books of a symbol have
    CREATE VIEW orders.split_counts_v1 AS SELECT symbol, split_count FROM orders.quotes;
    GRANT SELECT ON orders.dividends_v1, orders.split_counts_v1 TO paperprofit_services;
    """)
