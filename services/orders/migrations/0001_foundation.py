"""Accounts, orders, fills, lots, positions, trades and the cash ledger.

Every key begins with the account: a transaction never needs two shards of accounts.
"""

from alembic import op

from shared.bus import tables

revision = "orders_0001"
down_revision = None


def upgrade() -> None:
    op.execute(tables.create_v1("orders"))
    op.execute("""
    CREATE TABLE orders.accounts (
      id uuid PRIMARY KEY,
      number text NOT NULL UNIQUE,
      name text NOT NULL,
      currency text NOT NULL,
      status text NOT NULL DEFAULT 'ACTIVE',
      cash numeric NOT NULL DEFAULT 0,
      reserved numeric NOT NULL DEFAULT 0 CHECK (reserved >= 0),
      sequence bigint NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL
    );

    CREATE TABLE orders.orders (
      account_id uuid NOT NULL REFERENCES orders.accounts (id),
      id uuid NOT NULL,
      client_order_id text NOT NULL,
      symbol text NOT NULL,
      side text NOT NULL CHECK (side IN ('buy', 'sell')),
      type text NOT NULL CHECK (type IN ('market', 'limit', 'stop')),
      time_in_force text NOT NULL CHECK (time_in_force IN ('day', 'gtc')),
      extended_hours boolean NOT NULL DEFAULT false,
      qty numeric NOT NULL CHECK (qty > 0),
      limit_price numeric CHECK (limit_price > 0),
      stop_price numeric CHECK (stop_price > 0),
      -- the price that makes it fill: of a limit order its limit, of a stop order its stop
      trigger_price numeric GENERATED ALWAYS AS (COALESCE(stop_price, limit_price)) STORED,
      status text NOT NULL,
      filled_qty numeric NOT NULL DEFAULT 0 CHECK (filled_qty >= 0 AND filled_qty <= qty),
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
      PRIMARY KEY (account_id, id),
      CHECK ((type = 'limit') = (limit_price IS NOT NULL)),
      CHECK ((type = 'stop') = (stop_price IS NOT NULL)),
      CHECK ((status = 'rejected') = (reject_reason IS NOT NULL))
    );
    CREATE UNIQUE INDEX orders_client_id ON orders.orders (account_id, client_order_id)
      WHERE status <> 'rejected';
    CREATE INDEX orders_resting ON orders.orders (symbol, type, side, trigger_price, accepted_at)
      WHERE status IN ('accepted', 'partially_filled');
    CREATE INDEX orders_expiring ON orders.orders (expires_at)
      WHERE status IN ('accepted', 'partially_filled') AND expires_at IS NOT NULL;
    CREATE INDEX orders_by_time ON orders.orders (account_id, submitted_at DESC);

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
      PRIMARY KEY (account_id, order_id, number),
      FOREIGN KEY (account_id, order_id) REFERENCES orders.orders (account_id, id)
    );

    CREATE TABLE orders.lots (
      account_id uuid NOT NULL,
      symbol text NOT NULL,
      fill_id uuid NOT NULL,
      opened_at timestamptz NOT NULL,
      qty numeric NOT NULL CHECK (qty >= 0),
      cost numeric NOT NULL CHECK (cost >= 0),
      PRIMARY KEY (account_id, symbol, fill_id)
    );
    CREATE INDEX lots_open ON orders.lots (account_id, symbol, opened_at) WHERE qty > 0;

    CREATE TABLE orders.positions (
      account_id uuid NOT NULL REFERENCES orders.accounts (id),
      symbol text NOT NULL,
      qty numeric NOT NULL,
      cost numeric NOT NULL,
      updated_at timestamptz NOT NULL,
      PRIMARY KEY (account_id, symbol)
    );
    CREATE INDEX positions_by_symbol ON orders.positions (symbol) WHERE qty <> 0;

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
      PRIMARY KEY (account_id, id),
      CHECK (realized_pl = proceeds - cost)
    );

    CREATE TABLE orders.ledger (
      account_id uuid NOT NULL REFERENCES orders.accounts (id),
      id bigint GENERATED ALWAYS AS IDENTITY,
      at timestamptz NOT NULL,
      kind text NOT NULL CHECK (kind IN ('deposit', 'withdrawal', 'fill', 'fee')),
      amount numeric NOT NULL,
      fill_id uuid,
      PRIMARY KEY (account_id, id)
    );

    CREATE VIEW orders.accounts_v1 AS
      SELECT id, number, name, currency, status, cash, reserved, sequence, created_at FROM orders.accounts;
    CREATE VIEW orders.orders_v1 AS
      SELECT account_id, id, client_order_id, symbol, side, type, time_in_force, extended_hours, qty,
             limit_price, stop_price, status, filled_qty, filled_avg_price, strategy_id, submitted_at,
             accepted_at, filled_at, canceled_at, expires_at, expired_at, updated_at, reject_reason,
             reject_message
      FROM orders.orders;
    CREATE VIEW orders.positions_v1 AS
      SELECT account_id, symbol, qty, cost FROM orders.positions WHERE qty <> 0;
    CREATE VIEW orders.fills_v1 AS
      SELECT account_id, order_id, number, id, symbol, side, qty, price, amount, fee, filled_at FROM orders.fills;
    GRANT SELECT ON orders.accounts_v1, orders.orders_v1, orders.positions_v1, orders.fills_v1
      TO paperprofit_services;
    """)
