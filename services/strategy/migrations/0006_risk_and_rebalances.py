"""The mark of a strategy's largest position, target weights of accounts, and their rebalances."""

from alembic import op

revision = "strategy_v1_0006"
down_revision = "strategy_v1_0005"


def upgrade() -> None:
    op.execute("""
    -- null until it is measured after a start or a resume
    ALTER TABLE strategy.strategies ADD COLUMN concentration_mark numeric DEFAULT 0;

    CREATE TABLE strategy.account_targets (
      account_id uuid PRIMARY KEY,
      targets jsonb NOT NULL,
      changed_at timestamptz NOT NULL,
      -- the last rebalance that the job started
      started_at timestamptz
    );
    CREATE TABLE strategy.rebalances (
      id uuid PRIMARY KEY,
      account_id uuid NOT NULL,
      generation integer NOT NULL,
      trigger text NOT NULL CHECK (trigger IN ('request', 'schedule')),
      state text NOT NULL CHECK (state IN ('planned', 'selling', 'buying', 'done', 'incomplete', 'canceled')),
      reason text,
      targets jsonb NOT NULL,
      plan jsonb NOT NULL,
      created_at timestamptz NOT NULL,
      started_at timestamptz,
      finished_at timestamptz
    );
    -- an account has one rebalance at a time
    CREATE UNIQUE INDEX rebalances_open ON strategy.rebalances (account_id) WHERE state IN ('selling', 'buying');
    CREATE INDEX rebalances_by_time ON strategy.rebalances (account_id, created_at DESC, id DESC);
    CREATE TABLE strategy.rebalance_orders (
      rebalance_id uuid NOT NULL REFERENCES strategy.rebalances (id) ON DELETE CASCADE,
      symbol text NOT NULL,
      side text NOT NULL CHECK (side IN ('buy', 'sell')),
      qty numeric NOT NULL CHECK (qty > 0),
      price numeric NOT NULL,
      order_id uuid NOT NULL UNIQUE,
      status text NOT NULL CHECK (status IN ('planned', 'sent', 'ended')),
      filled_qty numeric NOT NULL DEFAULT 0,
      -- in the account's currency, after costs
      filled_value numeric NOT NULL DEFAULT 0,
      note text,
      PRIMARY KEY (rebalance_id, symbol)
    );
    CREATE VIEW strategy.account_targets_v1 AS
      SELECT account_id, targets, changed_at, started_at FROM strategy.account_targets;
    CREATE VIEW strategy.rebalances_v1 AS
      SELECT id, account_id, generation, trigger, state, reason, targets, plan, created_at, started_at, finished_at
      FROM strategy.rebalances;
    CREATE VIEW strategy.rebalance_orders_v1 AS
      SELECT rebalance_id, symbol, side, qty, price, order_id, status, filled_qty, filled_value, note
      FROM strategy.rebalance_orders;
    GRANT SELECT ON strategy.account_targets_v1, strategy.rebalances_v1, strategy.rebalance_orders_v1
      TO paperprofit_services;
    """)
