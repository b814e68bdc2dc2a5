"""Backtests and optimisations: their requests, and their results as JSON."""

from alembic import op

revision = "strategy_v1_0004"
down_revision = "strategy_v1_0003"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE strategy.backtests (
      run_id uuid PRIMARY KEY,
      at timestamptz NOT NULL,
      kind text NOT NULL CHECK (kind IN ('backtest', 'optimisation')),
      request jsonb NOT NULL,
      figures jsonb NOT NULL,
      outcome jsonb NOT NULL
    );
    CREATE TABLE strategy.backtest_trials (
      run_id uuid NOT NULL,
      number integer NOT NULL CHECK (number >= 0),
      at timestamptz NOT NULL,
      trial jsonb NOT NULL,
      PRIMARY KEY (run_id, number)
    );
    CREATE VIEW strategy.backtests_v1 AS SELECT run_id, at, kind, request, figures, outcome FROM strategy.backtests;
    CREATE VIEW strategy.backtest_trials_v1 AS SELECT run_id, number, at, trial FROM strategy.backtest_trials;
    GRANT SELECT ON strategy.backtests_v1, strategy.backtest_trials_v1 TO paperprofit_services;
    """)
