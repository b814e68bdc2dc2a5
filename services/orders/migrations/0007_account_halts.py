"""Halts of accounts that reached a risk limit."""

from alembic import op

revision = "orders_v1_0007"
down_revision = "orders_v1_0006"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE orders.accounts
      -- the last halt, also after its end
      ADD COLUMN halt_id uuid,
      ADD COLUMN halted_at timestamptz,
      ADD COLUMN halt_reason text,
      ADD CONSTRAINT accounts_halt CHECK ((halted_at IS NULL) = (halt_reason IS NULL));
    CREATE TABLE orders.account_halts (
      account_id uuid NOT NULL REFERENCES orders.accounts (id),
      id uuid NOT NULL,
      generation integer NOT NULL,
      kind text NOT NULL,
      value numeric NOT NULL,
      limit_value numeric NOT NULL,
      reason text NOT NULL,
      halted_at timestamptz NOT NULL,
      ended_at timestamptz,
      -- the key that resumed it, or reset or closed
      ended_by text,
      PRIMARY KEY (account_id, id)
    );
    CREATE INDEX account_halts_by_time ON orders.account_halts (account_id, halted_at DESC, id DESC);
    CREATE INDEX accounts_halted ON orders.accounts (halted_at) WHERE halted_at IS NOT NULL;
    CREATE VIEW orders.account_halts_v1 AS
      SELECT account_id, id, generation, kind, value, limit_value, reason, halted_at, ended_at, ended_by
      FROM orders.account_halts;
    CREATE OR REPLACE VIEW orders.accounts_v1 AS
      SELECT id, number, name, currency, status, cash, reserved, sequence, created_at, settings, generation,
             generation_at, halt_id, halted_at, halt_reason
      FROM orders.accounts;
    GRANT SELECT ON orders.account_halts_v1 TO paperprofit_services;
    """)
