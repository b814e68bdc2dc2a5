"""Splits as two whole numbers, dividends with a pay date, and bars in today's shares."""

from fractions import Fraction

import sqlalchemy as sa
from alembic import op

revision = "marketdata_v1_0003"
down_revision = "marketdata_v1_0002"

#: The largest denominator that the ratio of an earlier split may have meant.
LARGEST = 1000


def upgrade() -> None:
    op.execute(COLUMNS)
    splits = op.get_bind().execute(sa.text("SELECT id, ratio FROM marketdata.corporate_actions WHERE kind = 'split'"))
    for split in splits.all():
        nearest = Fraction(split.ratio).limit_denominator(LARGEST)
        shares = nearest or Fraction(split.ratio)
        op.get_bind().execute(
            sa.text("UPDATE marketdata.corporate_actions SET new_shares = :new, old_shares = :old WHERE id = :id"),
            {"new": shares.numerator, "old": shares.denominator, "id": split.id},
        )
    op.execute(CONSTRAINTS)
    op.execute(VIEWS)


#: Earlier actions are counted as splits were until now: dividends were not.
COLUMNS = """
ALTER TABLE marketdata.corporate_actions
  ADD COLUMN new_shares integer CHECK (new_shares > 0),
  ADD COLUMN old_shares integer CHECK (old_shares > 0),
  -- the issuer pays the fractions of shares that it makes of whole ones
  ADD COLUMN cash_in_lieu boolean NOT NULL DEFAULT false,
  ADD COLUMN pay_at timestamptz CHECK (pay_at >= effective_at),
  -- the symbol's corporate actions, with this one
  ADD COLUMN split_count integer;
UPDATE marketdata.corporate_actions c SET split_count = counted.number
FROM (SELECT id, row_number() OVER (PARTITION BY symbol ORDER BY applied_at, effective_at, id) AS number
      FROM marketdata.corporate_actions WHERE kind = 'split' AND applied_at IS NOT NULL) counted
WHERE counted.id = c.id;
"""
CONSTRAINTS = """
ALTER TABLE marketdata.corporate_actions
  ADD CONSTRAINT corporate_actions_shares CHECK (num_nonnulls(new_shares, old_shares) IN (0, 2)),
  ADD CONSTRAINT corporate_actions_paid CHECK (pay_at IS NULL OR kind = 'dividend');
CREATE INDEX corporate_actions_splits ON marketdata.corporate_actions (symbol, effective_at)
  WHERE kind = 'split' AND split_count IS NOT NULL;
"""
VIEWS = """
CREATE OR REPLACE VIEW marketdata.corporate_actions_v1 AS
  SELECT id, symbol, kind, ratio, amount, effective_at, entered_at, applied_at, new_shares, old_shares, cash_in_lieu,
         pay_at, split_count
  FROM marketdata.corporate_actions;
CREATE AGGREGATE marketdata.product (numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1');
-- bars_v1 has bars as they were traded; here prices and volumes from before splits are of today's shares
CREATE VIEW marketdata.bars_v2 AS
  SELECT b.symbol, b.interval, b.start_at,
         CASE WHEN s.splits = 0 THEN b.open ELSE round(b.open * s.old / s.new, 9) END AS open,
         CASE WHEN s.splits = 0 THEN b.high ELSE round(b.high * s.old / s.new, 9) END AS high,
         CASE WHEN s.splits = 0 THEN b.low ELSE round(b.low * s.old / s.new, 9) END AS low,
         CASE WHEN s.splits = 0 THEN b.close ELSE round(b.close * s.old / s.new, 9) END AS close,
         CASE WHEN s.splits = 0 THEN b.volume ELSE round(b.volume * s.new / s.old, 9) END AS volume, b.provider
  FROM marketdata.market_data b
  CROSS JOIN LATERAL (
    SELECT count(*) AS splits, marketdata.product(c.new_shares) AS new, marketdata.product(c.old_shares) AS old
    FROM marketdata.corporate_actions c
    WHERE c.symbol = b.symbol AND c.kind = 'split' AND c.split_count IS NOT NULL AND c.effective_at > b.start_at
  ) s;
GRANT SELECT ON marketdata.bars_v2 TO paperprofit_services;
"""
