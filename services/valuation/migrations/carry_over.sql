-- From valuation_0005. Live values become views; the table that every price wrote is dropped.
DROP VIEW valuation.account_values_v1;
DROP TABLE valuation.account_values;
DROP TABLE valuation.sequences;
-- each position at its last price, in its account's currency at the pair's last rate, however old the two are;
-- last, rate, value and profit are null where there never was a price or a rate
CREATE VIEW valuation.current_positions_v1 AS
  SELECT i.id AS asset_id, p.account_id, p.symbol, i.asset_class, p.qty, p.cost, i.last, i.currency, v.rate,
         v.value, v.value - p.cost AS unrealized_pl
  FROM orders.positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
  JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
  LEFT JOIN marketdata.rates_v1 r
    ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
  CROSS JOIN LATERAL (SELECT CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END AS rate) c
  CROSS JOIN LATERAL (SELECT c.rate, round(p.qty * i.last * c.rate, 2) AS value) v;
-- each account with the positions that have a value; LATERAL looks them up by the account, whatever plan is kept
CREATE VIEW valuation.account_values_v1 AS
  SELECT a.id AS account_id, a.cash, v.long_value, v.short_value, v.long_value + v.short_value AS market_value,
         a.cash + v.long_value + v.short_value AS equity, v.unrealized_pl, v.positions
  FROM orders.accounts_v1 a
  CROSS JOIN LATERAL (
    SELECT COALESCE(sum(p.value) FILTER (WHERE p.qty > 0), 0) AS long_value,
           COALESCE(sum(p.value) FILTER (WHERE p.qty < 0), 0) AS short_value,
           COALESCE(sum(p.unrealized_pl), 0) AS unrealized_pl, count(p.value) AS positions
    FROM valuation.current_positions_v1 p WHERE p.account_id = a.id
  ) v;
GRANT SELECT ON valuation.current_positions_v1, valuation.account_values_v1 TO paperprofit_services;
-- Messages that wait to be sent, or to be sent again, have the fields and the names of before.
UPDATE valuation.outbox SET
  routing_key = replace(routing_key, 'marketdata.auction_held.v1', 'marketdata.official_price_published.v1'),
  body = convert_to(replace(replace(replace(convert_from(body, 'UTF8'), '"adjustment":', '"split_count":'),
    '"epoch":', '"generation":'), 'AuctionHeld.v1', 'OfficialPricePublished.v1'), 'UTF8')
WHERE convert_from(body, 'UTF8') ~ '"(adjustment|epoch)":|AuctionHeld\.v1';
UPDATE valuation.dead_letters SET
  actor = replace(actor, 'AuctionHeld.v1', 'OfficialPricePublished.v1'),
  body = convert_to(replace(replace(replace(convert_from(body, 'UTF8'), '"adjustment":', '"split_count":'),
    '"epoch":', '"generation":'), 'AuctionHeld.v1', 'OfficialPricePublished.v1'), 'UTF8')
WHERE reason <> 'Undecodable' AND size = length(body) AND convert_from(body, 'UTF8') ~ '"(adjustment|epoch)":|AuctionHeld\.v1';
