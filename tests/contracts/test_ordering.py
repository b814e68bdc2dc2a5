"""Commands of one account are handled in the order in which they were sent, on both buses, despite faults."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random
from uuid import UUID, uuid4

import dramatiq
import pytest

from shared.bus.actors import Actors
from shared.bus.envelope import actor_name
from shared.bus.ordering import park, record_in_turn
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import OpenAccount
from shared.contracts.orders import CancelOrder
from tests.contracts.buses import Bus
from tests.support import account, eventually, rows, send, value

ACCOUNTS = [UUID(int=n) for n in range(1, 4)]
Handled = dict[UUID, list[str]]


def commanded(handled: Handled, disturb: Callable[[str], None] = lambda _: None, *, begins: bool = False) -> Actors:
    """Actors of orders that record the names of the commands they handle."""
    actors = Actors()

    @actors.on(OpenAccount, queue="orders.commands", begins=begins)
    def handle(command: OpenAccount, uow: UnitOfWork) -> None:
        uow.begin(("SELECT 1 AS asked", {}))
        disturb(command.name)
        handled.setdefault(command.account_id, []).append(command.name)

    return actors


def command(bus: Bus, account_id: UUID, name: str, message_id: UUID | None = None) -> None:
    send(bus.contexts["gateway"], account(account_id).model_copy(update={"name": name}), message_id=message_id)


def disturbed(seed: int) -> Callable[[str], None]:
    """A disturbance: handling takes a random time, and a fifth of the messages fail at their first try."""
    random, failed, lock = Random(seed), set[str](), threading.Lock()

    def disturb(name: str) -> None:
        with lock:
            pause, fails = random.uniform(0, 0.01), random.random() < 0.2 and name not in failed
            failed.update({name} if fails else ())
        threading.Event().wait(pause)  # the fault itself
        if fails:
            raise ValueError("the test says no")

    return disturb


def send_all(bus: Bus, count: int) -> Handled:
    sent: Handled = {each: [] for each in ACCOUNTS}
    for n in range(count):
        account_id = ACCOUNTS[n % len(ACCOUNTS)]
        sent[account_id].append(f"{n:03} of {account_id}")
        command(bus, account_id, sent[account_id][-1])
    return sent


@pytest.mark.parametrize(("seed", "begins"), [(0, False), (1, True), (2, False), (3, True)])
def test_commands_of_an_account_are_handled_in_order(bus: Bus, seed: int, begins: bool) -> None:
    """Eight threads, random durations and failed tries do not change the order of an account's commands."""
    handled: Handled = {}
    actors = commanded(handled, disturbed(seed), begins=begins)
    bus.start(orders=actors)
    sent = send_all(bus, 60)
    eventually(lambda: sum(map(len, handled.values())) >= 60, seconds=40, what="all are handled")
    assert handled == sent
    assert value(bus.contexts["orders"].engine, "SELECT count(*) FROM orders.dead_letters") == 0


