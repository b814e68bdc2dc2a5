"""Find the watchlists that have a symbol, so that they can follow its change."""

from alembic import op

revision = "gateway_v1_0006"
down_revision = "gateway_v1_0005"


def upgrade() -> None:
    op.execute("CREATE INDEX watchlists_symbols ON gateway.watchlists USING gin (symbols)")
