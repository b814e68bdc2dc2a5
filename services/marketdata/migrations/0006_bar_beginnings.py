"""When the bar beside an instrument's price began: at the price before it."""

from alembic import op

revision = "marketdata_0006"
down_revision = "marketdata_0005"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE marketdata.instruments ADD COLUMN since timestamptz;
    CREATE OR REPLACE VIEW marketdata.instruments_v1 AS
      SELECT id, symbol, name, asset_class, market, currency, tick_size, tradable, sequence, provider,
             last_price AS last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at, since
      FROM marketdata.instruments;
    """)
