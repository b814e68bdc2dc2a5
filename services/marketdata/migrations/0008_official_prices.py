"""The official opens and closes of trading days."""

from alembic import op

revision = "marketdata_0008"
down_revision = "marketdata_0007"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE marketdata.official_prices (
      symbol text NOT NULL REFERENCES marketdata.instruments (symbol),
      -- the market's trading day, by its own date
      day date NOT NULL,
      kind text NOT NULL CHECK (kind IN ('open', 'close')),
      price numeric NOT NULL CHECK (price > 0),
      volume numeric CHECK (volume >= 0),
      held_at timestamptz NOT NULL,
      known_at timestamptz NOT NULL,
      provider text NOT NULL,
      -- the symbol's newest price then, and its splits before the auction
      sequence bigint NOT NULL,
      split_count integer NOT NULL,
      PRIMARY KEY (symbol, day, kind)
    );
    CREATE INDEX official_prices_by_time ON marketdata.official_prices (held_at DESC, symbol DESC, kind DESC);
    CREATE VIEW marketdata.official_prices_v1 AS
      SELECT symbol, day, kind, price, volume, held_at, known_at, provider, sequence, split_count
      FROM marketdata.official_prices;
    -- regular trading of a day, from its first open to its last close: a midday break lies inside
    CREATE VIEW marketdata.trading_days_v1 AS
      SELECT market, day, min(open_at) AS open_at, max(close_at) AS close_at
      FROM marketdata.market_sessions WHERE kind = 'regular' GROUP BY market, day;
    GRANT SELECT ON marketdata.official_prices_v1, marketdata.trading_days_v1 TO paperprofit_services;
    """)
