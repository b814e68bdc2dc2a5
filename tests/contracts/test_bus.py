"""The contract of both buses: the same tests on the in-process bus and on RabbitMQ, with a real PostgreSQL."""

import threading
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import text

from shared.bus.actors import Actors
from shared.bus.metrics import DUPLICATES
from shared.bus.retries import TryAgainLater
from shared.bus.unit_of_work import UnitOfWork
from shared.clock import utc_now
from shared.contracts.accounts import OpenAccount
from shared.contracts.jobs import RunJob
from shared.contracts.prices import PricesUpdated
from shared.contracts.priority import Priority
from shared.contracts.valuation import AccountsValued
from tests.contracts.buses import Bus, Seen, recording
from tests.support import account, eventually, price, prices, rows, send, value


def test_an_event_reaches_every_queue_that_wants_it(bus: Bus) -> None:
    """Orders and valuation both receive a price batch, though its publisher names neither."""
    seen = Seen()
    bus.start(orders=recording(seen, "orders.prices"), valuation=recording(seen, "valuation.prices"))
    event = prices(price("AAPL", "100.1234"), price("IBM", "50"))
    send(bus.contexts["marketdata"], event)
    eventually(lambda: seen.count("orders.prices") and seen.count("valuation.prices"))
    assert seen.messages == {"orders.prices": [event], "valuation.prices": [event]}
    eventually(lambda: value(bus.contexts["marketdata"].engine, "SELECT count(*) = 0 FROM marketdata.outbox"))


def test_many_messages_all_arrive_once(bus: Bus) -> None:
    """Three hundred messages on several threads have their effect once each."""
    seen = Seen()
    bus.start(orders=recording(seen, "orders.prices"), valuation=recording(seen, "valuation.prices"))
    events = [prices(price("AAPL", Decimal(100 + n), sequence=n + 1)) for n in range(300)]
    send(bus.contexts["marketdata"], *events)
    eventually(lambda: seen.count("orders.prices") >= 300 and seen.count("valuation.prices") >= 300, seconds=30)
    assert sorted(e.prices[0].sequence for e in seen.messages["orders.prices"]) == list(range(1, 301))
    eventually(lambda: value(bus.contexts["marketdata"].engine, "SELECT count(*) = 0 FROM marketdata.outbox"))


def test_a_duplicate_has_its_effect_once(bus: Bus) -> None:
    """The same message id is sent twice. It has its effect once, also in a handler that begins by itself."""
    seen = Seen()
    bus.start(orders=recording(seen, "orders.prices", begins=True), valuation=recording(seen, "valuation.prices"))
    again = uuid4()
    send(bus.contexts["marketdata"], prices(price("AAPL", "1")), message_id=again)
    eventually(lambda: value(bus.contexts["marketdata"].engine, "SELECT count(*) = 0 FROM marketdata.outbox"))
    send(bus.contexts["marketdata"], prices(price("AAPL", "1")), message_id=again)
    send(bus.contexts["marketdata"], prices(price("AAPL", "2")))
    eventually(lambda: seen.count("orders.prices") >= 2 and seen.count("valuation.prices") >= 2)
    find = "SELECT count(*) FROM orders.inbox WHERE message_id = :m"
    eventually(lambda: value(bus.contexts["orders"].engine, find, m=again) == 1)  # a handler records before its commit
    assert (seen.count("orders.prices"), seen.count("valuation.prices")) == (2, 2)


def duplicates() -> float:
    """Price batches that this process has recognised as duplicates in orders."""
    count: float = DUPLICATES.labels("orders.prices", PricesUpdated.wire_name())._value.get()
    return count


def test_a_duplicate_rolls_back_the_calls_of_its_begin(bus: Bus) -> None:
    """The handler's first statement shares the round trip that recognises the duplicate, and may be a write."""
    actors, orders, again, before = Actors(), bus.contexts["orders"].engine, uuid4(), duplicates()
    with orders.begin() as connection:
        connection.execute(text("CREATE TABLE orders.effects (sequence bigint)"))

    @actors.on(PricesUpdated, queue="orders.prices", begins=True)
    def handle(event: PricesUpdated, uow: UnitOfWork) -> None:
        insert = "INSERT INTO orders.effects (sequence) VALUES (%(sequence)s)"
        uow.begin((insert, {"sequence": event.prices[0].sequence}))

    bus.start(orders=actors, valuation=recording(Seen(), "valuation.prices"))
    for sequence, message_id in ((1, again), (1, again), (2, uuid4())):
        send(bus.contexts["marketdata"], prices(price("AAPL", "1", sequence=sequence)), message_id=message_id)
        eventually(lambda: value(bus.contexts["marketdata"].engine, "SELECT count(*) = 0 FROM marketdata.outbox"))
    eventually(lambda: value(orders, "SELECT max(sequence) = 2 FROM orders.effects"))
    eventually(lambda: duplicates() == before + 1)
    assert sorted(row.sequence for row in rows(orders, "SELECT sequence FROM orders.effects")) == [1, 2]


