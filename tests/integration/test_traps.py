"""Stock dramatiq loses, repeats or delays work on RabbitMQ. Each test also shows that our bus does not.

On stock dramatiq each test must fail. Once one passes there, dramatiq has fixed the trap.
"""

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from dramatiq.errors import ConnectionClosed

from shared.bus.unit_of_work import ServiceContext
from tests.integration.subjects import BOTH, Ours, Stock, Subject
from tests.servers.proxy import Proxy, proxy_to
from tests.servers.rabbitmq import RabbitServer, vhost_of
from tests.support import eventually

#: The time that an event which must not happen has to happen.
PATIENCE_SECONDS = 3.5

on_both = pytest.mark.parametrize("subject", BOTH, indirect=True)
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def proxy(vhost: str) -> Iterator[Proxy]:
    with proxy_to(vhost) as proxy:
        yield proxy


@pytest.fixture
def subject(
    request: pytest.FixtureRequest, vhost: str, proxy: Proxy, orders: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Subject]:
    """A subject on a virtual host of its own, reached through the proxy, with a heartbeat of a second."""
    through = f"{proxy.through(vhost)}?heartbeat=1"
    made: Subject = (
        Ours(vhost, orders, monkeypatch, through=through) if request.param == "ours" else Stock(vhost, through=through)
    )
    yield made
    made.close()


def stays(probe: Callable[[], bool], what: str) -> None:
    """Raise AssertionError as soon as the probe is false, within the time that a trap takes."""
    try:
        eventually(lambda: not probe(), seconds=PATIENCE_SECONDS)
    except AssertionError:
        return
    raise AssertionError(what)


@on_both
def test_a_fanned_out_message_kills_no_worker_thread(subject: Subject) -> None:
    """The envelope names another queue than its own. More messages come than there are threads."""
    seen: list[str] = []
    subject.handle(seen.append)
    worker = subject.work()
    for _ in range(5):
        subject.fan_out("AAPL")
    eventually(lambda: len(seen) == 5 or not any(thread.is_alive() for thread in worker.workers))
    assert all(thread.is_alive() for thread in worker.workers)


@on_both
def test_a_sender_to_a_foreign_queue_does_not_consume_it(subject: Subject, vhost: str) -> None:
    subject.handle(lambda _: None)
    subject.work()
    subject.send_abroad()
    eventually(lambda: waiting(vhost, subject.foreign) is not None, what="the foreign queue is there")
    eventually(lambda: waiting(vhost, subject.foreign) == 1, seconds=PATIENCE_SECONDS, what="the message waits")
    stays(lambda: waiting(vhost, subject.foreign) == 1, "the message was taken out of the foreign queue")


def waiting(url: str, queue: str) -> int | None:
    """The number of ready messages in the queue, or None where it does not exist."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        try:
            counted: int = connection.channel().queue_declare(queue, passive=True).method.message_count
        except pika.exceptions.ChannelClosedByBroker:
            return None
        return counted


@on_both
def test_a_retry_that_cannot_be_sent_does_not_vanish(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is delivered again, and handled once its retry can be sent."""
    monkeypatch.setattr("shared.bus.amqp.broker.REQUEUE_PAUSE_SECONDS", 0.05)
    refused: list[Any] = []
    acted = threading.Event()

    def refuse(message: Any, *, delay: int | None = None) -> None:
        refused.append(message)
        raise ConnectionClosed("the test says no")

    def fail(_text: str) -> None:
        if len(refused) < 2:
            raise ValueError("this fails")
        acted.set()

    subject.handle(fail)
    subject.work()
    monkeypatch.setattr(subject.broker, "enqueue", refuse)
    subject.deliver("AAPL")
    eventually(lambda: refused, what="a retry is refused")
    assert acted.wait(PATIENCE_SECONDS)


