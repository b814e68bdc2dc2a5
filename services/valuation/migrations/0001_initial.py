"""What accounts and positions are worth: now, as views; at each valuation and at each day's close, as rows.

The views read views of marketdata and orders. Those services can append columns to a view or publish a ``_v2`` beside
it. They cannot drop such a view or change its columns before valuation has stopped reading it. This migration needs
their views: until these exist it fails as not ready, and the start tries it again.
"""

from alembic import op

from shared.bus import tables

revision = "valuation_v1_0001"
down_revision = None


def upgrade() -> None:
    op.execute(tables.create("valuation"))
    op.execute("""
    CREATE TABLE valuation.account_summaries (
      account_id uuid NOT NULL,
      run_id uuid NOT NULL,
      at timestamptz NOT NULL,
      cash numeric NOT NULL,
      market_value numeric NOT NULL,
      equity numeric NOT NULL,
      unrealized_pl numeric NOT NULL,
      positions integer NOT NULL,
      PRIMARY KEY (account_id, run_id)
    );
    CREATE INDEX account_summaries_by_time ON valuation.account_summaries (account_id, at DESC);
    CREATE TABLE valuation.position_values (
      account_id uuid NOT NULL,
      symbol text NOT NULL,
      run_id uuid NOT NULL,
      at timestamptz NOT NULL,
      qty numeric NOT NULL,
      price numeric NOT NULL,
      market_value numeric NOT NULL,
      cost numeric NOT NULL,
      unrealized_pl numeric NOT NULL,
      PRIMARY KEY (account_id, symbol, run_id)
    );
    CREATE TABLE valuation.daily_summaries (
      account_id uuid NOT NULL,
      day date NOT NULL,
      run_id uuid NOT NULL,
      -- when the account was worth this
      at timestamptz NOT NULL,
      cash numeric NOT NULL,
      market_value numeric NOT NULL,
      equity numeric NOT NULL,
      unrealized_pl numeric NOT NULL,
      -- of the day, which begins with the close before
      realized_pl numeric NOT NULL,
      fees numeric NOT NULL,
      net_deposits numeric NOT NULL,
      fills integer NOT NULL,
      PRIMARY KEY (account_id, day)
    );
    CREATE VIEW valuation.account_summaries_v1 AS
      SELECT account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions
      FROM valuation.account_summaries;
    -- the change is found when it is read: a day that is summed up again changes that of the next, too
    CREATE VIEW valuation.daily_summaries_v1 AS
      SELECT account_id, day, run_id, at, cash, market_value, equity,
             equity - (SELECT before.equity FROM valuation.daily_summaries before
                       WHERE before.account_id = d.account_id AND before.day < d.day
                       ORDER BY before.day DESC LIMIT 1) AS equity_change,
             unrealized_pl, realized_pl, fees, net_deposits, fills
      FROM valuation.daily_summaries d;
    -- each position at its last price, in its account's currency at the pair's last rate, however old the two are;
    -- last, rate, value and profit are null where there never was a price or a rate
    CREATE VIEW valuation.current_positions_v1 AS
      SELECT i.id AS asset_id, p.account_id, p.symbol, i.asset_class, p.qty, p.cost, i.last, i.currency, v.rate,
             v.value, v.value - p.cost AS unrealized_pl
      FROM orders.positions_v1 p JOIN orders.accounts_v1 a ON a.id = p.account_id
      JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
      LEFT JOIN marketdata.rates_v1 r
        ON r.currency = i.currency AND r.account_currency = a.currency AND i.currency <> a.currency
      CROSS JOIN LATERAL (SELECT CASE WHEN i.currency = a.currency THEN 1 ELSE r.last END AS rate) c
      CROSS JOIN LATERAL (SELECT c.rate, round(p.qty * i.last * c.rate, 2) AS value) v;
    -- each account with the positions that have a value; LATERAL looks them up by the account, whatever plan is kept
    CREATE VIEW valuation.account_values_v1 AS
      SELECT a.id AS account_id, a.cash, v.long_value, v.short_value, v.long_value + v.short_value AS market_value,
             a.cash + v.long_value + v.short_value AS equity, v.unrealized_pl, v.positions
      FROM orders.accounts_v1 a
      CROSS JOIN LATERAL (
        SELECT COALESCE(sum(p.value) FILTER (WHERE p.qty > 0), 0) AS long_value,
               COALESCE(sum(p.value) FILTER (WHERE p.qty < 0), 0) AS short_value,
               COALESCE(sum(p.unrealized_pl), 0) AS unrealized_pl, count(p.value) AS positions
        FROM valuation.current_positions_v1 p WHERE p.account_id = a.id
      ) v;
    GRANT SELECT ON valuation.account_summaries_v1, valuation.daily_summaries_v1, valuation.current_positions_v1,
      valuation.account_values_v1 TO paperprofit_services;
    """)
