"""The outbox: messages are rows of the transaction that caused them, and sent after its commit."""

from collections.abc import Sequence
from zlib import crc32

from sqlalchemy import Connection, text

from shared.bus.envelope import Outgoing

#: A relay owns whole shards; all messages of one key are in one shard, so one relay sends them in order.
SHARDS = 16


def shard_of(key: str) -> int:
    return crc32(key.encode()) % SHARDS


def add(connection: Connection, schema: str, messages: Sequence[Outgoing]) -> None:
    """Write the messages in one statement, in their order. One that is there already stays as it is."""
    if not messages:
        return
    connection.execute(
        text(f"""
        INSERT INTO {schema}.outbox (message_id, exchange, routing_key, key, shard, mandatory, body)
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:exchanges AS text[]), CAST(:routing_keys AS text[]),
                             CAST(:keys AS text[]), CAST(:shards AS smallint[]),
                             CAST(:mandatory AS boolean[]), CAST(:bodies AS bytea[]))
        ON CONFLICT (message_id) DO NOTHING
        """),
        {
            "ids": [m.message_id for m in messages],
            "exchanges": [m.exchange for m in messages],
            "routing_keys": [m.routing_key for m in messages],
            "keys": [m.key for m in messages],
            "shards": [shard_of(m.key) for m in messages],
            "mandatory": [m.mandatory for m in messages],
            "bodies": [m.body for m in messages],
        },
    )
