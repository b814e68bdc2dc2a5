"""Poison becomes a dead letter at once on both buses, and dead letters can be read, requeued and discarded."""

import threading
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from shared.bus.actors import Actors
from shared.bus.dead_letters import (
    DeadLetter,
    NoSuchDeadLetter,
    declare_operations,
    discard_dead_letters,
    inspect_dead_letter,
    list_dead_letters,
    requeue_dead_letters,
)
from shared.bus.envelope import MAX_BODY_BYTES, Outgoing, encode
from shared.bus.poison import KEPT_BYTES
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.prices import PricesUpdated
from shared.contracts.routing import EVENTS
from tests.contracts.buses import Bus, Seen, recording
from tests.support import eventually, price, prices, send, value

KEY = "marketdata.prices_updated.v1"
GOOD = encode(prices(price("AAPL", "1"))).body


def envelope(**changes: str) -> bytes:
    body = GOOD.decode()
    for old, new in changes.items():
        body = body.replace(old, new)
    return body.encode()


#: Bodies of messages, and the reason of their dead letters.
POISON: dict[str, tuple[bytes, str]] = {
    "bytes that are no text": (b"\xff\xfe\x00", "Undecodable"),
    "text that is no envelope": (b"[1, 2]", "Undecodable"),
    "an envelope without its fields": (b'{"queue_name": ""}', "Undecodable"),
    "fields of the wrong kind": (envelope(**{'"args":[]': '"args":[7]'}), "Undecodable"),
    "a message nobody knows": (envelope(PricesUpdated="PricesForgotten"), "UnknownMessage"),
    "a version nobody knows": (envelope(**{"PricesUpdated.v1": "PricesUpdated.v9"}), "UnknownMessage"),
    "a body that is not as agreed": (envelope(AAPL="not a symbol"), "InvalidBody"),
    "more than the bus carries": (b" " * (MAX_BODY_BYTES + 1), "TooLarge"),
}


def put(context: ServiceContext, body: bytes, *, message_id: UUID | None = None) -> UUID:
    """Publish bytes unchanged, from the outbox of the context."""
    message_id = message_id or uuid4()
    with context.unit_of_work() as uow:
        uow.outgoing.append(Outgoing(message_id, EVENTS, KEY, "marketdata", body))
    return message_id


def letters(bus: Bus, count: int = 1) -> list[DeadLetter]:
    def found() -> list[DeadLetter]:
        with bus.contexts["gateway"].engine.connect() as connection:
            return list_dead_letters(connection, "orders")

    eventually(lambda: len(found()) == count, what=f"{count} dead letters")
    return found()


@pytest.mark.parametrize("case", POISON)
def test_poison_is_a_dead_letter_at_once_and_blocks_nothing(bus: Bus, case: str) -> None:
    """Its row has the reason and the full error, and the message behind it is handled."""
    body, reason = POISON[case]
    seen = Seen()
    bus.start(orders=recording(seen, "orders.prices"))
    message_id = put(bus.contexts["marketdata"], body)
    send(bus.contexts["marketdata"], prices(price("AAPL", "2")))
    eventually(lambda: seen.count("orders.prices") == 1)
    (dead,) = letters(bus)
    assert (dead.queue, dead.reason) == ("orders.prices", reason)
    assert "Traceback" in dead.error
    if reason == "InvalidBody":  # its envelope was valid, and was stamped with the queue and the actor
        assert b"not a symbol" in dead.body
    else:
        assert (dead.body, dead.size) == (body[:KEPT_BYTES], len(body))
    assert dead.complete == (reason != "TooLarge")
    if reason in {"Undecodable", "TooLarge"}:
        assert dead.message_id == message_id
    eventually(lambda: value(bus.contexts["marketdata"].engine, "SELECT count(*) = 0 FROM marketdata.outbox"))


def failing_until(mended: threading.Event, seen: Seen) -> Actors:
    """Actors of orders that fail on prices until ``mended`` is set, and execute operators' commands."""
    actors = Actors()

    @actors.on(PricesUpdated, queue="orders.prices")
    def record(event: PricesUpdated, uow: UnitOfWork) -> None:
        if not mended.is_set():
            raise ZeroDivisionError("the bug")
        seen.record("orders.prices", event)

    declare_operations(actors, "orders")
    return actors


def send_command(bus: Bus, question: Any, *ids: int) -> None:
    with bus.contexts["gateway"].unit_of_work() as uow:
        question(uow, "orders", ids, who="operator")


