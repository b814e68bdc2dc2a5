-- From orders_0009. Names change, each question about open orders gets its index, and completed orders get their rows.
DROP TABLE orders.sequences;
DROP VIEW orders.ledger_v1;

ALTER TABLE orders.accounts RENAME COLUMN epoch TO generation;
ALTER TABLE orders.accounts RENAME COLUMN epoch_at TO generation_at;
ALTER TABLE orders.accounts RENAME CONSTRAINT accounts_epoch_check TO accounts_generation_check;
ALTER VIEW orders.accounts_v1 RENAME COLUMN epoch TO generation;
ALTER VIEW orders.accounts_v1 RENAME COLUMN epoch_at TO generation_at;
ALTER TABLE orders.ledger RENAME COLUMN epoch TO generation;
ALTER VIEW orders.ledger_v2 RENAME COLUMN epoch TO generation;
ALTER TABLE orders.quotes RENAME COLUMN adjustment TO split_count;
ALTER TABLE orders.taken RENAME TO consumed;
ALTER TABLE orders.consumed RENAME CONSTRAINT taken_pkey TO consumed_pkey;
ALTER TABLE orders.consumed RENAME CONSTRAINT taken_pool_check TO consumed_pool_check;
ALTER TABLE orders.consumed RENAME CONSTRAINT taken_qty_check TO consumed_qty_check;

ALTER TABLE orders.orders RENAME COLUMN epoch TO generation;
ALTER TABLE orders.orders RENAME COLUMN family TO order_group;
ALTER TABLE orders.orders RENAME COLUMN promised TO held_for_orders;
ALTER TABLE orders.orders RENAME COLUMN direction TO trigger_direction;
ALTER TABLE orders.orders RENAME COLUMN threshold TO trigger_price;
ALTER TABLE orders.orders RENAME CONSTRAINT orders_promised_check TO orders_held_for_orders_check;
ALTER TABLE orders.orders RENAME CONSTRAINT orders_direction_check TO orders_trigger_direction_check;
ALTER TABLE orders.orders RENAME CONSTRAINT orders_waking TO orders_triggers;
ALTER INDEX orders.orders_families RENAME TO orders_by_group;
ALTER INDEX orders.orders_waking RENAME TO orders_by_trigger;
ALTER VIEW orders.orders_v1 RENAME COLUMN family TO order_group;
ALTER VIEW orders.orders_v1 RENAME COLUMN promised TO held_for_orders;
ALTER VIEW orders.orders_v1 RENAME COLUMN epoch TO generation;
UPDATE orders.orders SET cancel_reason = 'order_group' WHERE cancel_reason = 'family';
ALTER TABLE orders.orders
  ADD COLUMN expires boolean NOT NULL GENERATED ALWAYS AS (
    status IN ('accepted', 'held', 'partially_filled') AND expires_at IS NOT NULL) STORED,
  ADD COLUMN awaits_auction boolean NOT NULL GENERATED ALWAYS AS (
    status IN ('accepted', 'partially_filled') AND trigger_direction IS NOT DISTINCT FROM 'auction') STORED;
DROP INDEX orders.orders_expiring;
DROP INDEX orders.orders_auctions;
DROP INDEX orders.orders_open;
CREATE INDEX orders_expiring ON orders.orders (expires_at) WHERE expires;
CREATE INDEX orders_auctions ON orders.orders (symbol, auction_day, time_in_force) WHERE awaits_auction;
CREATE INDEX orders_open ON orders.orders (symbol, account_id)
  WHERE status IN ('accepted', 'held', 'partially_filled');
CREATE INDEX orders_strategies ON orders.orders (account_id, strategy_id, symbol) WHERE strategy_id IS NOT NULL;
CREATE INDEX orders_rejected ON orders.orders (account_id, client_order_id) WHERE status = 'rejected';
CREATE INDEX orders_not_open ON orders.orders (account_id, submitted_at DESC)
  WHERE status NOT IN ('accepted', 'held', 'partially_filled');

