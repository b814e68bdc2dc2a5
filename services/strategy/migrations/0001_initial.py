"""Strategies, their decisions and their signals."""

from alembic import op

from shared.bus import tables

revision = "strategy_v1_0001"
down_revision = None


def upgrade() -> None:
    op.execute(tables.create("strategy"))
    op.execute("""
    CREATE TABLE strategy.strategies (
      id uuid PRIMARY KEY,
      name text NOT NULL UNIQUE,
      kind text NOT NULL CHECK (kind IN ('sma_crossover')),
      account_id uuid NOT NULL,
      symbols text[] NOT NULL CHECK (cardinality(symbols) > 0),
      interval text NOT NULL,
      fast integer NOT NULL CHECK (fast >= 1),
      slow integer NOT NULL,
      order_qty numeric NOT NULL CHECK (order_qty > 0),
      max_position_qty numeric NOT NULL CHECK (max_position_qty > 0),
      enabled boolean NOT NULL DEFAULT true,
      created_at timestamptz NOT NULL,
      CONSTRAINT strategies_check CHECK (slow > fast)
    );
    CREATE TABLE strategy.decisions (
      strategy_id uuid NOT NULL REFERENCES strategy.strategies (id),
      symbol text NOT NULL,
      run_id uuid NOT NULL,
      at timestamptz NOT NULL,
      bar_at timestamptz,
      action text NOT NULL CHECK (action IN ('buy', 'sell', 'hold')),
      reason text NOT NULL,
      qty numeric NOT NULL DEFAULT 0,
      order_id uuid,
      PRIMARY KEY (strategy_id, symbol, run_id)
    );
    CREATE INDEX decisions_by_time ON strategy.decisions (strategy_id, at DESC);
    CREATE INDEX decisions_with_orders ON strategy.decisions (strategy_id, symbol, at) WHERE order_id IS NOT NULL;
    CREATE TABLE strategy.trading_signals (
      id uuid PRIMARY KEY,
      strategy_id uuid NOT NULL REFERENCES strategy.strategies (id),
      symbol text NOT NULL,
      bar_at timestamptz NOT NULL,
      at timestamptz NOT NULL,
      action text NOT NULL CHECK (action IN ('buy', 'sell')),
      price numeric NOT NULL,
      reason text NOT NULL,
      UNIQUE (strategy_id, symbol, bar_at)
    );
    """)
