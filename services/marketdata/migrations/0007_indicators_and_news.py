"""Technical indicators with their values, and news."""

from alembic import op

revision = "marketdata_v1_0007"
down_revision = "marketdata_v1_0006"


def upgrade() -> None:
    for statements in (INDICATORS, CHANGED_BARS, NEWS, VIEWS):
        op.execute(statements)


INDICATORS = """
CREATE TABLE marketdata.indicators (
  -- follows from the other columns: shared.contracts.indicators
  id uuid PRIMARY KEY,
  symbol text NOT NULL REFERENCES marketdata.instruments (symbol) ON UPDATE CASCADE,
  interval text NOT NULL CHECK (interval IN ('1m', '5m', '15m', '1h', '1d')),
  name text NOT NULL,
  parameters jsonb NOT NULL,
  requested_at timestamptz NOT NULL,
  -- its outputs are three elements of the values of a bar, from 3 * slot + 1
  slot integer NOT NULL CHECK (slot >= 0),
  -- all bars have its values
  ready boolean NOT NULL DEFAULT false,
  UNIQUE (symbol, interval, slot)
);
-- the series of bars that have indicators
CREATE TABLE marketdata.indicator_series (
  symbol text NOT NULL REFERENCES marketdata.instruments (symbol) ON UPDATE CASCADE,
  interval text NOT NULL,
  -- counts the changes of its indicators, and of bars before computed_to
  version bigint NOT NULL DEFAULT 0,
  -- the start of the last bar that has values
  computed_to timestamptz,
  -- values from here on are to be computed again
  dirty_from timestamptz,
  -- the splits in the prices that the values were computed of
  splits text NOT NULL DEFAULT '',
  PRIMARY KEY (symbol, interval)
);
-- the values of all indicators of a series at one bar. NaN is a value that does not exist.
CREATE TABLE marketdata.indicator_values (
  symbol text NOT NULL,
  interval text NOT NULL,
  start_at timestamptz NOT NULL,
  values double precision[] NOT NULL,
  PRIMARY KEY (symbol, interval, start_at)
);
"""
#: A writer of bars need not know of indicators. Only bars of series with indicators are noted, and not those of the
#: present: the next update reads them. A bar that is written while an update runs is newer than what that update
#: leaves as computed_to, or older than a minute, or the last bar, which each update reads again.
CHANGED_BARS = """
CREATE TABLE marketdata.changed_bars (
  symbol text NOT NULL,
  interval text NOT NULL,
  start_at timestamptz NOT NULL
);
CREATE FUNCTION marketdata.note_changed_bars() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO marketdata.changed_bars (symbol, interval, start_at)
  SELECT s.symbol, s.interval, min(c.start_at)
  FROM changed c JOIN marketdata.indicator_series s ON s.symbol = c.symbol AND s.interval = c.interval
  WHERE c.start_at < s.computed_to OR c.start_at < now() - interval '1 minute'
  GROUP BY s.symbol, s.interval;
  RETURN NULL;
END $$;
CREATE TRIGGER note_added_bars AFTER INSERT ON marketdata.market_data
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION marketdata.note_changed_bars();
CREATE TRIGGER note_corrected_bars AFTER UPDATE ON marketdata.market_data
  REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION marketdata.note_changed_bars();
"""
NEWS = """
CREATE TABLE marketdata.news (
  id uuid PRIMARY KEY,
  title text NOT NULL,
  summary text NOT NULL,
  url text NOT NULL,
  source text NOT NULL,
  -- the provider or the feed that it came from
  provider text NOT NULL,
  published_at timestamptz NOT NULL,
  received_at timestamptz NOT NULL,
  score double precision NOT NULL CHECK (score BETWEEN -1 AND 1),
  scored_by text NOT NULL CHECK (scored_by IN ('provider', 'lexicon')),
  -- the same for all addresses of one page, and for one title of a source
  url_key text NOT NULL UNIQUE,
  title_key text NOT NULL
);
CREATE INDEX news_by_time ON marketdata.news (published_at DESC, id DESC);
CREATE INDEX news_by_title ON marketdata.news (title_key, published_at);
CREATE INDEX news_by_arrival ON marketdata.news (received_at);
CREATE TABLE marketdata.news_symbols (
  news_id uuid NOT NULL REFERENCES marketdata.news (id) ON DELETE CASCADE,
  symbol text NOT NULL,
  PRIMARY KEY (news_id, symbol)
);
CREATE INDEX news_of_symbol ON marketdata.news_symbols (symbol);
"""
#: As before, but the daily bar of a split's own day is of new shares: it begins at midnight, before the split.
VIEWS = """
CREATE OR REPLACE VIEW marketdata.bars_v2 AS
  SELECT b.symbol, b.interval, b.start_at,
         CASE WHEN s.splits = 0 THEN b.open ELSE round(b.open * s.old / s.new, 9) END AS open,
         CASE WHEN s.splits = 0 THEN b.high ELSE round(b.high * s.old / s.new, 9) END AS high,
         CASE WHEN s.splits = 0 THEN b.low ELSE round(b.low * s.old / s.new, 9) END AS low,
         CASE WHEN s.splits = 0 THEN b.close ELSE round(b.close * s.old / s.new, 9) END AS close,
         CASE WHEN s.splits = 0 THEN b.volume ELSE round(b.volume * s.new / s.old, 9) END AS volume, b.provider
  FROM marketdata.market_data b
  CROSS JOIN LATERAL (
    SELECT count(*) AS splits, marketdata.product(c.new_shares) AS new, marketdata.product(c.old_shares) AS old
    FROM marketdata.corporate_actions c
    WHERE c.symbol = b.symbol AND c.kind = 'split' AND c.split_count IS NOT NULL AND c.effective_at > b.start_at
      AND (b.interval <> '1d' OR b.start_at < (
        SELECT CAST(CAST(c.effective_at AT TIME ZONE m.timezone AS date) AS timestamp) AT TIME ZONE 'UTC'
        FROM marketdata.instruments i JOIN marketdata.markets m ON m.code = i.market WHERE i.symbol = c.symbol))
  ) s;
CREATE VIEW marketdata.indicators_v1 AS
  SELECT i.id, i.symbol, i.interval, i.name, i.parameters, i.requested_at, i.slot, i.ready, s.computed_to
  FROM marketdata.indicators i LEFT JOIN marketdata.indicator_series s USING (symbol, interval);
CREATE VIEW marketdata.indicator_values_v1 AS
  SELECT symbol, interval, start_at, values FROM marketdata.indicator_values;
CREATE VIEW marketdata.news_v1 AS
  SELECT id, title, summary, url, source, provider, published_at, received_at, score, scored_by FROM marketdata.news;
CREATE VIEW marketdata.news_symbols_v1 AS SELECT news_id, symbol FROM marketdata.news_symbols;
GRANT SELECT ON marketdata.indicators_v1, marketdata.indicator_values_v1, marketdata.news_v1,
  marketdata.news_symbols_v1 TO paperprofit_services;
"""
