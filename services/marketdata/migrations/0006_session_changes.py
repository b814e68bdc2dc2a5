"""Operators' changes of sessions, forecast days, differences from a second calendar, and fetched corporate actions."""

from alembic import op

revision = "marketdata_v1_0006"
down_revision = "marketdata_v1_0005"


def upgrade() -> None:
    for statements in (SESSIONS, CHANGES, DIFFERENCES, ACTIONS, VIEWS):
        op.execute(statements)


SESSIONS = """
ALTER TABLE marketdata.markets ADD COLUMN sessions_changed_at timestamptz;
-- the exchange has not announced that day yet
ALTER TABLE marketdata.market_sessions ADD COLUMN forecast boolean NOT NULL DEFAULT false;
"""
CHANGES = """
CREATE TABLE marketdata.session_changes (
  id uuid PRIMARY KEY,
  market text NOT NULL REFERENCES marketdata.markets (code),
  day date NOT NULL,
  closed boolean NOT NULL,
  -- null where the calendar's time holds
  open_at timestamptz,
  close_at timestamptz,
  reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
  made_at timestamptz NOT NULL,
  -- when it was taken back, or gave way to another change of the day
  removed_at timestamptz,
  -- the sessions of the exchange's calendar, which the day has again after the change
  calendar jsonb NOT NULL,
  CONSTRAINT session_changes_times CHECK (closed = (num_nonnulls(open_at, close_at) = 0))
);
CREATE UNIQUE INDEX session_changes_standing ON marketdata.session_changes (market, day) WHERE removed_at IS NULL;
CREATE INDEX session_changes_by_time ON marketdata.session_changes (made_at DESC, id DESC);
"""
DIFFERENCES = """
CREATE TABLE marketdata.session_differences (
  market text NOT NULL REFERENCES marketdata.markets (code),
  day date NOT NULL,
  kind text NOT NULL CHECK (kind IN ('trading_day', 'hours', 'usual_hours')),
  source text NOT NULL,
  open_at timestamptz,
  close_at timestamptz,
  other_open_at timestamptz,
  other_close_at timestamptz,
  -- why the calendar that is used is right
  known text,
  found_at timestamptz NOT NULL,
  PRIMARY KEY (market, day)
);
CREATE INDEX session_differences_by_day ON marketdata.session_differences (day, market);
"""
#: An action of before an instrument was traded here has a split_count of 0: nobody held it, and no price was changed.
ACTIONS = """
ALTER TABLE marketdata.instruments ADD COLUMN actions_fetched_at timestamptz;
ALTER TABLE marketdata.corporate_actions
  ADD COLUMN new_symbol text,
  ADD COLUMN ex_date date,
  -- null where an operator entered it
  ADD COLUMN provider text,
  -- what the provider said later of an action that had been applied
  ADD COLUMN correction jsonb,
  ADD COLUMN corrected_at timestamptz;
ALTER TABLE marketdata.corporate_actions
  DROP CONSTRAINT corporate_actions_kind_check,
  ADD CONSTRAINT corporate_actions_kinds CHECK (kind IN ('split', 'dividend', 'symbol_change')),
  ADD CONSTRAINT corporate_actions_symbols CHECK ((kind = 'symbol_change') = (new_symbol IS NOT NULL));
UPDATE marketdata.corporate_actions c SET ex_date = (c.effective_at AT TIME ZONE m.timezone)::date
FROM marketdata.instruments i JOIN marketdata.markets m ON m.code = i.market WHERE i.symbol = c.symbol;
CREATE UNIQUE INDEX corporate_actions_fetched ON marketdata.corporate_actions (symbol, kind, ex_date)
  WHERE provider IS NOT NULL;
CREATE INDEX corporate_actions_by_ex_date ON marketdata.corporate_actions (symbol, ex_date);
"""
VIEWS = """
CREATE OR REPLACE VIEW marketdata.markets_v1 AS
  SELECT code, name, timezone, always_open, sessions_changed_at FROM marketdata.markets;
CREATE OR REPLACE VIEW marketdata.sessions_v2 AS
  SELECT market, day, CASE kind WHEN 'pre' THEN 'pre_market' WHEN 'post' THEN 'after_hours' ELSE kind END AS phase,
         open_at, close_at, early_close, forecast
  FROM marketdata.market_sessions;
CREATE VIEW marketdata.session_changes_v1 AS
  SELECT id, market, day, closed, open_at, close_at, reason, made_at, removed_at FROM marketdata.session_changes;
CREATE VIEW marketdata.session_differences_v1 AS
  SELECT market, day, kind, source, open_at, close_at, other_open_at, other_close_at, known, found_at
  FROM marketdata.session_differences;
CREATE OR REPLACE VIEW marketdata.corporate_actions_v1 AS
  SELECT id, symbol, kind, ratio, amount, effective_at, entered_at, applied_at, new_shares, old_shares, cash_in_lieu,
         pay_at, split_count, ex_date, provider, correction, corrected_at, new_symbol
  FROM marketdata.corporate_actions;
GRANT SELECT ON marketdata.session_changes_v1, marketdata.session_differences_v1 TO paperprofit_services;
"""
