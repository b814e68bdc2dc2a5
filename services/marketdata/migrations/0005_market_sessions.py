"""The known markets, and sessions that name their trading day, phase and half days."""

from alembic import op

revision = "marketdata_0005"
down_revision = "marketdata_0004"


def upgrade() -> None:
    for statements in (MARKETS, SESSIONS, VIEWS):
        op.execute(statements)


#: Those that shared.contracts.markets had at this revision. Later ones the service adds when it starts.
MARKETS = """
INSERT INTO marketdata.markets (code, name, timezone, always_open) VALUES
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
  ('XASX', 'Australian Securities Exchange', 'Australia/Sydney', false)
ON CONFLICT (code) DO NOTHING;
"""

SESSIONS = """
ALTER TABLE marketdata.market_sessions
  -- the market's trading day, by its own date
  ADD COLUMN day date,
  -- that day closes before its usual time
  ADD COLUMN early_close boolean NOT NULL DEFAULT false;
UPDATE marketdata.market_sessions s SET day = CAST(s.open_at AT TIME ZONE m.timezone AS date)
FROM marketdata.markets m WHERE m.code = s.market;
ALTER TABLE marketdata.market_sessions ALTER COLUMN day SET NOT NULL;
CREATE INDEX market_sessions_by_day ON marketdata.market_sessions (market, day);
"""

VIEWS = """
CREATE VIEW marketdata.markets_v1 AS
  SELECT code, name, timezone, always_open FROM marketdata.markets;
CREATE VIEW marketdata.sessions_v2 AS
  SELECT market, day, CASE kind WHEN 'pre' THEN 'pre_market' WHEN 'post' THEN 'after_hours' ELSE kind END AS phase,
         open_at, close_at, early_close
  FROM marketdata.market_sessions;
GRANT SELECT ON marketdata.markets_v1, marketdata.sessions_v2 TO paperprofit_services;
"""
