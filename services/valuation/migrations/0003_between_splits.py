"""Positions between the two halves of a split are valued in the shares that they have.

marketdata turns its price into one of new shares first, and orders its positions a moment later. Until then the last
price counts as one of old shares, which leaves the value as it was.
"""

from alembic import op

revision = "valuation_v1_0003"
down_revision = "valuation_v1_0002"


def upgrade() -> None:
    op.execute("""
    CREATE OR REPLACE VIEW valuation.current_positions_v1 AS
      SELECT i.id AS asset_id, p.account_id, p.symbol, i.asset_class, p.qty, p.cost, l.last, i.currency, v.rate,
             v.value, v.value - p.cost AS unrealized_pl,
             i.market, COALESCE(p.avg_entry_price, p.cost / p.qty) AS avg_entry_price,
             COALESCE(round(p.avg_entry_price * p.qty, 6), p.cost) AS cost_basis
      FROM orders.positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
      JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
      LEFT JOIN marketdata.rates_v1 r
        ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
      CROSS JOIN LATERAL (SELECT CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END AS rate) c
      CROSS JOIN LATERAL (
        SELECT CASE WHEN i.split_count = 0 THEN i.last ELSE (
          SELECT CASE count(*) WHEN 0 THEN i.last
                      ELSE round(i.last * marketdata.product(s.new_shares) / marketdata.product(s.old_shares), 6) END
          FROM orders.split_counts_v1 q JOIN marketdata.corporate_actions_v1 s
            ON s.symbol = q.symbol AND s.kind = 'split' AND s.split_count > q.split_count
          WHERE q.symbol = p.symbol
        ) END AS last
      ) l
      CROSS JOIN LATERAL (SELECT c.rate, round(p.qty * l.last * c.rate, 2) AS value) v;
    """)
