"""Risk limits of accounts, the marks that their figures are measured from, and the figures of the last snapshot."""

from alembic import op

revision = "valuation_v1_0006"
down_revision = "valuation_v1_0005"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE valuation.risk_limits (
      account_id uuid PRIMARY KEY,
      limits jsonb NOT NULL,
      changed_at timestamptz NOT NULL,
      -- the account generation and the last halt at the mark, and the figures there: null before the first snapshot
      generation integer,
      halt_id uuid,
      marked_at timestamptz,
      peak_growth numeric,
      day date,
      day_pl numeric,
      concentration_mark numeric,
      exposure_mark numeric,
      -- the last measurement
      measured_at timestamptz,
      drawdown numeric,
      daily_loss numeric,
      concentration numeric,
      gross_exposure numeric,
      largest_symbol text
    );
    CREATE VIEW valuation.risk_limits_v1 AS
      SELECT account_id, limits, changed_at, generation, marked_at, measured_at, drawdown, daily_loss, concentration,
             gross_exposure, largest_symbol
      FROM valuation.risk_limits;
    GRANT SELECT ON valuation.risk_limits_v1 TO paperprofit_services;
    """)
