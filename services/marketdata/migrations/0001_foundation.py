"""Instruments, prices and market sessions."""

from alembic import op

from shared.bus import tables

revision = "marketdata_0001"
down_revision = None


def upgrade() -> None:
    op.execute(tables.create_v1("marketdata"))
    op.execute("""
    CREATE TABLE marketdata.markets (
      code text PRIMARY KEY,
      name text NOT NULL,
      timezone text NOT NULL,
      always_open boolean NOT NULL DEFAULT false
    );
    INSERT INTO marketdata.markets VALUES ('DEMO', 'Demo market, open at all hours', 'UTC', true);

    CREATE TABLE marketdata.market_sessions (
      market text NOT NULL REFERENCES marketdata.markets (code),
      open_at timestamptz NOT NULL,
      close_at timestamptz NOT NULL CHECK (close_at > open_at),
      kind text NOT NULL DEFAULT 'regular' CHECK (kind IN ('pre', 'regular', 'post')),
      PRIMARY KEY (market, open_at)
    );

    CREATE TABLE marketdata.instruments (
      id uuid PRIMARY KEY,
      symbol text NOT NULL UNIQUE,
      name text NOT NULL,
      asset_class text NOT NULL,
      market text NOT NULL REFERENCES marketdata.markets (code),
      currency text NOT NULL,
      tick_size numeric NOT NULL CHECK (tick_size > 0),
      tradable boolean NOT NULL DEFAULT true,
      sequence bigint NOT NULL DEFAULT 0,
      provider text,
      last_price numeric CHECK (last_price > 0),
      bid numeric CHECK (bid > 0),
      ask numeric CHECK (ask > 0),
      bid_size numeric,
      ask_size numeric,
      open numeric,
      high numeric,
      low numeric,
      volume numeric,
      quoted_at timestamptz
    );

    CREATE TABLE marketdata.market_data (
      symbol text NOT NULL,
      interval text NOT NULL,
      start_at timestamptz NOT NULL,
      open numeric NOT NULL,
      high numeric NOT NULL,
      low numeric NOT NULL,
      close numeric NOT NULL,
      volume numeric NOT NULL,
      provider text NOT NULL,
      PRIMARY KEY (symbol, interval, start_at),
      CHECK (low <= LEAST(open, close) AND high >= GREATEST(open, close))
    ) PARTITION BY RANGE (start_at);
    CREATE TABLE marketdata.market_data_other PARTITION OF marketdata.market_data DEFAULT;

    CREATE TABLE marketdata.provider_states (
      provider text PRIMARY KEY,
      state jsonb,
      updated_at timestamptz
    );

    CREATE VIEW marketdata.sessions_v1 AS
      SELECT market, open_at, close_at FROM marketdata.market_sessions WHERE kind = 'regular'
      UNION ALL
      SELECT code, '-infinity', 'infinity' FROM marketdata.markets WHERE always_open;
    CREATE VIEW marketdata.instruments_v1 AS
      SELECT id, symbol, name, asset_class, market, currency, tick_size, tradable, sequence, provider,
             last_price AS last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at
      FROM marketdata.instruments;
    CREATE VIEW marketdata.bars_v1 AS
      SELECT symbol, interval, start_at, open, high, low, close, volume, provider FROM marketdata.market_data;
    GRANT SELECT ON marketdata.sessions_v1, marketdata.instruments_v1, marketdata.bars_v1
      TO paperprofit_services;
    """)
