"""The symbol that an instrument had before it changed, so that lists of symbols can follow."""

from alembic import op

revision = "marketdata_v1_0011"
down_revision = "marketdata_v1_0010"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE marketdata.corporate_actions ADD COLUMN old_symbol text;
    CREATE INDEX corporate_actions_old_symbols ON marketdata.corporate_actions (old_symbol)
      WHERE old_symbol IS NOT NULL;
    CREATE OR REPLACE VIEW marketdata.corporate_actions_v1 AS
      SELECT id, symbol, kind, ratio, amount, effective_at, entered_at, applied_at, new_shares, old_shares,
             cash_in_lieu, pay_at, split_count, ex_date, provider, correction, corrected_at, new_symbol, old_symbol
      FROM marketdata.corporate_actions;
    -- the present symbol of each one that is no longer used, after several changes the last
    CREATE VIEW marketdata.symbol_changes_v1 AS
      SELECT DISTINCT ON (a.old_symbol) a.old_symbol, a.symbol AS new_symbol, a.applied_at
      FROM marketdata.corporate_actions a
      JOIN marketdata.instruments i ON i.symbol = a.old_symbol AND i.status = 'retired'
      WHERE a.old_symbol IS NOT NULL
      ORDER BY a.old_symbol, a.applied_at DESC;
    GRANT SELECT ON marketdata.symbol_changes_v1 TO paperprofit_services;
    """)
