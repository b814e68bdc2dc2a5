"""Splits and dividends, and how many splits an instrument's price comes after."""

from alembic import op

revision = "marketdata_0007"
down_revision = "marketdata_0006"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE marketdata.corporate_actions (
      id uuid PRIMARY KEY,
      symbol text NOT NULL REFERENCES marketdata.instruments (symbol),
      kind text NOT NULL CHECK (kind IN ('split', 'dividend')),
      ratio numeric CHECK (ratio > 0),
      amount numeric CHECK (amount > 0),
      effective_at timestamptz NOT NULL,
      entered_at timestamptz NOT NULL,
      applied_at timestamptz,
      CHECK ((kind = 'split') = (ratio IS NOT NULL)),
      CHECK ((kind = 'dividend') = (amount IS NOT NULL))
    );
    CREATE INDEX corporate_actions_due ON marketdata.corporate_actions (effective_at) WHERE applied_at IS NULL;
    CREATE INDEX corporate_actions_by_time ON marketdata.corporate_actions (effective_at DESC, id DESC);
    ALTER TABLE marketdata.instruments ADD COLUMN split_count integer NOT NULL DEFAULT 0;
    CREATE OR REPLACE VIEW marketdata.instruments_v1 AS
      SELECT id, symbol, name, asset_class, market, currency, tick_size, tradable, sequence, provider,
             last_price AS last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at, since, split_count
      FROM marketdata.instruments;
    CREATE VIEW marketdata.corporate_actions_v1 AS
      SELECT id, symbol, kind, ratio, amount, effective_at, entered_at, applied_at FROM marketdata.corporate_actions;
    GRANT SELECT ON marketdata.corporate_actions_v1 TO paperprofit_services;
    """)
