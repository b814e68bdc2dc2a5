"""Rules of trading and the status of instruments, and the source and age of their prices."""

from alembic import op

revision = "marketdata_v1_0004"
down_revision = "marketdata_v1_0003"


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(VIEWS)


#: Until now all prices lay on the ticks of SEC Rule 612, and every instrument could be split and sold short.
COLUMNS = """
ALTER TABLE marketdata.instruments
  -- the exchange by its own name, null where that is the market's code
  ADD COLUMN exchange text,
  ADD COLUMN tick_rule text NOT NULL DEFAULT 'sec_612' CHECK (tick_rule IN ('sec_612', 'fixed')),
  ADD COLUMN lot_size numeric NOT NULL DEFAULT 1 CHECK (lot_size > 0),
  ADD COLUMN fractionable boolean NOT NULL DEFAULT true,
  ADD COLUMN shortable boolean NOT NULL DEFAULT true,
  ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'retired')),
  ADD COLUMN received_at timestamptz,
  ADD COLUMN delayed boolean NOT NULL DEFAULT false,
  ADD CONSTRAINT instruments_retired CHECK (status = 'active' OR NOT tradable);
UPDATE marketdata.instruments SET received_at = quoted_at;
"""
VIEWS = """
CREATE OR REPLACE VIEW marketdata.instruments_v1 AS
  SELECT id, symbol, name, asset_class, market, currency, tick_size, tradable, sequence, provider,
         last_price AS last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at, since, split_count,
         halted_at, halt_reason, bar_start, COALESCE(exchange, market) AS exchange, tick_rule, lot_size, fractionable,
         shortable, status, received_at, delayed
  FROM marketdata.instruments;
"""
