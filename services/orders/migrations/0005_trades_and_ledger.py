"""Round trips and cash movements, for those who add up a day."""

from alembic import op

revision = "orders_0005"
down_revision = "orders_0004"


def upgrade() -> None:
    op.execute("""
    CREATE VIEW orders.round_trips_v1 AS
      SELECT account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at, cost, proceeds,
             realized_pl, strategy_id
      FROM orders.round_trips;
    CREATE VIEW orders.ledger_v1 AS
      SELECT account_id, id, at, kind, amount, fill_id FROM orders.ledger;
    GRANT SELECT ON orders.round_trips_v1, orders.ledger_v1 TO paperprofit_services;
    """)
