"""The tables that each service keeps for the bus, in its own schema. Called by the services' migrations."""


def create_v1(schema: str) -> str:
    """The first version: inbox, outbox and dead letters, as one SQL script."""
    return f"""
    CREATE TABLE {schema}.inbox (
      consumer text NOT NULL,
      message_id uuid NOT NULL,
      processed_at timestamptz NOT NULL,
      PRIMARY KEY (consumer, message_id)
    );
    CREATE TABLE {schema}.outbox (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      message_id uuid NOT NULL UNIQUE,
      exchange text NOT NULL,
      routing_key text NOT NULL,
      key text NOT NULL,
      shard smallint NOT NULL,
      mandatory boolean NOT NULL,
      body bytea NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE {schema}.dead_letters (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      queue text NOT NULL,
      message_id uuid NOT NULL,
      actor text NOT NULL,
      body bytea NOT NULL,
      reason text NOT NULL,
      error text NOT NULL,
      died_at timestamptz NOT NULL,
      UNIQUE (queue, message_id)
    );
    """


def create_v2(schema: str) -> str:
    """The latest applied of each key; dead letters kept in part, and the view through which the gateway reads them."""
    return f"""
    CREATE TABLE {schema}.sequences (
      consumer text NOT NULL,
      key text NOT NULL,
      sequence bigint NOT NULL,
      PRIMARY KEY (consumer, key)
    ) WITH (fillfactor = 70);
    ALTER TABLE {schema}.dead_letters ADD COLUMN size integer;
    UPDATE {schema}.dead_letters SET size = length(body);
    ALTER TABLE {schema}.dead_letters ALTER COLUMN size SET NOT NULL;
    CREATE INDEX dead_letters_by_time ON {schema}.dead_letters (died_at);
    CREATE VIEW {schema}.dead_letters_v1 AS
      SELECT id, queue, message_id, actor, body, size, reason, error, died_at FROM {schema}.dead_letters;
    GRANT SELECT ON {schema}.dead_letters_v1 TO paperprofit_services;
    """


def create_v3(schema: str) -> str:
    """The newest message of each key whose messages are handled in order, and the one before it."""
    return f"""
    CREATE TABLE {schema}.outbox_heads (
      key text PRIMARY KEY,
      message_id uuid NOT NULL,
      previous uuid,
      sent_at timestamptz NOT NULL
    ) WITH (fillfactor = 70);
    CREATE INDEX dead_letters_by_message ON {schema}.dead_letters (message_id);
    """


def create_v4(schema: str) -> str:
    """Messages that came before their turn, each with the one that it waits for; and which messages go first."""
    return f"""
    CREATE TABLE {schema}.parked (
      message_id uuid PRIMARY KEY,
      previous uuid NOT NULL,
      queue text NOT NULL,
      body bytea NOT NULL,
      parked_at timestamptz NOT NULL
    );
    CREATE INDEX parked_by_previous ON {schema}.parked (previous);
    ALTER TABLE {schema}.outbox ADD COLUMN priority smallint NOT NULL DEFAULT 0;
    """
