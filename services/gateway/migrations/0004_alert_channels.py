"""Webhooks of accounts for their own alerts, and the deliveries to them."""

from alembic import op

revision = "gateway_v1_0004"
down_revision = "gateway_v1_0003"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE gateway.alert_channels (
      id uuid PRIMARY KEY,
      account_id uuid NOT NULL,
      -- its path may hold a token: only the host is shown
      url text NOT NULL CHECK (length(url) <= 1000),
      created_at timestamptz NOT NULL,
      UNIQUE (account_id, url)
    );
    CREATE TABLE gateway.alert_deliveries (
      channel_id uuid NOT NULL REFERENCES gateway.alert_channels (id) ON DELETE CASCADE,
      alert_id uuid NOT NULL,
      status text NOT NULL CHECK (status IN ('raised', 'recovered')),
      kind text NOT NULL,
      message text NOT NULL,
      at timestamptz NOT NULL,
      tries integer NOT NULL DEFAULT 0,
      next_try_at timestamptz,
      sent_at timestamptz,
      error text,
      PRIMARY KEY (channel_id, alert_id, status)
    );
    CREATE INDEX alert_deliveries_waiting ON gateway.alert_deliveries (next_try_at) WHERE next_try_at IS NOT NULL;
    CREATE INDEX alert_deliveries_by_time ON gateway.alert_deliveries (at);
    """)