@on_both
def test_a_job_that_outlives_its_connection_acknowledges_no_other_message(
    subject: Subject, rabbit: RabbitServer, proxy: Proxy, vhost: str
) -> None:
    """Delivery tags start again with a connection. The old job's tag names another message, which must not be lost."""
    began: dict[str, int] = dict.fromkeys(("FIRST", "OLD", "NEW", "LAST"), 0)
    go_on, finish = threading.Event(), threading.Event()

    def job(text: str) -> None:
        began[text] += 1
        if text == "OLD" and began[text] == 1:
            go_on.wait(30)
        elif text == "NEW" and began[text] == 1:
            finish.wait(30)

    subject.handle(job)
    subject.work(threads=6)
    try:
        subject.deliver("FIRST")  # tag 1
        eventually(lambda: began["FIRST"])
        subject.deliver("OLD")  # tag 2
        eventually(lambda: began["OLD"])
        eventually(lambda: unacknowledged(rabbit, vhost, subject.queue) == 1, what="the first is acknowledged")
        proxy.cut()
        eventually(lambda: began["OLD"] == 2, what="OLD is delivered again, now with tag 1")
        subject.deliver("NEW")  # tag 2
        eventually(lambda: began["NEW"])
        eventually(lambda: unacknowledged(rabbit, vhost, subject.queue) == 1, what="only NEW is unacknowledged")
        go_on.set()  # the old job ends, and its acknowledgement is of tag 2
        subject.deliver("LAST")
        eventually(lambda: began["LAST"])
        eventually(lambda: unacknowledged(rabbit, vhost, subject.queue) <= 1)
        with contextlib.suppress(AssertionError):  # if the wrong one is acknowledged, none is left
            eventually(lambda: unacknowledged(rabbit, vhost, subject.queue) == 0, seconds=1)
        proxy.cut()
        eventually(lambda: began["NEW"] == 2, seconds=PATIENCE_SECONDS, what="what was unfinished comes again")
    finally:
        go_on.set()
        finish.set()


def unacknowledged(rabbit: RabbitServer, url: str, queue: str) -> int:
    found = rabbit.call("GET", f"queues/{vhost_of(url)}?disable_stats=true&enable_queue_totals=true")
    return sum(each.get("messages_unacknowledged", 0) for each in found if each["name"] == queue)


@on_both
def test_a_short_delay_is_kept(subject: Subject) -> None:
    """Messages delayed by 200 ms come at most 100 ms late, in the median of five."""
    due: dict[str, float] = {}
    late: list[float] = []
    subject.handle(lambda text: late.append(time.monotonic() - due[text]))
    subject.work()
    for number in range(5):
        text = f"T{'ABCDE'[number]}"
        due[text] = time.monotonic() + 0.2
        subject.send_delayed(text, 200)
        eventually(lambda n=number: len(late) == n + 1)  # type: ignore[misc]
    assert statistics.median(late) < 0.1


@on_both
def test_a_dead_letter_stays_with_its_error(subject: Subject, rabbit: RabbitServer) -> None:
    def fail(_text: str) -> None:
        raise ValueError("this is why")

    subject.handle(fail, retries=1)
    subject.work()
    subject.deliver("AAPL")
    dead_message = eventually(lambda: subject.dead_message(rabbit))
    assert dead_message is not None
    assert "ValueError: this is why" in dead_message.error
    assert dead_message.expires_after_ms is None


@on_both
def test_a_message_sent_while_rabbitmq_is_away_arrives_later(subject: Subject, proxy: Proxy) -> None:
    """An outage of a second is longer than six tries without a pause."""
    seen: list[str] = []
    subject.handle(seen.append)
    subject.work()
    proxy.refuse()
    with contextlib.suppress(ConnectionClosed):
        subject.send("AAPL")
    threading.Timer(1, proxy.accept).start()
    eventually(lambda: seen, seconds=5, what="the message is handled")


@on_both
def test_an_idle_publisher_keeps_its_connection(subject: Subject, vhost: str, rabbit: RabbitServer) -> None:
    """RabbitMQ closes a connection that misses two heartbeats, here of a second."""
    subject.handle(lambda _: None)
    subject.send("AAPL")
    before = eventually(lambda: connections(rabbit, vhost), what="the publisher's connection is listed")
    stays(lambda: connections(rabbit, vhost) >= before, "the publisher's connection is gone")


def connections(rabbit: RabbitServer, url: str) -> set[str]:
    return {each["name"] for each in rabbit.call("GET", f"vhosts/{vhost_of(url)}/connections")}
