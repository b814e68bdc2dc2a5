"""Indicators that watchlists name, beside those of operators and strategies."""

from alembic import op

revision = "marketdata_v1_0009"
down_revision = "marketdata_v1_0008"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE marketdata.indicators
      ADD COLUMN by_watchlists boolean NOT NULL DEFAULT false,
      DROP CONSTRAINT indicators_are_named,
      ADD CONSTRAINT indicators_are_named CHECK (by_hand OR by_strategies OR by_watchlists);
    CREATE OR REPLACE VIEW marketdata.indicators_v1 AS
      SELECT i.id, i.symbol, i.interval, i.name, i.parameters, i.requested_at, i.slot, i.ready, s.computed_to,
             i.by_hand, i.by_strategies, i.by_watchlists
      FROM marketdata.indicators i LEFT JOIN marketdata.indicator_series s USING (symbol, interval);
    """)
