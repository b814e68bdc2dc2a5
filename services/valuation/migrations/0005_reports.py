"""Reports of accounts: the finished report of each account generation and period, as it was made."""

from alembic import op

revision = "valuation_v1_0005"
down_revision = "valuation_v1_0004"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE valuation.reports (
      account_id uuid NOT NULL,
      generation integer NOT NULL,
      period text NOT NULL CHECK (period IN ('daily', 'weekly', 'monthly')),
      -- the last day of the period by the clock of the account's market
      day date NOT NULL,
      begin_at timestamptz NOT NULL,
      end_at timestamptz NOT NULL,
      run_id uuid NOT NULL,
      made_at timestamptz NOT NULL,
      -- the last entry of the ledger that it knows: a later one of the same time corrects it
      last_entry bigint NOT NULL,
      -- the account asked for it to be sent
      wanted boolean NOT NULL,
      summary text NOT NULL,
      content jsonb NOT NULL,
      PRIMARY KEY (account_id, generation, period, day)
    );
    CREATE INDEX reports_to_send ON valuation.reports (made_at) WHERE wanted;
    CREATE VIEW valuation.reports_v1 AS
      SELECT account_id, generation, period, day, begin_at, end_at, run_id, made_at, last_entry, wanted, summary,
             content
      FROM valuation.reports;
    GRANT SELECT ON valuation.reports_v1 TO paperprofit_services;
    """)
