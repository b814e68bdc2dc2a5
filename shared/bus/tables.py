"""The tables that each service keeps for the bus, in its own schema. The services' initial migrations create them."""


def create(schema: str) -> str:
    """The inbox, the outbox with its heads, parked messages and dead letters, as one SQL script."""
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
      created_at timestamptz NOT NULL DEFAULT now(),
      priority smallint NOT NULL DEFAULT 0
    );
    -- the newest message of each key whose messages are handled in order, and the message before it
    CREATE TABLE {schema}.outbox_heads (
      key text PRIMARY KEY,
      message_id uuid NOT NULL,
      previous uuid,
      sent_at timestamptz NOT NULL
    ) WITH (fillfactor = 70);
    -- messages that came before their turn, each with the message that it waits for
    CREATE TABLE {schema}.parked (
      message_id uuid PRIMARY KEY,
      previous uuid NOT NULL,
      queue text NOT NULL,
      body bytea NOT NULL,
      parked_at timestamptz NOT NULL
    );
    CREATE INDEX parked_by_previous ON {schema}.parked (previous);
    CREATE TABLE {schema}.dead_letters (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      queue text NOT NULL,
      message_id uuid NOT NULL,
      actor text NOT NULL,
      -- of a message that is too large only its beginning
      body bytea NOT NULL,
      reason text NOT NULL,
      error text NOT NULL,
      died_at timestamptz NOT NULL,
      size integer NOT NULL,
      UNIQUE (queue, message_id)
    );
    CREATE INDEX dead_letters_by_time ON {schema}.dead_letters (died_at);
    CREATE INDEX dead_letters_by_message ON {schema}.dead_letters (message_id);
    CREATE VIEW {schema}.dead_letters_v1 AS
      SELECT id, queue, message_id, actor, body, size, reason, error, died_at FROM {schema}.dead_letters;
    GRANT SELECT ON {schema}.dead_letters_v1 TO paperprofit_services;
    """
