"""Summaries with deposits, growth and drawdown, positions with their day, alerts of accounts, and coalesced values.

Summaries belong to an account generation. ``growth`` is the time-weighted growth of 1 since its beginning, and
``net_deposits`` what was paid in since then, so that neither a deposit nor a thinned history changes a return.
``peak_growth`` and ``peak_equity`` are the highest so far, which thinning must not lose. Summaries from before this
migration have none of these figures, and the next summary begins with growth 1.
"""

from alembic import op

revision = "valuation_v1_0004"
down_revision = "valuation_v1_0003"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE valuation.account_summaries
      ADD COLUMN generation integer NOT NULL DEFAULT 1,
      ADD COLUMN long_value numeric,
      ADD COLUMN short_value numeric,
      ADD COLUMN net_deposits numeric,
      ADD COLUMN day_pl numeric,
      ADD COLUMN growth numeric,
      ADD COLUMN peak_growth numeric,
      ADD COLUMN peak_equity numeric,
      ADD COLUMN stale_positions integer NOT NULL DEFAULT 0;
    UPDATE valuation.account_summaries s SET generation = a.generation
    FROM orders.accounts_v1 a WHERE a.id = s.account_id AND a.generation > 1 AND s.at >= a.generation_at;
    ALTER TABLE valuation.position_values
      ADD COLUMN generation integer NOT NULL DEFAULT 1,
      ADD COLUMN realized_pl numeric NOT NULL DEFAULT 0,
      ADD COLUMN day_pl numeric,
      ADD COLUMN quoted_at timestamptz,
      ADD COLUMN stale boolean NOT NULL DEFAULT false;
    CREATE OR REPLACE VIEW valuation.account_summaries_v1 AS
      SELECT account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions,
             generation, long_value, short_value, net_deposits, day_pl, growth,
             growth / NULLIF(peak_growth, 0) - 1 AS drawdown,
             round(equity * peak_growth / NULLIF(growth, 0), 2) AS high_water,
             peak_equity, stale_positions
      FROM valuation.account_summaries;
    CREATE VIEW valuation.position_values_v1 AS
      SELECT account_id, symbol, run_id, at, qty, price, market_value, cost, unrealized_pl, generation, realized_pl,
             day_pl, quoted_at, stale
      FROM valuation.position_values;
    -- between the two halves of a split, the last price counts as one of old shares
    CREATE VIEW valuation.last_prices_v1 AS
      SELECT i.id, i.symbol, i.asset_class, i.market, i.currency,
             CASE WHEN i.split_count = 0 THEN i.last ELSE (
               SELECT CASE count(*) WHEN 0 THEN i.last
                      ELSE round(i.last * marketdata.product(s.new_shares) / marketdata.product(s.old_shares), 6) END
               FROM orders.split_counts_v1 q JOIN marketdata.corporate_actions_v1 s
                 ON s.symbol = q.symbol AND s.kind = 'split' AND s.split_count > q.split_count
               WHERE q.symbol = i.symbol
             ) END AS last,
             q.quoted_at
      FROM marketdata.instruments_v1 i
      CROSS JOIN LATERAL (SELECT CASE WHEN i.delayed THEN i.received_at ELSE i.quoted_at END AS quoted_at) q;
    CREATE OR REPLACE VIEW valuation.current_positions_v1 AS
      SELECT i.id AS asset_id, p.account_id, p.symbol, i.asset_class, p.qty, p.cost, i.last, i.currency, v.rate,
             v.value, v.value - p.cost AS unrealized_pl,
             i.market, COALESCE(p.avg_entry_price, p.cost / p.qty) AS avg_entry_price,
             COALESCE(round(p.avg_entry_price * p.qty, 6), p.cost) AS cost_basis,
             i.quoted_at, r.symbol AS rate_symbol
      FROM orders.positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
      JOIN valuation.last_prices_v1 i ON i.symbol = p.symbol
      LEFT JOIN marketdata.rates_v1 r
        ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
      CROSS JOIN LATERAL (SELECT CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END AS rate) c
      CROSS JOIN LATERAL (SELECT c.rate, round(p.qty * i.last * c.rate, 2) AS value) v;

    -- the symbols whose new prices are in no published value yet, and the time of the last publication
    CREATE TABLE valuation.changed_symbols (
      symbol text PRIMARY KEY,
      quoted_at timestamptz NOT NULL
    );
    CREATE TABLE valuation.publication (
      single boolean PRIMARY KEY DEFAULT true CHECK (single),
      published_at timestamptz NOT NULL
    );
    INSERT INTO valuation.publication (published_at) VALUES ('2000-01-01Z');

    CREATE TABLE valuation.alert_rules (
      account_id uuid PRIMARY KEY,
      rules jsonb NOT NULL,
      changed_at timestamptz NOT NULL
    );
    CREATE TABLE valuation.alerts (
      account_id uuid NOT NULL,
      id uuid NOT NULL,
      generation integer NOT NULL,
      kind text NOT NULL,
      -- such as the symbol, or the window of a profit or loss
      subject text NOT NULL,
      message text NOT NULL,
      value numeric NOT NULL,
      threshold numeric NOT NULL,
      raised_at timestamptz NOT NULL,
      recovered_at timestamptz,
      PRIMARY KEY (account_id, id)
    );
    CREATE UNIQUE INDEX alerts_open ON valuation.alerts (account_id, kind, subject) WHERE recovered_at IS NULL;
    CREATE VIEW valuation.alert_rules_v1 AS SELECT account_id, rules, changed_at FROM valuation.alert_rules;
    CREATE VIEW valuation.alerts_v1 AS
      SELECT account_id, id, generation, kind, subject, message, value, threshold, raised_at, recovered_at
      FROM valuation.alerts;
    GRANT SELECT ON valuation.last_prices_v1, valuation.position_values_v1, valuation.alert_rules_v1,
      valuation.alerts_v1 TO paperprofit_services;
    """)
