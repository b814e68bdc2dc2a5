"""Who names an indicator: an operator, strategies that run, or both. It is computed while somebody does."""

from alembic import op

revision = "marketdata_v1_0008"
down_revision = "marketdata_v1_0007"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE marketdata.indicators
      ADD COLUMN by_hand boolean NOT NULL DEFAULT true,
      ADD COLUMN by_strategies boolean NOT NULL DEFAULT false,
      ADD CONSTRAINT indicators_are_named CHECK (by_hand OR by_strategies);
    CREATE OR REPLACE VIEW marketdata.indicators_v1 AS
      SELECT i.id, i.symbol, i.interval, i.name, i.parameters, i.requested_at, i.slot, i.ready, s.computed_to,
             i.by_hand, i.by_strategies
      FROM marketdata.indicators i LEFT JOIN marketdata.indicator_series s USING (symbol, interval);
    """)
