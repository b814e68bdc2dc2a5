"""The indicators that each strategy reads, so that marketdata computes and stores them too."""

from alembic import op

revision = "strategy_v1_0005"
down_revision = "strategy_v1_0004"


def upgrade() -> None:
    op.execute("""
    -- [{"name": "sma", "parameters": {"period": "20"}}], written with the terms and at each evaluation
    ALTER TABLE strategy.strategies ADD COLUMN indicators jsonb NOT NULL DEFAULT '[]';
    -- those of the strategies that run
    CREATE VIEW strategy.indicators_v1 AS
      SELECT DISTINCT symbol, s.interval, i.value ->> 'name' AS name, i.value -> 'parameters' AS parameters
      FROM strategy.strategies s CROSS JOIN unnest(s.symbols) AS symbol
      CROSS JOIN jsonb_array_elements(s.indicators) AS i
      WHERE s.state = 'running';
    GRANT SELECT ON strategy.indicators_v1 TO paperprofit_services;
    """)
