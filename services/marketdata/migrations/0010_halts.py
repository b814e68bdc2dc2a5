"""Trading halts, and whether an instrument is halted now."""

from alembic import op

revision = "marketdata_0010"
down_revision = "marketdata_0009"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE marketdata.halts (
      id uuid PRIMARY KEY,
      symbol text NOT NULL REFERENCES marketdata.instruments (symbol),
      reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
      began_at timestamptz NOT NULL,
      ended_at timestamptz CHECK (ended_at >= began_at)
    );
    CREATE UNIQUE INDEX halts_standing ON marketdata.halts (symbol) WHERE ended_at IS NULL;
    CREATE INDEX halts_of_symbol ON marketdata.halts (symbol, began_at);
    CREATE INDEX halts_by_time ON marketdata.halts (began_at DESC, id DESC);
    -- also on the instrument's own row, whose lock decides whether a price or a halt comes first
    ALTER TABLE marketdata.instruments
      ADD COLUMN halted_at timestamptz,
      ADD COLUMN halt_reason text,
      ADD COLUMN resumed_at timestamptz,
      ADD CHECK ((halted_at IS NULL) = (halt_reason IS NULL));
    CREATE OR REPLACE VIEW marketdata.instruments_v1 AS
      SELECT id, symbol, name, asset_class, market, currency, tick_size, tradable, sequence, provider,
             last_price AS last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at, since, split_count,
             halted_at, halt_reason
      FROM marketdata.instruments;
    CREATE VIEW marketdata.halts_v1 AS SELECT id, symbol, reason, began_at, ended_at FROM marketdata.halts;
    GRANT SELECT ON marketdata.halts_v1 TO paperprofit_services;
    """)