def test_without_the_wait_the_same_disturbance_breaks_the_order(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: it can fail."""
    monkeypatch.setattr("shared.bus.ordering.check_turn", lambda *_: None)
    handled: Handled = {}
    bus.start(orders=commanded(handled, disturbed(0)))
    sent = send_all(bus, 60)
    eventually(lambda: sum(map(len, handled.values())) >= 60, seconds=40, what="all are handled")
    assert handled != sent


def test_a_backlog_of_one_account_is_worked_off_in_order(bus: Bus) -> None:
    """Parked commands are not polled: 200 commands that arrived before their service take seconds."""
    handled: Handled = {}
    bus.start()
    sent = [f"{n:03}" for n in range(200)]
    with bus.contexts["gateway"].unit_of_work() as uow:
        for name in sent:
            uow.publish(account(ACCOUNTS[0]).model_copy(update={"name": name}))
    bus.add(orders=commanded(handled))
    eventually(lambda: len(handled.get(ACCOUNTS[0], [])) >= len(sent), seconds=20, what="all are handled")
    assert handled == {ACCOUNTS[0]: sent}
    assert value(bus.contexts["orders"].engine, "SELECT count(*) FROM orders.parked") == 0


def test_the_successor_of_a_dead_letter_goes_on(bus: Bus) -> None:
    """The first command fails for good, and the second waits only until it is dead-lettered."""
    handled: Handled = {}

    def disturb(name: str) -> None:
        if name == "bad":
            raise ValueError("always")

    bus.start(orders=commanded(handled, disturb))
    command(bus, ACCOUNTS[0], "bad")
    command(bus, ACCOUNTS[0], "good")
    eventually(lambda: handled.get(ACCOUNTS[0]) == ["good"], seconds=60)
    (dead,) = rows(bus.contexts["orders"].engine, "SELECT reason FROM orders.dead_letters")
    assert dead.reason == "ValueError"


def test_the_successor_of_a_lost_command_goes_ahead_in_the_end(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first command is lost, as if its queue had been wiped. The second goes ahead after PATIENCE."""
    monkeypatch.setattr("shared.bus.ordering.PATIENCE", timedelta(seconds=0.3))
    monkeypatch.setattr("shared.bus.relay.OVERDUE_SECONDS", 0.1)
    handled: Handled = {}
    bus.start(orders=commanded(handled))
    with bus.contexts["gateway"].unit_of_work() as uow:
        uow.publish(account(ACCOUNTS[0]))
        lost = uow.outgoing[-1].message_id
    eventually(lambda: handled.pop(ACCOUNTS[0], None))
    forgotten = forget_in_inbox(bus, lost)
    assert forgotten == 1
    command(bus, ACCOUNTS[0], "second")
    eventually(lambda: handled.get(ACCOUNTS[0]) == ["second"])


def forget_in_inbox(bus: Bus, message_id: UUID) -> int:
    """Delete the message from the inbox of orders; the number of rows."""
    with bus.contexts["orders"].unit_of_work() as uow:
        statement = "DELETE FROM orders.inbox WHERE message_id = %s"
        return uow.connection.exec_driver_sql(statement, (message_id,)).rowcount


def test_a_command_that_is_sent_again_waits_for_nobody(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep sends it under its old id behind its successor, and neither waits for the other."""
    monkeypatch.setattr("shared.bus.ordering.PATIENCE", timedelta(hours=1))
    handled: Handled = {}
    bus.start()
    again = uuid4()
    command(bus, ACCOUNTS[0], "first", again)
    command(bus, ACCOUNTS[0], "second")
    eventually(lambda: value(bus.contexts["gateway"].engine, "SELECT count(*) <= 2 FROM gateway.outbox"))
    command(bus, ACCOUNTS[0], "first", again)
    command(bus, ACCOUNTS[0], "third")
    bus.add(orders=commanded(handled))
    eventually(lambda: len(handled.get(ACCOUNTS[0], [])) == 3)
    assert sorted(handled[ACCOUNTS[0]]) == ["first", "second", "third"]
    assert handled[ACCOUNTS[0]].index("second") < handled[ACCOUNTS[0]].index("third")


def test_a_command_that_is_sent_again_keeps_its_place(bus: Bus) -> None:
    """The first command needs several tries. The second, which is sent again meanwhile, and the third wait for it."""
    tries: list[str] = []

    def disturb(name: str) -> None:
        tries.append(name)
        if name == "first" and tries.count("first") < 4:
            raise ValueError("not yet")

    handled: Handled = {}
    bus.start()
    gateway = bus.contexts["gateway"]
    command(bus, ACCOUNTS[0], "first")
    second = account(ACCOUNTS[0]).model_copy(update={"name": "second"})
    with gateway.unit_of_work() as uow:
        message_id = uow.publish(second)
        previous = uow.chain()
    assert previous is not None
    eventually(lambda: value(gateway.engine, "SELECT count(*) <= 2 FROM gateway.outbox"))
    with gateway.unit_of_work() as uow:
        uow.publish(second, message_id=message_id, previous=previous)
    command(bus, ACCOUNTS[0], "third")
    bus.add(orders=commanded(handled, disturb))
    eventually(lambda: len(handled.get(ACCOUNTS[0], [])) == 3)
    assert handled == {ACCOUNTS[0]: ["first", "second", "third"]}


def test_parking_and_settling_wait_for_each_other(bus: Bus) -> None:
    """Parking waits until the predecessor's effect is committed, and then sees that it need not park."""
    orders, first = bus.contexts["orders"], str(uuid4())
    waits = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = :database"
    database = value(orders.engine, "SELECT oid FROM pg_database WHERE datname = current_database()")
    second: dramatiq.Message[None] = dramatiq.Message("orders.commands", "x", (), {}, {"after": first}, str(uuid4()), 0)
    with ThreadPoolExecutor(1) as pool:
        with orders.unit_of_work() as uow:
            record_in_turn(uow, "orders.commands", actor_name("orders.commands", OpenAccount.wire_name()), first, None)
            uow.begin()
            parking = pool.submit(park, orders, "orders.commands", second)
            eventually(lambda: value(bus.contexts["gateway"].engine, waits, database=database), what="parking waits")
            assert not parking.done()
        assert parking.result(10) is False
    assert value(orders.engine, "SELECT count(*) FROM orders.parked") == 0


def test_a_cancel_is_handled_after_the_command_before_it(bus: Bus) -> None:
    """Different messages of one account form one order."""
    handled: list[str] = []
    go_on = threading.Event()
    actors = Actors()

    @actors.on(OpenAccount, queue="orders.commands")
    def open_account(_command: OpenAccount, _uow: UnitOfWork) -> None:
        go_on.wait(10)
        handled.append("open")

    @actors.on(CancelOrder, queue="orders.commands")
    def cancel(_command: CancelOrder, _uow: UnitOfWork) -> None:
        handled.append("cancel")

    bus.start(orders=actors)
    with bus.contexts["gateway"].unit_of_work() as uow:
        uow.publish(account(ACCOUNTS[0]))
        uow.publish(CancelOrder(account_id=ACCOUNTS[0], order_id=uuid4(), requested_at=uow.now))
    waiting = "SELECT count(*) FROM orders.inbox"
    assert value(bus.contexts["orders"].engine, waiting) == 0
    go_on.set()
    eventually(lambda: handled == ["open", "cancel"])
