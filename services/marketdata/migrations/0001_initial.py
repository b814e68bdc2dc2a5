"""Markets and their sessions, instruments with their prices, bars, corporate actions, official prices and halts."""

from alembic import op

from shared.bus import tables

revision = "marketdata_v1_0001"
down_revision = None


def upgrade() -> None:
    for statements in (tables.create("marketdata"), MARKETS, INSTRUMENTS, BARS, CORPORATE_ACTIONS, HALTS, VIEWS):
        op.execute(statements)


MARKETS = """
CREATE TABLE marketdata.markets (
  code text PRIMARY KEY,
  name text NOT NULL,
  timezone text NOT NULL,
  always_open boolean NOT NULL DEFAULT false
);
-- those that shared.contracts.markets had at this revision; the service adds later ones when it starts
INSERT INTO marketdata.markets (code, name, timezone, always_open) VALUES
  ('DEMO', 'Demo market, open at all hours', 'UTC', true),
  ('24/7', 'Open at all hours', 'UTC', true),
  ('XNYS', 'New York Stock Exchange', 'America/New_York', false),
  ('XNAS', 'Nasdaq', 'America/New_York', false),
  ('XTSE', 'Toronto Stock Exchange', 'America/Toronto', false),
  ('XLON', 'London Stock Exchange', 'Europe/London', false),
  ('XETR', 'Xetra', 'Europe/Berlin', false),
  ('XPAR', 'Euronext Paris', 'Europe/Paris', false),
  ('XAMS', 'Euronext Amsterdam', 'Europe/Amsterdam', false),
  ('XMIL', 'Borsa Italiana', 'Europe/Rome', false),
  ('XMAD', 'Bolsa de Madrid', 'Europe/Madrid', false),
  ('XSWX', 'SIX Swiss Exchange', 'Europe/Zurich', false),
  ('XSTO', 'Nasdaq Stockholm', 'Europe/Stockholm', false),
  ('XTKS', 'Tokyo Stock Exchange', 'Asia/Tokyo', false),
  ('XHKG', 'Hong Kong Stock Exchange', 'Asia/Hong_Kong', false),
  ('XSHG', 'Shanghai Stock Exchange', 'Asia/Shanghai', false),
  ('XASX', 'Australian Securities Exchange', 'Australia/Sydney', false);
CREATE TABLE marketdata.market_sessions (
  market text NOT NULL REFERENCES marketdata.markets (code),
  open_at timestamptz NOT NULL,
  close_at timestamptz NOT NULL,
  kind text NOT NULL DEFAULT 'regular' CHECK (kind IN ('pre', 'regular', 'post')),
  -- the market's trading day, by its own date
  day date NOT NULL,
  -- that day closes before its usual time
  early_close boolean NOT NULL DEFAULT false,
  PRIMARY KEY (market, open_at),
  CONSTRAINT market_sessions_check CHECK (close_at > open_at)
);
CREATE INDEX market_sessions_by_day ON marketdata.market_sessions (market, day);
"""
INSTRUMENTS = """
CREATE TABLE marketdata.instruments (
  id uuid PRIMARY KEY,
  symbol text NOT NULL UNIQUE,
  name text NOT NULL,
  asset_class text NOT NULL,
  market text NOT NULL REFERENCES marketdata.markets (code),
  currency text NOT NULL,
  tick_size numeric NOT NULL CHECK (tick_size > 0),
  tradable boolean NOT NULL DEFAULT true,
  -- counts the updates of its price
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
  quoted_at timestamptz,
  -- the bar beside its price began at the price before it
  since timestamptz,
  split_count integer NOT NULL DEFAULT 0,
  -- also on this row, whose lock decides whether a price or a halt comes first
  halted_at timestamptz,
  halt_reason text,
  resumed_at timestamptz,
  CONSTRAINT instruments_check CHECK ((halted_at IS NULL) = (halt_reason IS NULL))
);
CREATE INDEX instruments_pairs ON marketdata.instruments (symbol) WHERE symbol ~ '^[A-Z]{3}/[A-Z]{3}$';
CREATE TABLE marketdata.provider_states (
  provider text PRIMARY KEY,
  state jsonb,
  updated_at timestamptz
);
"""
BARS = """
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
"""
CORPORATE_ACTIONS = """
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
"""
HALTS = """
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
CREATE TABLE marketdata.halts (
  id uuid PRIMARY KEY,
  symbol text NOT NULL REFERENCES marketdata.instruments (symbol),
  reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
  began_at timestamptz NOT NULL,
  ended_at timestamptz,
  CONSTRAINT halts_check CHECK (ended_at >= began_at)
);
CREATE UNIQUE INDEX halts_standing ON marketdata.halts (symbol) WHERE ended_at IS NULL;
CREATE INDEX halts_of_symbol ON marketdata.halts (symbol, began_at);
CREATE INDEX halts_by_time ON marketdata.halts (began_at DESC, id DESC);
"""
VIEWS = """
CREATE VIEW marketdata.markets_v1 AS
  SELECT code, name, timezone, always_open FROM marketdata.markets;
CREATE VIEW marketdata.sessions_v1 AS
  SELECT market, open_at, close_at FROM marketdata.market_sessions WHERE kind = 'regular'
  UNION ALL
  SELECT code, '-infinity', 'infinity' FROM marketdata.markets WHERE always_open;
CREATE VIEW marketdata.sessions_v2 AS
  SELECT market, day, CASE kind WHEN 'pre' THEN 'pre_market' WHEN 'post' THEN 'after_hours' ELSE kind END AS phase,
         open_at, close_at, early_close
  FROM marketdata.market_sessions;
-- regular trading of a day, from its first open to its last close: a midday break lies inside
CREATE VIEW marketdata.trading_days_v1 AS
  SELECT market, day, min(open_at) AS open_at, max(close_at) AS close_at
  FROM marketdata.market_sessions WHERE kind = 'regular' GROUP BY market, day;
CREATE VIEW marketdata.instruments_v1 AS
  SELECT id, symbol, name, asset_class, market, currency, tick_size, tradable, sequence, provider,
         last_price AS last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at, since, split_count,
         halted_at, halt_reason
  FROM marketdata.instruments;
CREATE VIEW marketdata.bars_v1 AS
  SELECT symbol, interval, start_at, open, high, low, close, volume, provider FROM marketdata.market_data;
CREATE VIEW marketdata.corporate_actions_v1 AS
  SELECT id, symbol, kind, ratio, amount, effective_at, entered_at, applied_at FROM marketdata.corporate_actions;
CREATE VIEW marketdata.official_prices_v1 AS
  SELECT symbol, day, kind, price, volume, held_at, known_at, provider, sequence, split_count
  FROM marketdata.official_prices;
CREATE VIEW marketdata.halts_v1 AS SELECT id, symbol, reason, began_at, ended_at FROM marketdata.halts;
-- EUR/USD, in USD, gives the worth of a euro in dollars, and where there is no USD/EUR the other way round:
-- there its bid is the other side's ask, and is rounded against the trader
CREATE VIEW marketdata.rates_v1 AS
  WITH pairs AS (
    SELECT symbol, split_part(symbol, '/', 1) AS base, currency AS quoted_in, bid, ask, last_price AS last,
           quoted_at
    FROM marketdata.instruments
    WHERE symbol ~ '^[A-Z]{3}/[A-Z]{3}$' AND split_part(symbol, '/', 2) = currency AND last_price IS NOT NULL
  )
  SELECT base AS currency, quoted_in AS account_currency, symbol, bid, ask, last, quoted_at FROM pairs
  UNION ALL
  SELECT quoted_in, base, symbol, trim_scale(floor(1e12 / ask) / 1e12), trim_scale(ceil(1e12 / bid) / 1e12),
         trim_scale(round(1 / last, 12)), quoted_at
  FROM pairs p
  WHERE NOT EXISTS (SELECT FROM pairs direct WHERE direct.base = p.quoted_in AND direct.quoted_in = p.base);
GRANT SELECT ON marketdata.markets_v1, marketdata.sessions_v1, marketdata.sessions_v2, marketdata.trading_days_v1,
  marketdata.instruments_v1, marketdata.bars_v1, marketdata.corporate_actions_v1, marketdata.official_prices_v1,
  marketdata.halts_v1, marketdata.rates_v1 TO paperprofit_services;
"""
