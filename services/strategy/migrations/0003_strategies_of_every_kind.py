"""Strategies of every kind, with versions, states and protections, and decisions and signals with all that led to them.

The crossovers that there are keep their averages, sizes and symbols. An average of one bar becomes one of two, which is
the least that the indicator has.
"""

from alembic import op

revision = "strategy_v1_0003"
down_revision = "strategy_v1_0002"


def upgrade() -> None:
    op.execute(STRATEGIES)
    op.execute(DECISIONS)
    op.execute(SIGNALS)
    op.execute(VIEWS)


STRATEGIES = """
ALTER TABLE strategy.strategies
  DROP CONSTRAINT strategies_kind_check,
  DROP CONSTRAINT strategies_name_key,
  ADD COLUMN parameters jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN version integer NOT NULL DEFAULT 1,
  -- None: at every run of trading_bot
  ADD COLUMN schedule text,
  ADD COLUMN sizing jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN protections jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN note text,
  ADD COLUMN state text NOT NULL DEFAULT 'created' CHECK (state IN ('created', 'running', 'paused', 'stopped')),
  ADD COLUMN state_reason text,
  -- the account's generation in which it was evaluated last
  ADD COLUMN generation bigint,
  ADD COLUMN evaluated_at timestamptz,
  ADD COLUMN failures integer NOT NULL DEFAULT 0,
  -- since when profits count for the protections, the highest of them, and that at the beginning of the day
  ADD COLUMN watched_since timestamptz,
  ADD COLUMN peak_profit numeric,
  ADD COLUMN day date,
  ADD COLUMN day_profit numeric,
  ADD COLUMN updated_at timestamptz;
UPDATE strategy.strategies SET
  parameters = jsonb_build_object('fast', greatest(fast, 2), 'slow', greatest(slow, 3)),
  sizing = jsonb_build_object('kind', 'qty', 'value', CAST(order_qty AS text),
                              'max_position_qty', CAST(max_position_qty AS text)),
  state = CASE WHEN enabled THEN 'running' ELSE 'stopped' END,
  watched_since = created_at,
  updated_at = created_at;
CREATE OR REPLACE VIEW strategy.symbols_v1 AS
  SELECT DISTINCT unnest(symbols) AS symbol FROM strategy.strategies WHERE state = 'running';
ALTER TABLE strategy.strategies
  DROP COLUMN fast, DROP COLUMN slow, DROP COLUMN order_qty, DROP COLUMN max_position_qty, DROP COLUMN enabled,
  ALTER COLUMN updated_at SET NOT NULL;
CREATE UNIQUE INDEX strategies_by_name ON strategy.strategies (account_id, name);
CREATE TABLE strategy.versions (
  strategy_id uuid NOT NULL REFERENCES strategy.strategies (id),
  version integer NOT NULL,
  at timestamptz NOT NULL,
  terms jsonb NOT NULL,
  PRIMARY KEY (strategy_id, version)
);
INSERT INTO strategy.versions
  SELECT id, 1, created_at, jsonb_build_object('kind', kind, 'parameters', parameters, 'symbols', to_jsonb(symbols),
    'interval', interval, 'schedule', NULL, 'sizing', sizing, 'protections', protections)
  FROM strategy.strategies;
-- the kinds that the running release and its packages know
CREATE TABLE strategy.kinds (
  kind text PRIMARY KEY,
  title text NOT NULL,
  source text NOT NULL,
  schema jsonb NOT NULL
);
"""
#: The symbol of a decision that failed is *, since the strategy decided on none.
DECISIONS = """
ALTER TABLE strategy.decisions
  DROP CONSTRAINT decisions_action_check,
  ADD COLUMN version integer NOT NULL DEFAULT 1,
  ADD COLUMN outcome text NOT NULL DEFAULT 'held'
    CHECK (outcome IN ('held', 'ordered', 'cut', 'blocked', 'repeated', 'failed')),
  ADD COLUMN side text CHECK (side IN ('buy', 'sell')),
  ADD COLUMN close numeric,
  ADD COLUMN last numeric,
  ADD COLUMN quote_at timestamptz,
  ADD COLUMN position numeric,
  ADD COLUMN equity numeric,
  ADD COLUMN conditions jsonb,
  ADD COLUMN cuts text[];
UPDATE strategy.decisions SET
  outcome = CASE WHEN order_id IS NOT NULL THEN 'ordered' WHEN action = 'hold' THEN 'held' ELSE 'repeated' END,
  side = CASE WHEN order_id IS NOT NULL THEN action END,
  action = CASE action WHEN 'buy' THEN 'enter_long' WHEN 'sell' THEN 'exit' ELSE action END;
CREATE INDEX decisions_of_orders ON strategy.decisions (order_id) WHERE order_id IS NOT NULL;
"""
SIGNALS = """
ALTER TABLE strategy.trading_signals
  ALTER COLUMN action DROP NOT NULL,
  ADD COLUMN type text,
  ADD COLUMN version integer NOT NULL DEFAULT 1,
  ADD COLUMN strength numeric NOT NULL DEFAULT 1,
  ADD COLUMN confidence numeric NOT NULL DEFAULT 1,
  ADD COLUMN indicators jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN order_id uuid;
UPDATE strategy.trading_signals SET
  type = CASE action WHEN 'buy' THEN 'enter_long' ELSE 'exit' END, order_id = id;
ALTER TABLE strategy.trading_signals ALTER COLUMN type SET NOT NULL;
CREATE INDEX signals_by_time ON strategy.trading_signals (strategy_id, at DESC, id DESC);
"""
VIEWS = """
CREATE VIEW strategy.strategies_v1 AS
  SELECT id, name, account_id, kind, parameters, version, symbols, interval, schedule, sizing, protections, note, state,
         state_reason, generation, evaluated_at, failures, created_at, updated_at
  FROM strategy.strategies;
CREATE VIEW strategy.versions_v1 AS SELECT strategy_id, version, at, terms FROM strategy.versions;
CREATE VIEW strategy.kinds_v1 AS SELECT kind, title, source, schema FROM strategy.kinds;
CREATE VIEW strategy.decisions_v1 AS
  SELECT strategy_id, symbol, run_id, version, at, bar_at, action, outcome, reason, side, qty, close, last, quote_at,
         position, equity, conditions, cuts, order_id
  FROM strategy.decisions;
CREATE VIEW strategy.signals_v1 AS
  SELECT id, strategy_id, symbol, bar_at, at, type, action, version, price, strength, confidence, reason, indicators,
         order_id
  FROM strategy.trading_signals;
GRANT SELECT ON strategy.strategies_v1, strategy.versions_v1, strategy.kinds_v1, strategy.decisions_v1,
  strategy.signals_v1 TO paperprofit_services;
"""
