"""The outbox: the rows in which a transaction leaves its messages, which the relay sends after the commit."""

from collections.abc import Sequence
from datetime import datetime
from zlib import crc32

from sqlalchemy import Connection, text

from shared.bus.envelope import Outgoing, after
from shared.storage.driver import Call

#: A relay owns whole shards. All messages of one key are in one shard, so one relay sends them in order.
SHARDS = 16


def shard_of(key: str) -> int:
    return crc32(key.encode()) % SHARDS


def adding(connection: Connection, schema: str, messages: Sequence[Outgoing], now: datetime) -> list[Call]:
    """The statement that writes the messages in their order, if there are any. Rows that exist stay as they are."""
    if not messages:
        return []
    messages = chained(connection, schema, messages, now)
    columns = {
        "ids": [m.message_id for m in messages],
        "exchanges": [m.exchange for m in messages],
        "routing_keys": [m.routing_key for m in messages],
        "keys": [m.key for m in messages],
        "shards": [shard_of(m.key) for m in messages],
        "mandatory": [m.mandatory for m in messages],
        "bodies": [m.body for m in messages],
        "priorities": [int(m.priority) for m in messages],
    }
    return [(_ADD.format(schema=schema), columns)]


def chained(connection: Connection, schema: str, messages: Sequence[Outgoing], now: datetime) -> Sequence[Outgoing]:
    """The messages, of which each one that is handled in order names its predecessor under the same key.

    The row of the key stays locked to the end of the transaction, so the chain has the order of the commits.
    """
    newest = {m.key: m.message_id for m in messages if m.in_order}
    if not newest:
        return messages
    keys = sorted(newest)
    rows = connection.execute(
        text(_LINK.format(schema=schema)), {"keys": keys, "ids": [newest[key] for key in keys], "now": now}
    )
    previous = {row.key: row.previous for row in rows}
    found = []
    for message in messages:
        before = previous.get(message.key) if message.in_order else None
        linked = message if before is None else after(message, before)
        found.append(linked._replace(in_order=False))  # linked once
        if message.in_order:
            previous[message.key] = message.message_id
    return found


#: Binary arrays, because encoding the bodies of a large batch as text takes ten times as long.
_ADD = """
INSERT INTO {schema}.outbox (message_id, exchange, routing_key, key, shard, mandatory, body, priority)
SELECT * FROM unnest(%(ids)b::uuid[], %(exchanges)b::text[], %(routing_keys)b::text[], %(keys)b::text[],
                     %(shards)b::smallint[], %(mandatory)b::boolean[], %(bodies)b::bytea[], %(priorities)b::smallint[])
ON CONFLICT (message_id) DO NOTHING
"""
#: A message has no predecessor after a gap of ten minutes: consumers do not keep their inbox rows for ever.
_LINK = """
INSERT INTO {schema}.outbox_heads AS head (key, message_id, sent_at)
SELECT key, message_id, :now FROM unnest(CAST(:keys AS text[]), CAST(:ids AS uuid[])) AS given (key, message_id)
ORDER BY key
ON CONFLICT (key) DO UPDATE SET
  previous = CASE WHEN head.sent_at > excluded.sent_at - interval '10 minutes' THEN head.message_id END,
  message_id = excluded.message_id, sent_at = excluded.sent_at
RETURNING key, previous
"""
