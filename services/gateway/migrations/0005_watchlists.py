"""Watchlists of accounts, and the symbols and indicators on them for marketdata."""

from alembic import op

revision = "gateway_v1_0005"
down_revision = "gateway_v1_0004"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE gateway.watchlists (
      id uuid PRIMARY KEY,
      account_id uuid NOT NULL,
      name text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
      -- in the client's order
      symbols text[] NOT NULL CHECK (cardinality(symbols) <= 500),
      -- [{"name": "rsi", "interval": "1d", "parameters": {"period": "14"}}], computed for each of the symbols
      indicators jsonb NOT NULL CHECK (jsonb_array_length(indicators) <= 20),
      created_at timestamptz NOT NULL,
      updated_at timestamptz NOT NULL,
      UNIQUE (account_id, name)
    );
    CREATE VIEW gateway.watchlist_symbols_v1 AS
      SELECT DISTINCT symbol FROM gateway.watchlists w CROSS JOIN unnest(w.symbols) AS symbol;
    CREATE VIEW gateway.watchlist_indicators_v1 AS
      SELECT DISTINCT symbol, i.value ->> 'interval' AS interval, i.value ->> 'name' AS name,
             i.value -> 'parameters' AS parameters
      FROM gateway.watchlists w CROSS JOIN unnest(w.symbols) AS symbol
      CROSS JOIN jsonb_array_elements(w.indicators) AS i;
    GRANT SELECT ON gateway.watchlist_symbols_v1, gateway.watchlist_indicators_v1 TO paperprofit_services;
    """)
