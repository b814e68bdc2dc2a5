"""``python -m services.gateway`` serves the HTTP API and the page, ``… key`` replaces an account's key."""

import os
import signal
import socket
import sys

import structlog

from services.gateway import replace_key
from services.gateway.service import NAME, build_app, prepare, queue_reader, watchers
from services.gateway.serving import http_server
from services.gateway.settings import Settings
from services.gateway.streams.hub import Live
from shared.bus.amqp.listener import Listener
from shared.bus.amqp.publisher import Publisher
from shared.bus.relay import Relay
from shared.contracts.base import routing_key
from shared.contracts.routing import LIVE, exchange_of
from shared.jobs.engine.heartbeat import Heartbeat
from shared.observability.logs import configure_logs
from shared.observability.system_log import SystemLog
from shared.service import DatabaseAway, make_context, wait_for_database
from shared.settings import InvalidSettings, load
from shared.worker import DATABASE_WAIT_SECONDS, POLL_SECONDS

log = structlog.get_logger(__name__)


def main() -> None:
    try:
        settings = load(Settings)
        configure_logs(settings)
        context = make_context(NAME, settings)
        wait_for_database(context, seconds=DATABASE_WAIT_SECONDS)
    except (InvalidSettings, DatabaseAway) as error:
        sys.exit(f"gateway: {error}")
    for key in prepare(context, settings):
        secret = f"\nsecret key {key.secret} (shown once)" if key.secret else " is valid"
        print(f"key id {key.key_id}{secret}", flush=True)  # noqa: T201
    url = settings.rabbitmq_url.get_secret_value()
    live = Live()
    publisher = Publisher(url, name="gateway-publisher")
    relay = Relay(context, publisher, poll=POLL_SECONDS)
    listener = Listener(
        url,
        queue=f"gateway.{socket.gethostname()}.{os.getpid()}",
        bindings=[(exchange_of(message), routing_key(message, message.service)) for message in LIVE],
        callback=live.on_message,
    )
    watching = watchers(context, settings, queue_reader(settings, context.clock))
    beside = [SystemLog(context), Heartbeat(context, kind="gateway"), relay, *watching]
    listener.start()
    for part in beside:
        part.start()
    app = build_app(
        context,
        live,
        settings,
        lambda: {
            "consumers": listener.attached.is_set(),
            "threads": listener.alive and all(part.alive for part in beside),
            "broker": publisher.connected.is_set(),
        },
    )
    log.info("gateway serves", host=settings.host, port=settings.port)
    for signum in (signal.SIGTERM, signal.SIGINT):  # uvicorn ends in good order, then raises the signal again
        signal.signal(signum, lambda *_: sys.exit(0))
    server = http_server(app, host=settings.host, port=settings.port, shutdown_seconds=5)
    try:
        server.run()
    finally:
        for part in reversed(beside):
            part.stop()
        listener.stop()
        publisher.stop()
    if not server.started:
        sys.exit("gateway: the HTTP server did not start")


if __name__ == "__main__":
    if sys.argv[1:2] == ["key"]:
        replace_key.main(sys.argv[2:])
    else:
        main()
