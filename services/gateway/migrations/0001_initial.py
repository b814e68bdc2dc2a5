"""API keys, browser sessions, and the orders that were submitted."""

from alembic import op

from shared.bus import tables

revision = "gateway_v1_0001"
down_revision = None


def upgrade() -> None:
    op.execute(tables.create("gateway"))
    op.execute("""
    CREATE TABLE gateway.api_keys (
      key_id text PRIMARY KEY,
      secret_hash bytea NOT NULL,
      salt bytea NOT NULL,
      account_id uuid NOT NULL,
      scopes text[] NOT NULL,
      created_at timestamptz NOT NULL
    );
    CREATE TABLE gateway.sessions (
      token_hash bytea PRIMARY KEY,
      key_id text NOT NULL REFERENCES gateway.api_keys (key_id),
      expires_at timestamptz NOT NULL
    );
    CREATE TABLE gateway.submissions (
      order_id uuid PRIMARY KEY,
      account_id uuid NOT NULL,
      client_order_id text NOT NULL,
      message_id uuid NOT NULL,
      command jsonb NOT NULL,
      submitted_at timestamptz NOT NULL,
      sent_at timestamptz NOT NULL,
      answered_at timestamptz,
      -- the command that it follows, should it be sent again
      previous uuid
    );
    CREATE INDEX submissions_by_client_id ON gateway.submissions (account_id, client_order_id);
    CREATE INDEX submissions_unanswered ON gateway.submissions (sent_at) WHERE answered_at IS NULL;
    """)
