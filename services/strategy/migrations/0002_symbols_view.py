"""The symbols of active strategies, whose prices marketdata fetches first."""

from alembic import op

revision = "strategy_v1_0002"
down_revision = "strategy_v1_0001"


def upgrade() -> None:
    op.execute("""
    CREATE VIEW strategy.symbols_v1 AS
      SELECT DISTINCT unnest(symbols) AS symbol FROM strategy.strategies WHERE enabled;
    GRANT SELECT ON strategy.symbols_v1 TO paperprofit_services;
    """)
