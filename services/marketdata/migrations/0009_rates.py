"""Rates of exchange: what one unit of a currency is worth in another, from the pairs among the instruments."""

from alembic import op

revision = "marketdata_0009"
down_revision = "marketdata_0008"


def upgrade() -> None:
    op.execute("""
    CREATE INDEX instruments_pairs ON marketdata.instruments (symbol) WHERE symbol ~ '^[A-Z]{3}/[A-Z]{3}$';
    -- EUR/USD, in USD, says what a euro is worth in dollars, and where there is no USD/EUR the other way round:
    -- there its bid is what the other side asks, and is rounded against the trader
    CREATE VIEW marketdata.rates_v1 AS
      WITH pairs AS (
        SELECT symbol, split_part(symbol, '/', 1) AS base, currency AS quoted_in, bid, ask, last_price AS last,
               quoted_at
        FROM marketdata.instruments
        WHERE symbol ~ '^[A-Z]{3}/[A-Z]{3}$' AND split_part(symbol, '/', 2) = currency AND last_price IS NOT NULL
      )
      SELECT base AS currency, quoted_in AS account_currency, symbol, bid, ask, last, quoted_at FROM pairs
      UNION ALL
      SELECT quoted_in, base, symbol, trim_scale(floor(1e12 / ask) / 1e12), trim_scale(ceil(1e12 / bid) / 1e12),
             trim_scale(round(1 / last, 12)), quoted_at
      FROM pairs p
      WHERE NOT EXISTS (SELECT FROM pairs direct WHERE direct.base = p.quoted_in AND direct.quoted_in = p.base);
    GRANT SELECT ON marketdata.rates_v1 TO paperprofit_services;
    """)