def test_a_requeued_dead_letter_has_its_effect_once_under_its_own_id(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug is fixed and the dead letter requeued twice. Its effect happens once, under the same message id."""
    monkeypatch.setattr("shared.bus.retries.TRIES", 1)
    seen, mended = Seen(), threading.Event()
    bus.start(orders=failing_until(mended, seen))
    again = uuid4()
    send(bus.contexts["marketdata"], prices(price("AAPL", "1")), message_id=again)
    (dead,) = letters(bus)
    mended.set()
    send_command(bus, requeue_dead_letters, dead.id)
    eventually(lambda: seen.count("orders.prices") == 1)
    send_command(bus, requeue_dead_letters, dead.id)
    send(bus.contexts["marketdata"], prices(price("AAPL", "1")), message_id=again)
    send(bus.contexts["marketdata"], prices(price("AAPL", "2")))
    eventually(lambda: seen.count("orders.prices") == 2)
    assert letters(bus, 0) == []
    find = "SELECT count(*) FROM orders.inbox WHERE message_id = :m"
    assert value(bus.contexts["orders"].engine, find, m=again) == 1


def test_many_are_requeued_and_others_discarded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six of ten are requeued and three discarded. One stays."""
    monkeypatch.setattr("shared.bus.retries.TRIES", 1)
    seen, mended = Seen(), threading.Event()
    bus.start(orders=failing_until(mended, seen))
    send(bus.contexts["marketdata"], *(prices(price("AAPL", n + 1, sequence=n + 1)) for n in range(10)))
    ids = [dead.id for dead in letters(bus, 10)]
    assert ids == sorted(ids, reverse=True)
    mended.set()
    send_command(bus, requeue_dead_letters, *ids[:6])
    send_command(bus, discard_dead_letters, *ids[6:9])
    eventually(lambda: seen.count("orders.prices") == 6)
    (left,) = letters(bus, 1)
    assert left.id == ids[9]


def test_an_incomplete_dead_letter_cannot_be_requeued(bus: Bus) -> None:
    """Only the beginning of a message over the limit is kept. It stays a dead letter, and can be discarded."""
    seen = Seen()
    bus.start(orders=failing_until(threading.Event(), seen))
    put(bus.contexts["marketdata"], b" " * (MAX_BODY_BYTES + 1))
    (dead,) = letters(bus)
    send_command(bus, requeue_dead_letters, dead.id)
    done = "SELECT count(*) = 1 FROM orders.inbox WHERE consumer LIKE '%Requeue%'"
    eventually(lambda: value(bus.contexts["orders"].engine, done))
    assert [letter.id for letter in letters(bus)] == [dead.id]
    send_command(bus, discard_dead_letters, dead.id)
    assert letters(bus, 0) == []


def test_dead_letters_are_found_by_queue_reason_and_page(bus: Bus) -> None:
    """The newest come first, filtered and page by page. One is read by its id, and an unknown id is named."""
    bus.start(orders=recording(Seen(), "orders.prices"))
    for _ in range(3):
        put(bus.contexts["marketdata"], POISON["a message nobody knows"][0].replace(b"AAPL", uuid4().hex[:8].encode()))
        put(bus.contexts["marketdata"], uuid4().bytes)
    everything = letters(bus, 4)  # the three unknown ones share one message id and therefore one row
    with bus.contexts["gateway"].engine.connect() as connection:
        assert len(list_dead_letters(connection, "orders", reason="Undecodable")) == 3
        assert list_dead_letters(connection, "orders", queue="orders.commands") == []
        first = list_dead_letters(connection, "orders", limit=2)
        rest = list_dead_letters(connection, "orders", before=first[-1].id)
        assert [letter.id for letter in first + rest] == [letter.id for letter in everything]
        assert inspect_dead_letter(connection, "orders", first[0].id) == first[0]
        with pytest.raises(NoSuchDeadLetter, match="orders has no dead letter 999999"):
            inspect_dead_letter(connection, "orders", 999_999)


def test_while_the_database_is_away_poison_waits_in_its_queue(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be neither handled nor dead-lettered, so it stays in the bus until the database is back."""
    monkeypatch.setattr("shared.bus.amqp.broker.REQUEUE_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("shared.bus.inprocess.REQUEUE_PAUSE_SECONDS", 0.1)
    seen = Seen()
    bus.start(orders=recording(seen, "orders.prices"))
    orders = bus.contexts["orders"].engine
    with orders.begin() as connection:
        connection.execute(text("ALTER TABLE orders.dead_letters RENAME TO elsewhere"))
    put(bus.contexts["marketdata"], b"poison")
    send(bus.contexts["marketdata"], prices(price("AAPL", "2")))
    eventually(lambda: seen.count("orders.prices") == 1)
    with orders.begin() as connection:
        connection.execute(text("ALTER TABLE orders.elsewhere RENAME TO dead_letters"))
    letters(bus)
