"""The answers to orders that were submitted with an idempotency key."""

from alembic import op

revision = "gateway_v1_0002"
down_revision = "gateway_v1_0001"


def upgrade() -> None:
    op.execute("""
    CREATE TABLE gateway.idempotency_keys (
      account_id uuid NOT NULL,
      key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
      -- of the request's body, so that another one with the same key is recognized
      body_hash bytea NOT NULL,
      order_id uuid NOT NULL,
      created_at timestamptz NOT NULL,
      -- the first answer, null until the order is accepted or rejected
      status integer,
      answer jsonb,
      PRIMARY KEY (account_id, key),
      CONSTRAINT idempotency_keys_answers CHECK ((status IS NULL) = (answer IS NULL))
    );
    """)
