"""Accounts, orders, fills, lots, positions, round trips, trades, the ledger and margin calls.

Every key begins with the account: a transaction never needs two shards of accounts.
"""

from alembic import op

from shared.bus import tables

revision = "orders_v1_0001"
down_revision = None


def upgrade() -> None:
    for statements in (tables.create("orders"), ACCOUNTS, ORDERS, ORDER_INDEXES, QUOTES, FILLS, LEDGER, VIEWS):
        op.execute(statements)


ACCOUNTS = """
CREATE TABLE orders.accounts (
  id uuid PRIMARY KEY,
  number text NOT NULL UNIQUE,
  name text NOT NULL,
  currency text NOT NULL,
  status text NOT NULL DEFAULT 'ACTIVE',
  cash numeric NOT NULL DEFAULT 0,
  reserved numeric NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  -- of its newest event
  sequence bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  settings jsonb NOT NULL DEFAULT '{}',
  -- counts its resets, and when the present generation began
  generation integer NOT NULL DEFAULT 1 CHECK (generation >= 1),
  generation_at timestamptz
);
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
  CONSTRAINT margin_calls_check CHECK ((ended_at IS NULL) = (how IS NULL))
);
CREATE UNIQUE INDEX margin_calls_open ON orders.margin_calls (account_id) WHERE ended_at IS NULL;
"""
ORDERS = """
CREATE TABLE orders.orders (
  account_id uuid NOT NULL REFERENCES orders.accounts (id),
  id uuid NOT NULL,
  client_order_id text NOT NULL,
  symbol text NOT NULL,
  side text NOT NULL CHECK (side IN ('buy', 'sell')),
  type text NOT NULL,
  time_in_force text NOT NULL,
  extended_hours boolean NOT NULL DEFAULT false,
  qty numeric CHECK (qty > 0),
  limit_price numeric CHECK (limit_price > 0),
  stop_price numeric CHECK (stop_price > 0),
  status text NOT NULL,
  filled_qty numeric NOT NULL DEFAULT 0,
  filled_avg_price numeric,
  reserved numeric NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  strategy_id uuid,
  submitted_at timestamptz NOT NULL,
  accepted_at timestamptz,
  filled_at timestamptz,
  canceled_at timestamptz,
  expires_at timestamptz,
  expired_at timestamptz,
  updated_at timestamptz NOT NULL,
  reject_reason text,
  reject_message text,
  trace text,
  generation integer NOT NULL DEFAULT 1,
  notional numeric CHECK (notional > 0),
  trail_price numeric CHECK (trail_price > 0),
  trail_percent numeric CHECK (trail_percent > 0),
  hwm numeric,
  triggered boolean NOT NULL DEFAULT false,
  active_at timestamptz,
  -- where a price must be to concern the order, and whether it may fill inside of a bar
  trigger_direction text CHECK (trigger_direction IN ('below', 'above', 'auction')),
  trigger_price numeric,
  on_bar boolean NOT NULL DEFAULT false,
  fills integer NOT NULL DEFAULT 0,
  fees numeric NOT NULL DEFAULT 0,
  held_for_orders numeric NOT NULL DEFAULT 0 CHECK (held_for_orders >= 0),
  carried numeric NOT NULL DEFAULT 0,
  order_class text NOT NULL DEFAULT 'simple' CHECK (order_class IN ('simple', 'bracket', 'oto', 'oco')),
  order_group uuid NOT NULL,
  leg text CHECK (leg IN ('take_profit', 'stop_loss')),
  replaces uuid,
  replaced_by uuid,
  replaced_at timestamptz,
  cancel_reason text,
  -- when a split changed its quantity and prices
  adjusted_at timestamptz,
  -- of an order for an auction: its trading day, and when it is due
  auction_day date,
  auction_at timestamptz,
  -- the instrument's, and the average rate at which its fills were converted into the account's
  currency text NOT NULL DEFAULT 'USD',
  filled_avg_rate numeric NOT NULL DEFAULT 1 CHECK (filled_avg_rate > 0),
  -- Each question about open orders has a column and an index that no other question can use: a plan that was made
  -- while few orders were open would otherwise take any index for as good as the right one.
  is_open boolean NOT NULL GENERATED ALWAYS AS (status IN ('accepted', 'held', 'partially_filled')) STORED,
  works boolean NOT NULL GENERATED ALWAYS AS (status IN ('accepted', 'partially_filled')) STORED,
  trails boolean NOT NULL GENERATED ALWAYS AS (
    status IN ('accepted', 'partially_filled') AND type = 'trailing_stop' AND NOT triggered) STORED,
  expires boolean NOT NULL GENERATED ALWAYS AS (
    status IN ('accepted', 'held', 'partially_filled') AND expires_at IS NOT NULL) STORED,
  awaits_auction boolean NOT NULL GENERATED ALWAYS AS (
    status IN ('accepted', 'partially_filled') AND trigger_direction IS NOT DISTINCT FROM 'auction') STORED,
  PRIMARY KEY (account_id, id),
  CONSTRAINT orders_types CHECK (type IN ('market', 'limit', 'stop', 'stop_limit', 'trailing_stop')),
  CONSTRAINT orders_times CHECK (time_in_force IN ('day', 'gtc', 'opg', 'cls', 'ioc', 'fok')),
  CONSTRAINT orders_statuses CHECK (status IN ('accepted', 'held', 'partially_filled', 'filled', 'canceled',
                                               'expired', 'replaced', 'rejected')),
  CONSTRAINT orders_limits CHECK ((type IN ('limit', 'stop_limit')) = (limit_price IS NOT NULL)),
  CONSTRAINT orders_stops CHECK ((type IN ('stop', 'stop_limit')) = (stop_price IS NOT NULL)),
  CONSTRAINT orders_trails CHECK ((type = 'trailing_stop') = (num_nonnulls(trail_price, trail_percent) = 1)),
  CONSTRAINT orders_sizes CHECK (num_nonnulls(qty, notional) = 1),
  CONSTRAINT orders_filled CHECK (filled_qty >= 0 AND filled_qty <= qty),
  CONSTRAINT orders_rejected CHECK ((status = 'rejected') = (reject_reason IS NOT NULL)),
  CONSTRAINT orders_triggers CHECK (status NOT IN ('accepted', 'held', 'partially_filled')
    OR (trigger_direction IS NOT NULL AND trigger_price IS NOT NULL AND active_at IS NOT NULL)),
  CONSTRAINT orders_ended CHECK (status IN ('accepted', 'held', 'partially_filled')
    OR (reserved = 0 AND held_for_orders = 0)),
  CONSTRAINT orders_auction CHECK (status NOT IN ('accepted', 'held', 'partially_filled')
    OR trigger_direction = 'auction' AND time_in_force IN ('opg', 'cls')
       AND num_nulls(auction_day, auction_at, expires_at) = 0
    OR trigger_direction <> 'auction' AND time_in_force NOT IN ('opg', 'cls')
       AND num_nonnulls(auction_day, auction_at) = 0)
);
"""
ORDER_INDEXES = """
CREATE INDEX orders_by_time ON orders.orders (account_id, submitted_at DESC);
-- a client's id is unique among the orders that were not rejected
CREATE UNIQUE INDEX orders_client_id ON orders.orders (account_id, client_order_id) WHERE status <> 'rejected';
CREATE INDEX orders_rejected ON orders.orders (account_id, client_order_id) WHERE status = 'rejected';
-- which orders a price may fill
CREATE INDEX orders_by_trigger ON orders.orders (symbol, trigger_direction, trigger_price) WHERE works;
-- which trailing stops have a better price to follow
CREATE INDEX orders_trailing ON orders.orders (symbol, side, hwm) WHERE trails;
-- which orders end together
CREATE INDEX orders_by_group ON orders.orders (account_id, order_group) WHERE is_open;
CREATE INDEX orders_nested ON orders.orders (account_id, order_group) WHERE order_class <> 'simple';
-- which orders are due
CREATE INDEX orders_expiring ON orders.orders (expires_at) WHERE expires;
-- which auctions have orders, and which orders an auction may fill
CREATE INDEX orders_auctions ON orders.orders (symbol, auction_day, time_in_force) WHERE awaits_auction;
-- which orders of a symbol are open, of everybody or of one account
CREATE INDEX orders_open ON orders.orders (symbol, account_id)
  WHERE status IN ('accepted', 'held', 'partially_filled');
-- an account's ended orders, the newest first, however many rest
CREATE INDEX orders_not_open ON orders.orders (account_id, submitted_at DESC)
  WHERE status NOT IN ('accepted', 'held', 'partially_filled');
-- which orders of a symbol are a strategy's
CREATE INDEX orders_strategies ON orders.orders (account_id, strategy_id, symbol) WHERE strategy_id IS NOT NULL;
"""
QUOTES = """
-- the latest price update that was applied of each symbol: an older one is dropped, and those after it may be missing
CREATE TABLE orders.quotes (
  symbol text PRIMARY KEY,
  sequence bigint NOT NULL,
  quoted_at timestamptz NOT NULL,
  -- how many splits of the symbol were applied; a price that comes after another one waits for it
  split_count integer NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
-- what accounts that may take only a share of the market consumed of each symbol's latest price update
CREATE TABLE orders.consumed (
  symbol text NOT NULL,
  pool text NOT NULL CHECK (pool IN ('ask', 'bid', 'bar')),
  -- a bar that is made up for has the sequence of the price before it
  sequence bigint NOT NULL,
  quoted_at timestamptz NOT NULL,
  qty numeric NOT NULL CHECK (qty >= 0),
  PRIMARY KEY (symbol, pool)
);
"""
FILLS = """
CREATE TABLE orders.fills (
  account_id uuid NOT NULL,
  order_id uuid NOT NULL,
  number integer NOT NULL CHECK (number >= 1),
  id uuid NOT NULL,
  symbol text NOT NULL,
  side text NOT NULL,
  qty numeric NOT NULL CHECK (qty > 0),
  price numeric NOT NULL CHECK (price > 0),
  amount numeric NOT NULL,
  fee numeric NOT NULL DEFAULT 0,
  filled_at timestamptz NOT NULL,
  -- the price it was filled on
  price_sequence bigint NOT NULL,
  quoted_at timestamptz NOT NULL,
  bid numeric,
  ask numeric,
  last numeric NOT NULL,
  generation integer NOT NULL DEFAULT 1,
  stage text NOT NULL DEFAULT 'quote' CHECK (stage IN ('open', 'range', 'quote', 'auction')),
  slippage numeric NOT NULL DEFAULT 0 CHECK (slippage >= 0),
  since timestamptz,
  open numeric,
  high numeric,
  low numeric,
  -- price and slippage are in this currency, a unit of which cost or brought so much of the account's
  currency text NOT NULL DEFAULT 'USD',
  rate numeric NOT NULL DEFAULT 1 CHECK (rate > 0),
  rate_quoted_at timestamptz,
  rate_bid numeric,
  rate_ask numeric,
  -- of the lots that it closed; null where it closed none
  realized_pl numeric,
  PRIMARY KEY (account_id, order_id, number),
  FOREIGN KEY (account_id, order_id) REFERENCES orders.orders (account_id, id)
);
CREATE TABLE orders.lots (
  account_id uuid NOT NULL,
  symbol text NOT NULL,
  fill_id uuid NOT NULL,
  opened_at timestamptz NOT NULL,
  qty numeric NOT NULL,
  cost numeric NOT NULL,
  strategy_id uuid,
  PRIMARY KEY (account_id, symbol, fill_id),
  CONSTRAINT lots_signs CHECK (sign(qty) = sign(cost) OR qty = 0 AND cost = 0 OR cost = 0)
);
CREATE INDEX lots_open ON orders.lots (account_id, symbol, opened_at) WHERE qty <> 0;
CREATE INDEX lots_by_symbol ON orders.lots (symbol) WHERE qty <> 0;
CREATE TABLE orders.positions (
  account_id uuid NOT NULL REFERENCES orders.accounts (id),
  symbol text NOT NULL,
  qty numeric NOT NULL,
  cost numeric NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, symbol)
);
CREATE INDEX positions_by_symbol ON orders.positions (symbol) WHERE qty <> 0;
CREATE INDEX positions_short ON orders.positions (account_id) WHERE qty < 0;
CREATE TABLE orders.round_trips (
  account_id uuid NOT NULL,
  id uuid NOT NULL,
  symbol text NOT NULL,
  qty numeric NOT NULL CHECK (qty > 0),
  entry_fill_id uuid NOT NULL,
  exit_fill_id uuid NOT NULL,
  opened_at timestamptz NOT NULL,
  closed_at timestamptz NOT NULL,
  cost numeric NOT NULL,
  proceeds numeric NOT NULL,
  realized_pl numeric NOT NULL,
  strategy_id uuid,
  generation integer NOT NULL DEFAULT 1,
  side text NOT NULL DEFAULT 'long' CHECK (side IN ('long', 'short')),
  entry_strategy_id uuid,
  PRIMARY KEY (account_id, id),
  CONSTRAINT round_trips_check CHECK (realized_pl = proceeds - cost)
);
CREATE INDEX round_trips_by_time ON orders.round_trips (account_id, closed_at DESC, id DESC);
-- a completed order: one that has ended, of which something was filled
CREATE TABLE orders.trades (
  account_id uuid NOT NULL,
  order_id uuid NOT NULL,
  generation integer NOT NULL,
  symbol text NOT NULL,
  side text NOT NULL CHECK (side IN ('buy', 'sell')),
  -- of all its fills; the price is in the instrument's currency, fees and P&L in the account's
  qty numeric NOT NULL CHECK (qty > 0),
  avg_price numeric NOT NULL CHECK (avg_price > 0),
  currency text NOT NULL,
  fees numeric NOT NULL,
  -- null where it closed nothing
  realized_pl numeric,
  strategy_id uuid,
  submitted_at timestamptz NOT NULL,
  first_fill_at timestamptz NOT NULL,
  completed_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, order_id)
);
CREATE INDEX trades_by_time ON orders.trades (account_id, completed_at DESC, order_id DESC);
"""
LEDGER = """
CREATE TABLE orders.ledger (
  account_id uuid NOT NULL REFERENCES orders.accounts (id),
  id bigint GENERATED ALWAYS AS IDENTITY,
  at timestamptz NOT NULL,
  kind text NOT NULL,
  cash numeric NOT NULL,
  -- the fill, transfer, reset, corporate action or day of interest that it is about
  reference uuid NOT NULL,
  generation integer NOT NULL DEFAULT 1,
  symbol text,
  qty numeric NOT NULL DEFAULT 0,
  cost numeric NOT NULL DEFAULT 0,
  fee numeric NOT NULL DEFAULT 0,
  interest numeric NOT NULL DEFAULT 0,
  realized numeric NOT NULL DEFAULT 0,
  dividend numeric NOT NULL DEFAULT 0,
  capital numeric NOT NULL DEFAULT 0,
  PRIMARY KEY (account_id, id),
  CONSTRAINT ledger_kinds CHECK (kind IN ('deposit', 'withdrawal', 'fill', 'split', 'dividend', 'interest')),
  CONSTRAINT ledger_balances CHECK (cash + cost + fee + interest = realized + dividend + capital),
  CONSTRAINT ledger_symbols CHECK (symbol IS NOT NULL OR (qty = 0 AND cost = 0 AND realized = 0))
);
CREATE UNIQUE INDEX ledger_references ON orders.ledger (account_id, kind, reference);
"""
VIEWS = """
CREATE VIEW orders.accounts_v1 AS
  SELECT id, number, name, currency, status, cash, reserved, sequence, created_at, settings, generation, generation_at
  FROM orders.accounts;
CREATE VIEW orders.orders_v1 AS
  SELECT account_id, id, client_order_id, symbol, side, type, time_in_force, extended_hours, qty,
         limit_price, stop_price, status, filled_qty, filled_avg_price, strategy_id, submitted_at,
         accepted_at, filled_at, canceled_at, expires_at, expired_at, updated_at, reject_reason,
         reject_message, notional, trail_price, trail_percent, hwm, triggered, order_class, order_group, leg, replaces,
         replaced_by, replaced_at, cancel_reason, fees, held_for_orders, reserved, generation
  FROM orders.orders;
CREATE VIEW orders.positions_v1 AS
  SELECT account_id, symbol, qty, cost FROM orders.positions WHERE qty <> 0;
CREATE VIEW orders.fills_v1 AS
  SELECT account_id, order_id, number, id, symbol, side, qty, price, amount, fee, filled_at, currency, rate
  FROM orders.fills;
CREATE VIEW orders.round_trips_v1 AS
  SELECT account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at, cost, proceeds,
         realized_pl, strategy_id, side, entry_strategy_id, generation
  FROM orders.round_trips;
CREATE VIEW orders.trades_v1 AS
  SELECT account_id, order_id, generation, symbol, side, qty, avg_price, currency, fees, realized_pl, strategy_id,
         submitted_at, first_fill_at, completed_at
  FROM orders.trades;
CREATE VIEW orders.ledger_v2 AS
  SELECT account_id, id, generation, at, kind, reference, symbol, qty, cash, cost, fee, interest, realized, dividend,
         capital
  FROM orders.ledger;
GRANT SELECT ON orders.accounts_v1, orders.orders_v1, orders.positions_v1, orders.fills_v1, orders.round_trips_v1,
  orders.trades_v1, orders.ledger_v2 TO paperprofit_services;
"""
