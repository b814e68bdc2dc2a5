"""Consuming with raw pika, and the settings of any consuming process."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

import pika

from bench.bus_servers import RAW

Stop = Callable[[], None]
Handled = tuple[float, Any]


@dataclass(frozen=True)
class Settings:
    """``database`` is that of orders. A process opens ``threads`` sessions there where its kind has any."""

    url: str
    database: str
    threads: int
    prefetch: int


def start_pika(settings: Settings, make_handler: Callable[[], Callable[[bytes], None]]) -> Stop:
    """Open a connection for each thread to the raw queue. Each acknowledges the messages of its handler."""
    channels = [_consuming(settings, make_handler()) for _ in range(settings.threads)]
    threads = [Thread(target=channel.start_consuming) for channel in channels]
    for thread in threads:
        thread.start()

    def stop() -> None:
        for channel, thread in zip(channels, threads, strict=True):
            channel.connection.add_callback_threadsafe(channel.stop_consuming)
            thread.join()
            channel.connection.close()

    return stop


def _consuming(settings: Settings, handle: Callable[[bytes], None]) -> Any:
    channel = pika.BlockingConnection(pika.URLParameters(settings.url)).channel()
    channel.basic_qos(prefetch_count=settings.prefetch)

    def on_message(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        handle(body)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(RAW, on_message)
    return channel
