-- From marketdata_0010. A view keeps the names of its columns when those of its table change.
DROP TABLE marketdata.sequences;
ALTER TABLE marketdata.instruments RENAME COLUMN adjustment TO split_count;
ALTER TABLE marketdata.official_prices RENAME COLUMN adjustment TO split_count;
ALTER VIEW marketdata.instruments_v1 RENAME COLUMN adjustment TO split_count;
ALTER VIEW marketdata.official_prices_v1 RENAME COLUMN adjustment TO split_count;
-- Messages that wait to be sent, or to be sent again, have the fields and the names of before.
UPDATE marketdata.outbox SET
  routing_key = replace(routing_key, 'marketdata.auction_held.v1', 'marketdata.official_price_published.v1'),
  body = convert_to(replace(replace(replace(convert_from(body, 'UTF8'), '"adjustment":', '"split_count":'),
    '"epoch":', '"generation":'), 'AuctionHeld.v1', 'OfficialPricePublished.v1'), 'UTF8')
WHERE convert_from(body, 'UTF8') ~ '"(adjustment|epoch)":|AuctionHeld\.v1';
UPDATE marketdata.dead_letters SET
  actor = replace(actor, 'AuctionHeld.v1', 'OfficialPricePublished.v1'),
  body = convert_to(replace(replace(replace(convert_from(body, 'UTF8'), '"adjustment":', '"split_count":'),
    '"epoch":', '"generation":'), 'AuctionHeld.v1', 'OfficialPricePublished.v1'), 'UTF8')
WHERE reason <> 'Undecodable' AND size = length(body) AND convert_from(body, 'UTF8') ~ '"(adjustment|epoch)":|AuctionHeld\.v1';