def test_a_handler_that_never_begins_is_recorded_and_has_its_effect_once(bus: Bus) -> None:
    """It is declared to begin by itself, but returns early. The commit records its message."""
    actors, orders, again, before = Actors(), bus.contexts["orders"].engine, uuid4(), duplicates()

    @actors.on(PricesUpdated, queue="orders.prices", begins=True)
    def handle(event: PricesUpdated, uow: UnitOfWork) -> None:
        if event.prices[0].symbol != "AAPL":
            uow.publish(account(uuid4()))

    bus.start(orders=actors, valuation=recording(Seen(), "valuation.prices"))
    for symbol, message_id in (("AAPL", uuid4()), ("IBM", again), ("IBM", again), ("AAPL", uuid4())):
        send(bus.contexts["marketdata"], prices(price(symbol, "1")), message_id=message_id)
        eventually(lambda: value(bus.contexts["marketdata"].engine, "SELECT count(*) = 0 FROM marketdata.outbox"))
    eventually(lambda: value(orders, "SELECT count(*) = 3 FROM orders.inbox"))
    eventually(lambda: duplicates() == before + 1)
    published = "SELECT message_id, previous FROM orders.outbox_heads"
    assert [row.previous for row in rows(orders, published)] == [None]


def test_a_failed_handler_leaves_nothing_and_is_retried(bus: Bus) -> None:
    """The first two tries fail and leave neither an inbox row nor a message. The third one succeeds."""
    seen = Seen()
    failing = recording(seen, "orders.prices", lambda n: ValueError("no") if n <= 2 else None)
    bus.start(orders=failing, valuation=recording(seen, "valuation.prices"))
    send(bus.contexts["marketdata"], prices(price("AAPL", "1")))
    eventually(lambda: value(bus.contexts["orders"].engine, "SELECT count(*) FROM orders.inbox") == 1)
    assert seen.count("orders.prices") == 1


def test_a_message_that_keeps_failing_becomes_a_dead_letter_with_its_error(bus: Bus) -> None:
    """After its tries it is a row with reason and traceback, and the queue goes on."""
    seen = Seen()
    failing = recording(seen, "orders.prices", lambda n: None if n > 6 else ZeroDivisionError("the poison"))
    bus.start(orders=failing, valuation=recording(seen, "valuation.prices"))
    send(bus.contexts["marketdata"], prices(price("AAPL", "1")))
    engine = bus.contexts["orders"].engine
    (dead,) = eventually(lambda: rows(engine, "SELECT * FROM orders.dead_letters"), seconds=60)
    assert (dead.queue, dead.reason, dead.actor) == (
        "orders.prices",
        "ZeroDivisionError",
        "orders.prices/PricesUpdated.v1",
    )
    assert "Traceback" in dead.error
    assert "the poison" in dead.error
    send(bus.contexts["marketdata"], prices(price("AAPL", "2")))
    eventually(lambda: seen.count("orders.prices") == 1)
    eventually(lambda: value(bus.contexts["marketdata"].engine, "SELECT count(*) = 0 FROM marketdata.outbox"))


def test_waiting_for_a_condition_costs_no_tries(bus: Bus) -> None:
    """A handler that raises TryAgainLater more often than there are tries is retried until it succeeds."""
    seen = Seen()
    later = recording(seen, "orders.prices", lambda n: TryAgainLater("not yet", pause_ms=20) if n < 12 else None)
    bus.start(orders=later, valuation=recording(seen, "valuation.prices"))
    send(bus.contexts["marketdata"], prices(price("AAPL", "1")))
    eventually(lambda: seen.count("orders.prices") == 1, seconds=30)
    assert rows(bus.contexts["orders"].engine, "SELECT * FROM orders.dead_letters") == []


def test_a_command_waits_for_an_owner_that_starts_later(bus: Bus) -> None:
    """The message is kept until its service starts."""
    opened = threading.Event()
    actors = Actors()

    @actors.on(OpenAccount, queue="orders.commands")
    def open_account(_command: OpenAccount, _uow: UnitOfWork) -> None:
        opened.set()

    bus.start(valuation=recording(Seen(), "valuation.prices"))
    send(bus.contexts["gateway"], account(uuid4()))
    bus.add(orders=actors)
    assert opened.wait(20)
    eventually(lambda: value(bus.contexts["gateway"].engine, "SELECT count(*) = 0 FROM gateway.outbox"))


def test_an_event_without_a_queue_is_sent_and_dropped(bus: Bus) -> None:
    """AccountsValued has a listener only while somebody watches."""
    bus.start(orders=recording(Seen(), "orders.prices"))
    send(bus.contexts["valuation"], AccountsValued(values=(), at=utc_now()))
    eventually(lambda: value(bus.contexts["valuation"].engine, "SELECT count(*) = 0 FROM valuation.outbox"))


def test_an_urgent_message_overtakes_its_own_queue(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that an operator starts by hand begins before a hundred scheduled runs that were sent earlier."""
    monkeypatch.setattr("dramatiq.worker.QUEUE_PREFETCH", 4)
    begun: list[str] = []
    go_on, overtaken = threading.Event(), threading.Event()
    actors = Actors()

    @actors.on(RunJob, queue="orders.jobs")
    def run(command: RunJob, _uow: UnitOfWork) -> None:
        begun.append(command.job)
        if command.job == "urgent":
            overtaken.set()
        (go_on if command.job == "busy" else overtaken).wait(30)  # a thread that began a low job waits

    bus.start(orders=actors)
    gateway = bus.contexts["gateway"]
    send(gateway, *(RunJob(to="orders", run_id=uuid4(), job="busy") for _ in range(4)))
    eventually(lambda: len(begun) == 4, what="all threads are busy")
    send(gateway, *(RunJob(to="orders", run_id=uuid4(), job="low") for _ in range(100)))
    send(gateway, RunJob(to="orders", run_id=uuid4(), job="urgent", priority=Priority.HIGH))
    eventually(lambda: bus.waiting("orders.jobs") == 101, what="all wait in the queue")
    go_on.set()
    eventually(lambda: len(begun) == 105)
    assert begun.index("urgent") < 8  # the four threads take their next jobs at the same time
