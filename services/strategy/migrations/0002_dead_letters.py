"""Dead letters that can be read, sent again and discarded; the latest sequence applied of each key."""

from alembic import op

from shared.bus import tables

revision = "strategy_0002"
down_revision = "strategy_0001"


def upgrade() -> None:
    op.execute(tables.create_v2("strategy"))
