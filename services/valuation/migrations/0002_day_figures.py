"""The market whose day a summary is of, and positions at their average entry price.

``cost_basis`` is that price times the shares, while ``cost`` is that of the lots. A position that has not been traded
since orders keeps average entry prices has the average cost of its lots.
"""

from alembic import op

revision = "valuation_v1_0002"
down_revision = "valuation_v1_0001"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE valuation.daily_summaries ADD COLUMN market text NOT NULL DEFAULT 'DEMO';
    CREATE OR REPLACE VIEW valuation.daily_summaries_v1 AS
      SELECT account_id, day, run_id, at, cash, market_value, equity,
             equity - (SELECT before.equity FROM valuation.daily_summaries before
                       WHERE before.account_id = d.account_id AND before.day < d.day
                       ORDER BY before.day DESC LIMIT 1) AS equity_change,
             unrealized_pl, realized_pl, fees, net_deposits, fills, market
      FROM valuation.daily_summaries d;
    CREATE OR REPLACE VIEW valuation.current_positions_v1 AS
      SELECT i.id AS asset_id, p.account_id, p.symbol, i.asset_class, p.qty, p.cost, i.last, i.currency, v.rate,
             v.value, v.value - p.cost AS unrealized_pl,
             i.market, COALESCE(p.avg_entry_price, p.cost / p.qty) AS avg_entry_price,
             COALESCE(round(p.avg_entry_price * p.qty, 6), p.cost) AS cost_basis
      FROM orders.positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
      JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
      LEFT JOIN marketdata.rates_v1 r
        ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
      CROSS JOIN LATERAL (SELECT CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END AS rate) c
      CROSS JOIN LATERAL (SELECT c.rate, round(p.qty * i.last * c.rate, 2) AS value) v;
    CREATE OR REPLACE VIEW valuation.account_values_v1 AS
      SELECT a.id AS account_id, a.cash, v.long_value, v.short_value, v.long_value + v.short_value AS market_value,
             a.cash + v.long_value + v.short_value AS equity, v.unrealized_pl, v.positions, v.cost_basis
      FROM orders.accounts_v1 a
      CROSS JOIN LATERAL (
        SELECT COALESCE(sum(p.value) FILTER (WHERE p.qty > 0), 0) AS long_value,
               COALESCE(sum(p.value) FILTER (WHERE p.qty < 0), 0) AS short_value,
               COALESCE(sum(p.unrealized_pl), 0) AS unrealized_pl, count(p.value) AS positions,
               COALESCE(sum(p.cost_basis) FILTER (WHERE p.value IS NOT NULL), 0) AS cost_basis
        FROM valuation.current_positions_v1 p WHERE p.account_id = a.id
      ) v;
    """)
