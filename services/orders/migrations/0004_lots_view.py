"""Open lots for other services to read, and an index for the deposits and withdrawals of a generation or a day."""

from alembic import op

revision = "orders_v1_0004"
down_revision = "orders_v1_0003"


def upgrade() -> None:
    op.execute("""
    CREATE VIEW orders.lots_v1 AS
      SELECT account_id, symbol, fill_id, opened_at, qty, cost, strategy_id FROM orders.lots WHERE qty <> 0;
    GRANT SELECT ON orders.lots_v1 TO paperprofit_services;
    CREATE INDEX ledger_transfers ON orders.ledger (account_id, generation, at) WHERE kind IN ('deposit', 'withdrawal');
    """)
