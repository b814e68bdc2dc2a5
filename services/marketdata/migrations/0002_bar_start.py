"""The start of a price's own bar."""

from alembic import op

revision = "marketdata_v1_0002"
down_revision = "marketdata_v1_0001"


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(VIEWS)


#: Null where the bar is all that was traded since the previous update.
COLUMNS = "ALTER TABLE marketdata.instruments ADD COLUMN bar_start timestamptz;"
VIEWS = """
CREATE OR REPLACE VIEW marketdata.instruments_v1 AS
  SELECT id, symbol, name, asset_class, market, currency, tick_size, tradable, sequence, provider,
         last_price AS last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at, since, split_count,
         halted_at, halt_reason, bar_start
  FROM marketdata.instruments;
"""
