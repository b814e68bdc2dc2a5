"""What each account was worth at the close of each trading day, and what the day brought."""

from alembic import op

revision = "valuation_0005"
down_revision = "valuation_0004"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE valuation.daily_summaries (
      account_id uuid NOT NULL,
      day date NOT NULL,
      run_id uuid NOT NULL,
      -- when it was worth this
      at timestamptz NOT NULL,
      cash numeric NOT NULL,
      market_value numeric NOT NULL,
      equity numeric NOT NULL,
      unrealized_pl numeric NOT NULL,
      -- of the day, that is since the close before
      realized_pl numeric NOT NULL,
      fees numeric NOT NULL,
      net_deposits numeric NOT NULL,
      fills integer NOT NULL,
      PRIMARY KEY (account_id, day)
    );
    -- the change is found when it is read: a day that is summed up again changes that of the next, too
    CREATE VIEW valuation.daily_summaries_v1 AS
      SELECT account_id, day, run_id, at, cash, market_value, equity,
             equity - (SELECT before.equity FROM valuation.daily_summaries before
                       WHERE before.account_id = d.account_id AND before.day < d.day
                       ORDER BY before.day DESC LIMIT 1) AS equity_change,
             unrealized_pl, realized_pl, fees, net_deposits, fills
      FROM valuation.daily_summaries d;
    GRANT SELECT ON valuation.daily_summaries_v1 TO paperprofit_services;
    """)
