-- From strategy_0004.
DROP TABLE strategy.sequences;
-- Messages that wait to be sent, or to be sent again, have the fields and the names of before.
UPDATE strategy.outbox SET
  routing_key = replace(routing_key, 'marketdata.auction_held.v1', 'marketdata.official_price_published.v1'),
  body = convert_to(replace(replace(replace(convert_from(body, 'UTF8'), '"adjustment":', '"split_count":'),
    '"epoch":', '"generation":'), 'AuctionHeld.v1', 'OfficialPricePublished.v1'), 'UTF8')
WHERE convert_from(body, 'UTF8') ~ '"(adjustment|epoch)":|AuctionHeld\.v1';
UPDATE strategy.dead_letters SET
  actor = replace(actor, 'AuctionHeld.v1', 'OfficialPricePublished.v1'),
  body = convert_to(replace(replace(replace(convert_from(body, 'UTF8'), '"adjustment":', '"split_count":'),
    '"epoch":', '"generation":'), 'AuctionHeld.v1', 'OfficialPricePublished.v1'), 'UTF8')
WHERE reason <> 'Undecodable' AND size = length(body) AND convert_from(body, 'UTF8') ~ '"(adjustment|epoch)":|AuctionHeld\.v1';
