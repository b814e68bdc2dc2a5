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
