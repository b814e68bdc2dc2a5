"""What accounts are worth, live and as snapshots."""

from alembic import op

from shared.bus import tables

revision = "valuation_0001"
down_revision = None


def upgrade() -> None:
    op.execute(tables.create_v1("valuation"))
    op.execute("""
    CREATE TABLE valuation.account_values (
      account_id uuid PRIMARY KEY,
      at timestamptz NOT NULL,
      cash numeric NOT NULL,
      market_value numeric NOT NULL,
      equity numeric NOT NULL,
      unrealized_pl numeric NOT NULL
    );
    CREATE TABLE valuation.account_summaries (
      account_id uuid NOT NULL,
      run_id uuid NOT NULL,
      at timestamptz NOT NULL,
      cash numeric NOT NULL,
      market_value numeric NOT NULL,
      equity numeric NOT NULL,
      unrealized_pl numeric NOT NULL,
      positions integer NOT NULL,
      PRIMARY KEY (account_id, run_id)
    );
    CREATE INDEX account_summaries_by_time ON valuation.account_summaries (account_id, at DESC);
    CREATE TABLE valuation.position_values (
      account_id uuid NOT NULL,
      symbol text NOT NULL,
      run_id uuid NOT NULL,
      at timestamptz NOT NULL,
      qty numeric NOT NULL,
      price numeric NOT NULL,
      market_value numeric NOT NULL,
      cost numeric NOT NULL,
      unrealized_pl numeric NOT NULL,
      PRIMARY KEY (account_id, symbol, run_id)
    );
    CREATE VIEW valuation.account_values_v1 AS
      SELECT account_id, at, cash, market_value, equity, unrealized_pl FROM valuation.account_values;
    CREATE VIEW valuation.account_summaries_v1 AS
      SELECT account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions
      FROM valuation.account_summaries;
    GRANT SELECT ON valuation.account_values_v1, valuation.account_summaries_v1 TO paperprofit_services;
    """)
