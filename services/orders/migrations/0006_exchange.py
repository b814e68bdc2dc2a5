"""All order types and classes, fill models, margin accounts, and a ledger in which every entry balances.

Rows are carried over. An earlier release cannot write beside this one: stop its orders replicas first.
"""

from alembic import op

revision = "orders_0006"
down_revision = "orders_0005"


def upgrade() -> None:
    op.execute(_ACCOUNTS)
    op.execute(_ORDERS)
    op.execute(_FILLS)
    op.execute(_LEDGER)
    op.execute(_VIEWS)


_ACCOUNTS = """
ALTER TABLE orders.accounts
  ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN generation integer NOT NULL DEFAULT 1 CHECK (generation >= 1),
  ADD COLUMN generation_at timestamptz;
UPDATE orders.accounts SET generation_at = created_at;
"""
_ORDERS = """
DROP INDEX orders.orders_resting;
DROP INDEX orders.orders_expiring;
ALTER TABLE orders.orders
  DROP CONSTRAINT orders_type_check,
  DROP CONSTRAINT orders_time_in_force_check,
  DROP CONSTRAINT orders_check,
  DROP CONSTRAINT orders_check1,
  DROP CONSTRAINT orders_check2,
  DROP CONSTRAINT orders_check3,
  DROP COLUMN trigger_price,
  ALTER COLUMN qty DROP NOT NULL,
  ADD COLUMN generation integer NOT NULL DEFAULT 1,
  ADD COLUMN notional numeric CHECK (notional > 0),
  ADD COLUMN trail_price numeric CHECK (trail_price > 0),
  ADD COLUMN trail_percent numeric CHECK (trail_percent > 0),
  ADD COLUMN hwm numeric,
  ADD COLUMN triggered boolean NOT NULL DEFAULT false,
  ADD COLUMN active_at timestamptz,
  -- where a price must be to concern the order, and whether it may fill inside of a bar
  ADD COLUMN trigger_direction text CHECK (trigger_direction IN ('below', 'above')),
  ADD COLUMN trigger_price numeric,
  ADD COLUMN on_bar boolean NOT NULL DEFAULT false,
  ADD COLUMN fills integer NOT NULL DEFAULT 0,
  ADD COLUMN fees numeric NOT NULL DEFAULT 0,
  ADD COLUMN held_for_orders numeric NOT NULL DEFAULT 0 CHECK (held_for_orders >= 0),
  ADD COLUMN carried numeric NOT NULL DEFAULT 0,
  ADD COLUMN order_class text NOT NULL DEFAULT 'simple' CHECK (order_class IN ('simple', 'bracket', 'oto', 'oco')),
  ADD COLUMN order_group uuid,
  ADD COLUMN leg text CHECK (leg IN ('take_profit', 'stop_loss')),
  ADD COLUMN replaces uuid,
  ADD COLUMN replaced_by uuid,
  ADD COLUMN replaced_at timestamptz,
  ADD COLUMN cancel_reason text,
  -- when a split changed its quantity and prices
  ADD COLUMN adjusted_at timestamptz,
  ADD CONSTRAINT orders_types CHECK (type IN ('market', 'limit', 'stop', 'stop_limit', 'trailing_stop')),
  ADD CONSTRAINT orders_times CHECK (time_in_force IN ('day', 'gtc', 'ioc', 'fok')),
  ADD CONSTRAINT orders_statuses CHECK (status IN ('accepted', 'held', 'partially_filled', 'filled', 'canceled',
                                                   'expired', 'replaced', 'rejected')),
  ADD CONSTRAINT orders_limits CHECK ((type IN ('limit', 'stop_limit')) = (limit_price IS NOT NULL)),
  ADD CONSTRAINT orders_stops CHECK ((type IN ('stop', 'stop_limit')) = (stop_price IS NOT NULL)),
  ADD CONSTRAINT orders_trails CHECK ((type = 'trailing_stop') = (num_nonnulls(trail_price, trail_percent) = 1)),
  ADD CONSTRAINT orders_sizes CHECK (num_nonnulls(qty, notional) = 1),
  ADD CONSTRAINT orders_filled CHECK (filled_qty >= 0 AND filled_qty <= qty),
  ADD CONSTRAINT orders_rejected CHECK ((status = 'rejected') = (reject_reason IS NOT NULL));
UPDATE orders.orders o SET
  active_at = accepted_at, order_group = id,
  fills = (SELECT count(*) FROM orders.fills f WHERE f.account_id = o.account_id AND f.order_id = o.id),
  held_for_orders = CASE WHEN side = 'sell' AND status IN ('accepted', 'partially_filled') THEN qty - filled_qty
  ELSE 0 END,
  trigger_direction = CASE WHEN type = 'market' OR (type = 'limit') = (side = 'buy') THEN 'below' ELSE 'above' END,
  trigger_price = COALESCE(stop_price, limit_price, 'Infinity');
ALTER TABLE orders.orders
  ALTER COLUMN order_group SET NOT NULL,
  ADD CONSTRAINT orders_by_trigger CHECK (status NOT IN ('accepted', 'held', 'partially_filled')
    OR (trigger_direction IS NOT NULL AND trigger_price IS NOT NULL AND active_at IS NOT NULL)),
  ADD CONSTRAINT orders_ended CHECK (status IN ('accepted', 'held', 'partially_filled')
    OR (reserved = 0 AND held_for_orders = 0));
CREATE INDEX orders_by_trigger ON orders.orders (symbol, trigger_direction, trigger_price)
  WHERE status IN ('accepted', 'partially_filled');
CREATE INDEX orders_trailing ON orders.orders (symbol)
  WHERE status IN ('accepted', 'partially_filled') AND type = 'trailing_stop' AND NOT triggered;
CREATE INDEX orders_by_group ON orders.orders (account_id, order_group)
  WHERE status IN ('accepted', 'held', 'partially_filled');
CREATE INDEX orders_expiring ON orders.orders (expires_at)
  WHERE status IN ('accepted', 'held', 'partially_filled') AND expires_at IS NOT NULL;
CREATE INDEX orders_nested ON orders.orders (account_id, order_group) WHERE order_class <> 'simple';
CREATE INDEX orders_open ON orders.orders (account_id, symbol)
  WHERE status IN ('accepted', 'held', 'partially_filled');

-- the latest price update that was applied of each symbol: an older one is dropped, and those after it may be missing
CREATE TABLE orders.quotes (
  symbol text PRIMARY KEY,
  sequence bigint NOT NULL,
  quoted_at timestamptz NOT NULL,
  -- how many splits of the symbol were applied; a price that comes after another one waits for it
  split_count integer NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
INSERT INTO orders.quotes (symbol, sequence, quoted_at)
SELECT s.key, s.sequence, now() FROM orders.sequences s WHERE s.consumer = 'orders.prices';
DELETE FROM orders.sequences WHERE consumer = 'orders.prices';

-- what accounts that may take only a share of the market took of each symbol's latest price update
CREATE TABLE orders.taken (
  symbol text NOT NULL,
  pool text NOT NULL CHECK (pool IN ('ask', 'bid', 'bar')),
  -- a bar that is made up for has the sequence of the price before it
  sequence bigint NOT NULL,
  quoted_at timestamptz NOT NULL,
  qty numeric NOT NULL CHECK (qty >= 0),
  PRIMARY KEY (symbol, pool)
);
"""
_FILLS = """
ALTER TABLE orders.fills
  ADD COLUMN generation integer NOT NULL DEFAULT 1,
  ADD COLUMN stage text NOT NULL DEFAULT 'quote' CHECK (stage IN ('open', 'range', 'quote')),
  ADD COLUMN slippage numeric NOT NULL DEFAULT 0 CHECK (slippage >= 0),
  ADD COLUMN since timestamptz,
  ADD COLUMN open numeric,
  ADD COLUMN high numeric,
  ADD COLUMN low numeric;
ALTER TABLE orders.lots
  DROP CONSTRAINT lots_qty_check,
  DROP CONSTRAINT lots_cost_check,
  ADD CONSTRAINT lots_signs CHECK (sign(qty) = sign(cost) OR qty = 0 AND cost = 0 OR cost = 0);
ALTER TABLE orders.lots ADD COLUMN strategy_id uuid;
DROP INDEX orders.lots_open;
CREATE INDEX lots_open ON orders.lots (account_id, symbol, opened_at) WHERE qty <> 0;
ALTER TABLE orders.round_trips
  ADD COLUMN generation integer NOT NULL DEFAULT 1,
  ADD COLUMN side text NOT NULL DEFAULT 'long' CHECK (side IN ('long', 'short')),
  ADD COLUMN entry_strategy_id uuid;
CREATE INDEX trades_by_time ON orders.round_trips (account_id, closed_at DESC, id DESC);
"""
_LEDGER = """
CREATE TABLE orders.margin_calls (
  account_id uuid NOT NULL REFERENCES orders.accounts (id),
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  equity numeric NOT NULL,
  required numeric NOT NULL,
  called_at timestamptz NOT NULL,
  due_at timestamptz NOT NULL,
  liquidated_at timestamptz,
  ended_at timestamptz,
  how text,
  PRIMARY KEY (account_id, id),
  CHECK ((ended_at IS NULL) = (how IS NULL))
);
CREATE UNIQUE INDEX margin_calls_open ON orders.margin_calls (account_id) WHERE ended_at IS NULL;
DROP VIEW orders.ledger_v1;
ALTER TABLE orders.ledger RENAME COLUMN amount TO cash;
ALTER TABLE orders.ledger RENAME COLUMN fill_id TO reference;
ALTER TABLE orders.ledger
  DROP CONSTRAINT ledger_kind_check,
  ADD COLUMN generation integer NOT NULL DEFAULT 1,
  ADD COLUMN symbol text,
  ADD COLUMN qty numeric NOT NULL DEFAULT 0,
  ADD COLUMN cost numeric NOT NULL DEFAULT 0,
  ADD COLUMN fee numeric NOT NULL DEFAULT 0,
  ADD COLUMN interest numeric NOT NULL DEFAULT 0,
  ADD COLUMN realized numeric NOT NULL DEFAULT 0,
  ADD COLUMN dividend numeric NOT NULL DEFAULT 0,
  ADD COLUMN capital numeric NOT NULL DEFAULT 0;
UPDATE orders.ledger SET capital = cash, reference = account_id WHERE kind IN ('deposit', 'withdrawal');
UPDATE orders.ledger l SET
  symbol = f.symbol,
  qty = CASE f.side WHEN 'buy' THEN f.qty ELSE -f.qty END,
  realized = t.realized,
  cost = t.realized - l.cash
FROM orders.fills f
CROSS JOIN LATERAL (
  SELECT COALESCE(sum(realized_pl), 0) AS realized FROM orders.round_trips t
  WHERE t.account_id = f.account_id AND t.exit_fill_id = f.id
) t
WHERE l.kind = 'fill' AND f.account_id = l.account_id AND f.id = l.reference;
ALTER TABLE orders.ledger
  ALTER COLUMN reference SET NOT NULL,
  ADD CONSTRAINT ledger_kinds CHECK (kind IN ('deposit', 'withdrawal', 'fill', 'split', 'dividend', 'interest')),
  ADD CONSTRAINT ledger_balances CHECK (cash + cost + fee + interest = realized + dividend + capital),
  ADD CONSTRAINT ledger_symbols CHECK (symbol IS NOT NULL OR (qty = 0 AND cost = 0 AND realized = 0));
CREATE UNIQUE INDEX ledger_references ON orders.ledger (account_id, kind, reference);
CREATE INDEX positions_short ON orders.positions (account_id) WHERE qty < 0;
CREATE INDEX lots_by_symbol ON orders.lots (symbol) WHERE qty <> 0;
"""
_VIEWS = """
CREATE OR REPLACE VIEW orders.accounts_v1 AS
  SELECT id, number, name, currency, status, cash, reserved, sequence, created_at, settings, generation, generation_at
  FROM orders.accounts;
CREATE OR REPLACE VIEW orders.orders_v1 AS
  SELECT account_id, id, client_order_id, symbol, side, type, time_in_force, extended_hours, qty,
         limit_price, stop_price, status, filled_qty, filled_avg_price, strategy_id, submitted_at,
         accepted_at, filled_at, canceled_at, expires_at, expired_at, updated_at, reject_reason,
         reject_message, notional, trail_price, trail_percent, hwm, triggered, order_class, order_group, leg, replaces,
         replaced_by, replaced_at, cancel_reason, fees, held_for_orders, reserved, generation
  FROM orders.orders;
CREATE OR REPLACE VIEW orders.round_trips_v1 AS
  SELECT account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at, cost, proceeds,
         realized_pl, strategy_id, side, entry_strategy_id, generation
  FROM orders.round_trips;
CREATE VIEW orders.ledger_v2 AS
  SELECT account_id, id, generation, at, kind, reference, symbol, qty, cash, cost, fee, interest, realized,
    dividend, capital
  FROM orders.ledger;
-- what an earlier release of valuation reads
CREATE VIEW orders.ledger_v1 AS
  SELECT account_id, id, at, kind, cash AS amount, reference AS fill_id
  FROM orders.ledger;
GRANT SELECT ON orders.ledger_v1, orders.ledger_v2 TO paperprofit_services;
"""
