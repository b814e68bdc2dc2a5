"""Names, use and end of API keys, the name of this instance, wrong keys, and submissions that were given up."""

from alembic import op

revision = "gateway_v1_0003"
down_revision = "gateway_v1_0002"


def upgrade() -> None:
    op.execute("""
    ALTER TABLE gateway.api_keys
      ADD COLUMN name text NOT NULL DEFAULT '' CHECK (length(name) <= 100),
      ADD COLUMN last_used_at timestamptz,
      ADD COLUMN revoked_at timestamptz;
    -- a key without scopes was revoked
    UPDATE gateway.api_keys SET revoked_at = created_at WHERE scopes = '{}';
    -- until now an operator also opened accounts
    UPDATE gateway.api_keys SET scopes = scopes || ARRAY['admin'] WHERE 'operate' = ANY(scopes);
    CREATE INDEX api_keys_by_account ON gateway.api_keys (account_id, created_at);

    -- one row: the name of the browser's cookie is derived from the id, so that two instances on one host differ
    CREATE TABLE gateway.instance (
      id uuid NOT NULL DEFAULT gen_random_uuid(),
      is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only)
    );
    INSERT INTO gateway.instance DEFAULT VALUES;

    -- wrong keys of the last day, by the key id that was tried and the address that tried it
    CREATE TABLE gateway.wrong_keys (
      key_id text NOT NULL CHECK (length(key_id) <= 64),
      address text NOT NULL CHECK (length(address) <= 64),
      tries bigint NOT NULL CHECK (tries > 0),
      first_at timestamptz NOT NULL,
      last_at timestamptz NOT NULL,
      PRIMARY KEY (key_id, address)
    );
    CREATE INDEX wrong_keys_by_time ON gateway.wrong_keys (last_at);

    -- a submission whose command cannot be carried out ends as rejected
    ALTER TABLE gateway.submissions
      ADD COLUMN rejected_at timestamptz,
      ADD COLUMN reject_reason text,
      ADD COLUMN reject_message text;
    CREATE INDEX submissions_rejected ON gateway.submissions (account_id, submitted_at) WHERE rejected_at IS NOT NULL;
    """)
