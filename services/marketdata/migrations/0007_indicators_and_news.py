"""Technical indicators with their values, and news."""

from alembic import op

revision = "marketdata_v1_0007"
down_revision = "marketdata_v1_0003"


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
  requested_at timestamptz NOT NULL
);
CREATE INDEX indicators_of_series ON marketdata.indicators (symbol, interval);
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
-- a row for each bar: null before there are enough bars, as many values as the indicator has outputs
CREATE TABLE marketdata.indicator_values (
  id uuid NOT NULL,
  start_at timestamptz NOT NULL,
  value_1 double precision,
  value_2 double precision,
  value_3 double precision,
  PRIMARY KEY (id, start_at)
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
VIEWS = """
CREATE VIEW marketdata.indicators_v1 AS
  SELECT i.id, i.symbol, i.interval, i.name, i.parameters, i.requested_at, s.computed_to
  FROM marketdata.indicators i LEFT JOIN marketdata.indicator_series s USING (symbol, interval);
CREATE VIEW marketdata.indicator_values_v1 AS
  SELECT id, start_at, value_1, value_2, value_3 FROM marketdata.indicator_values;
CREATE VIEW marketdata.news_v1 AS
  SELECT id, title, summary, url, source, provider, published_at, received_at, score, scored_by FROM marketdata.news;
CREATE VIEW marketdata.news_symbols_v1 AS SELECT news_id, symbol FROM marketdata.news_symbols;
GRANT SELECT ON marketdata.indicators_v1, marketdata.indicator_values_v1, marketdata.news_v1,
  marketdata.news_symbols_v1 TO paperprofit_services;
"""
