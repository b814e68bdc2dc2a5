"""The time from a publisher's call to the start of its handler, at a steady rate."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import quantiles
from typing import NamedTuple

import pika

from bench.bus_consume import Consuming, handled_by
from bench.bus_servers import RAW, Servers, broker_name, cancel, properties
from bench.report import NotMeasured
from shared.bus.amqp.publisher import Publisher
from shared.bus.envelope import encode

PER_SECOND = 100
WARM_UP_SECONDS = 1
ATTACH_TIMEOUT = 15.0

Publish = Callable[[int], object]


class Latency(NamedTuple):
    """Percentiles in milliseconds."""

    p50: float
    p99: float


def raw_latency(servers: Servers, seconds: int) -> Latency:
    with servers.channel() as channel:
        channel.confirm_delivery()

        def publish(number: int) -> None:
            channel.basic_publish("", RAW, encode(cancel(number)).body, properties(), mandatory=True)

        return _latency(Consuming(servers, "raw", threads=1), publish, seconds)


def our_latency(servers: Servers, seconds: int) -> Latency:
    with publisher_of(servers) as publisher:

        def publish(number: int) -> None:
            publisher.send(encode(cancel(number)))

        return _latency(Consuming(servers, "ours"), publish, seconds)


@contextmanager
def publisher_of(servers: Servers) -> Iterator[Publisher]:
    publisher = Publisher(servers.url, name="bench")
    try:
        if not publisher.connected.wait(ATTACH_TIMEOUT):
            raise NotMeasured("our publisher did not connect")
        yield publisher
    finally:
        publisher.stop()


def _latency(consuming: Consuming, publish: Publish, seconds: int) -> Latency:
    servers, count = consuming.servers, (WARM_UP_SECONDS + seconds) * PER_SECOND
    servers.purge(consuming.queue)
    with consuming.running(1) as workers:
        wait_until_attached(servers, consuming.queue)
        sent = publish_steadily(publish, count, PER_SECOND)
        servers.wait_until_empty(consuming.queue)
        begun = {number: at for at, number in handled_by(workers)}
    if len(begun) != count:
        raise NotMeasured(f"{consuming.kind} handled {len(begun)} of {count} messages")
    return percentiles([1000 * (begun[n] - sent[n]) for n in range(WARM_UP_SECONDS * PER_SECOND, count)])


def percentiles(milliseconds: list[float]) -> Latency:
    cuts = quantiles(milliseconds, n=100)
    return Latency(cuts[49], cuts[98])


def publish_steadily(publish: Publish, count: int, per_second: int) -> list[float]:
    """Publish at a steady rate; the times of the calls. A late call does not delay those after it."""
    sent = []
    begun = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begun + number / per_second - time.monotonic()))
        sent.append(time.monotonic())
        publish(number)
    return sent


def wait_until_attached(servers: Servers, queue: str) -> None:
    deadline = time.monotonic() + ATTACH_TIMEOUT
    with pika.BlockingConnection(pika.URLParameters(servers.url)) as connection:
        channel = connection.channel()
        while not channel.queue_declare(broker_name(queue), passive=True).method.consumer_count:
            if time.monotonic() > deadline:
                raise NotMeasured(f"nobody consumes {queue}")
            time.sleep(0.05)
