"""The history of bars: their origin, the ranges that are covered, and adjusted bars."""

from alembic import op

revision = "marketdata_v1_0005"
down_revision = "marketdata_v1_0004"


def upgrade() -> None:
    for statements in (TABLES, VIEWS, ADJUSTMENTS, FUNCTIONS, RIGHTS):
        op.execute(statements)


TABLES = """
ALTER TABLE marketdata.market_data
  -- live: made of the prices that were polled. rolled_up: made of shorter bars. complete: whole, from a source of bars
  ADD COLUMN origin text NOT NULL DEFAULT 'live' CHECK (origin IN ('live', 'rolled_up', 'complete'));
-- hours of providers that start at the half hour: they take the place of two of ours
CREATE INDEX market_data_half_hours ON marketdata.market_data (start_at)
  WHERE interval = '1h' AND origin = 'complete'
    AND start_at <> date_bin(interval '1 hour', start_at, TIMESTAMPTZ '2000-01-01 00:00+00');
-- the times whose bars a provider was asked for, also where it had none
CREATE TABLE marketdata.bar_coverage (
  symbol text NOT NULL,
  interval text NOT NULL,
  provider text NOT NULL,
  covered tstzmultirange NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (symbol, interval, provider)
);
-- how far roll_up_bars has come
CREATE TABLE marketdata.roll_ups (
  source text PRIMARY KEY,
  until timestamptz NOT NULL
);
-- the providers that backfill_bars can ask, as the running release knows them
CREATE TABLE marketdata.history_providers (
  name text PRIMARY KEY,
  intervals text[] NOT NULL,
  preferred boolean NOT NULL,
  -- bars shorter than a day are removed after these days
  keep_days integer NOT NULL
);
"""
VIEWS = """
CREATE OR REPLACE VIEW marketdata.bars_v1 AS
  SELECT symbol, interval, start_at, open, high, low, close, volume, provider, origin FROM marketdata.market_data;
CREATE VIEW marketdata.bar_coverage_v1 AS
  SELECT c.symbol, c.interval, c.provider, lower(part) AS begin_at, upper(part) AS end_at
  FROM marketdata.bar_coverage c CROSS JOIN LATERAL unnest(c.covered) AS part;
CREATE VIEW marketdata.history_providers_v1 AS
  SELECT name, intervals, preferred, keep_days FROM marketdata.history_providers;
CREATE VIEW marketdata.provider_states_v1 AS SELECT provider, state, updated_at FROM marketdata.provider_states;
"""
#: A daily bar belongs to a date, so it is compared with the ex-date in its market. The close before the ex-date is that
#: of the last bar of any interval, in shares of the dividend's time. A price of the replay is no day's close.
ADJUSTMENTS = """
CREATE VIEW marketdata.adjustments_v1 AS
  SELECT c.id, c.symbol, c.kind, c.effective_at, ex.day_at,
         COALESCE(c.new_shares, 1) AS new_shares, COALESCE(c.old_shares, 1) AS old_shares,
         CASE WHEN c.kind = 'dividend' THEN COALESCE(
           (SELECT CASE WHEN c.amount < before.close THEN round(1 - c.amount / before.close, 12) END
            FROM (
              SELECT b.close * COALESCE(
                (SELECT marketdata.product(s.old_shares) / marketdata.product(s.new_shares)
                 FROM marketdata.corporate_actions s
                 WHERE s.symbol = c.symbol AND s.kind = 'split' AND s.applied_at IS NOT NULL
                   AND s.effective_at >= b.ended_at AND s.effective_at < c.effective_at), 1) AS close
              FROM (VALUES ('1d', interval '1 day'), ('1h', interval '1 hour'), ('15m', interval '15 minutes'),
                           ('5m', interval '5 minutes'), ('1m', interval '1 minute')) AS kinds (interval, length)
              CROSS JOIN LATERAL (
                SELECT d.close, LEAST(d.start_at + kinds.length, c.effective_at) AS ended_at
                FROM marketdata.market_data d
                WHERE d.symbol = c.symbol AND d.interval = kinds.interval
                  AND d.start_at <= CASE kinds.interval WHEN '1d' THEN ex.day_at ELSE c.effective_at END - kinds.length
                  AND d.start_at >= c.effective_at - interval '30 days'
                ORDER BY d.start_at DESC LIMIT 1
              ) b
              ORDER BY CAST(b.ended_at AS date) DESC, kinds.length DESC LIMIT 1
            ) before), 1) ELSE 1 END AS factor
  FROM marketdata.corporate_actions c
  JOIN marketdata.instruments i ON i.symbol = c.symbol
  JOIN marketdata.markets m ON m.code = i.market
  CROSS JOIN LATERAL (
    SELECT CAST(CAST(c.effective_at AT TIME ZONE m.timezone AS date) AS timestamp) AT TIME ZONE 'UTC' AS day_at
  ) ex
  WHERE c.applied_at IS NOT NULL AND c.kind IN ('split', 'dividend');
"""
#: The newest bars first. The way to adjust for a dividend is that of CRSP and Yahoo: all prices before the ex-date
#: times 1 - dividend / close before it.
FUNCTIONS = """
CREATE FUNCTION marketdata.adjusted_bars_v1(
  of_symbol text, of_interval text, begin_at timestamptz, end_at timestamptz, adjustment text, most integer
) RETURNS TABLE (start_at timestamptz, open numeric, high numeric, low numeric, close numeric, volume numeric,
                 provider text, origin text)
LANGUAGE sql STABLE AS $$
  WITH bars AS MATERIALIZED (
    SELECT b.* FROM marketdata.bars_v1 b
    WHERE b.symbol = of_symbol AND b.interval = of_interval AND b.start_at >= begin_at AND b.start_at < end_at
    ORDER BY b.start_at DESC LIMIT most
  ), steps AS MATERIALIZED (
    SELECT CASE of_interval WHEN '1d' THEN a.day_at ELSE a.effective_at END AS at, a.new_shares, a.old_shares, a.factor
    FROM marketdata.adjustments_v1 a
    WHERE a.symbol = of_symbol AND (adjustment = 'all' OR adjustment = a.kind)
      AND a.effective_at > (SELECT min(b.start_at) FROM bars b)
  )
  SELECT b.start_at,
         CASE WHEN s.steps = 0 THEN b.open ELSE trim_scale(round(b.open * s.factor * s.old / s.new, 9)) END,
         CASE WHEN s.steps = 0 THEN b.high ELSE trim_scale(round(b.high * s.factor * s.old / s.new, 9)) END,
         CASE WHEN s.steps = 0 THEN b.low ELSE trim_scale(round(b.low * s.factor * s.old / s.new, 9)) END,
         CASE WHEN s.steps = 0 THEN b.close ELSE trim_scale(round(b.close * s.factor * s.old / s.new, 9)) END,
         CASE WHEN s.steps = 0 THEN b.volume ELSE trim_scale(round(b.volume * s.new / s.old, 9)) END,
         b.provider, b.origin
  FROM bars b CROSS JOIN LATERAL (
    SELECT count(*) AS steps, marketdata.product(a.factor) AS factor, marketdata.product(a.new_shares) AS new,
           marketdata.product(a.old_shares) AS old
    FROM steps a WHERE a.at > b.start_at
  ) s
  ORDER BY b.start_at DESC
$$;
"""
RIGHTS = """
GRANT SELECT ON marketdata.bar_coverage_v1, marketdata.history_providers_v1, marketdata.adjustments_v1,
  marketdata.provider_states_v1 TO paperprofit_services;
"""