ALTER TABLE orders.trades RENAME TO round_trips;
ALTER TABLE orders.round_trips RENAME COLUMN epoch TO generation;
ALTER TABLE orders.round_trips RENAME CONSTRAINT trades_pkey TO round_trips_pkey;
ALTER TABLE orders.round_trips RENAME CONSTRAINT trades_check TO round_trips_check;
ALTER TABLE orders.round_trips RENAME CONSTRAINT trades_qty_check TO round_trips_qty_check;
ALTER TABLE orders.round_trips RENAME CONSTRAINT trades_side_check TO round_trips_side_check;
ALTER INDEX orders.trades_by_time RENAME TO round_trips_by_time;
ALTER VIEW orders.trades_v1 RENAME TO round_trips_v1;
ALTER VIEW orders.round_trips_v1 RENAME COLUMN epoch TO generation;

ALTER TABLE orders.fills RENAME COLUMN epoch TO generation;
ALTER TABLE orders.fills ADD COLUMN realized_pl numeric;
UPDATE orders.fills f SET realized_pl = t.realized_pl
FROM (SELECT account_id, exit_fill_id, sum(realized_pl) AS realized_pl FROM orders.round_trips GROUP BY 1, 2) t
WHERE t.account_id = f.account_id AND t.exit_fill_id = f.id;

CREATE TABLE orders.trades (
  account_id uuid NOT NULL,
  order_id uuid NOT NULL,
  generation integer NOT NULL,
  symbol text NOT NULL,
  side text NOT NULL CHECK (side IN ('buy', 'sell')),
  qty numeric NOT NULL CHECK (qty > 0),
  avg_price numeric NOT NULL CHECK (avg_price > 0),
  currency text NOT NULL,
  fees numeric NOT NULL,
  realized_pl numeric,
  strategy_id uuid,
  submitted_at timestamptz NOT NULL,
  first_fill_at timestamptz NOT NULL,
  completed_at timestamptz NOT NULL,
  PRIMARY KEY (account_id, order_id)
);
CREATE INDEX trades_by_time ON orders.trades (account_id, completed_at DESC, order_id DESC);
INSERT INTO orders.trades (account_id, order_id, generation, symbol, side, qty, avg_price, currency, fees,
                           realized_pl, strategy_id, submitted_at, first_fill_at, completed_at)
SELECT o.account_id, o.id, o.generation, o.symbol, o.side, o.filled_qty, o.filled_avg_price, o.currency, o.fees,
       f.realized_pl, o.strategy_id, o.submitted_at, f.first_at,
       GREATEST(COALESCE(o.filled_at, o.canceled_at, o.expired_at, o.replaced_at, o.updated_at), f.last_at)
FROM orders.orders o
JOIN (SELECT account_id, order_id, sum(realized_pl) AS realized_pl, min(filled_at) AS first_at,
             max(filled_at) AS last_at
      FROM orders.fills GROUP BY 1, 2) f ON f.account_id = o.account_id AND f.order_id = o.id
WHERE NOT o.is_open;
CREATE VIEW orders.trades_v1 AS
  SELECT account_id, order_id, generation, symbol, side, qty, avg_price, currency, fees, realized_pl, strategy_id,
         submitted_at, first_fill_at, completed_at
  FROM orders.trades;
GRANT SELECT ON orders.trades_v1 TO paperprofit_services;
-- Messages that wait to be sent, or to be sent again, have the fields and the names of before.
UPDATE orders.outbox SET
  routing_key = replace(routing_key, 'marketdata.auction_held.v1', 'marketdata.official_price_published.v1'),
  body = convert_to(replace(replace(replace(convert_from(body, 'UTF8'), '"adjustment":', '"split_count":'),
    '"epoch":', '"generation":'), 'AuctionHeld.v1', 'OfficialPricePublished.v1'), 'UTF8')
WHERE convert_from(body, 'UTF8') ~ '"(adjustment|epoch)":|AuctionHeld\.v1';
UPDATE orders.dead_letters SET
  actor = replace(actor, 'AuctionHeld.v1', 'OfficialPricePublished.v1'),
  body = convert_to(replace(replace(replace(convert_from(body, 'UTF8'), '"adjustment":', '"split_count":'),
    '"epoch":', '"generation":'), 'AuctionHeld.v1', 'OfficialPricePublished.v1'), 'UTF8')
WHERE reason <> 'Undecodable' AND size = length(body) AND convert_from(body, 'UTF8') ~ '"(adjustment|epoch)":|AuctionHeld\.v1';
