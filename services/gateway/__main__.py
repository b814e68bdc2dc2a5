"""``python -m services.gateway`` serves the HTTP API and the page. ``… key`` replaces an account's key."""

import os
import signal
import socket
import sys

import structlog

from services.gateway import replace_key
from services.gateway.service import NAME, build_app, prepare, queue_reader, watchers
from services.gateway.serving import http_server
from services.gateway.settings import Settings
from services.gateway.streams.hub import Hub
from shared.bus.amqp.listener import Listener
from shared.bus.amqp.publisher import Publisher
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.base import routing_key
from shared.contracts.routing import LIVE, exchange_of
from shared.jobs.engine.heartbeat import Heartbeat
from shared.observability.health import Checks
from shared.observability.logs import configure_logs
from shared.observability.progress import ProgressMonitor
from shared.observability.system_log import SystemLog
from shared.service import DatabaseUnavailable, make_context, wait_for_database
from shared.settings import InvalidSettings, load
from shared.storage.engine import PoolerRefused
from shared.storage.migrate import DatabaseTooOld
from shared.worker import DATABASE_WAIT_SECONDS, POLL_SECONDS

log = structlog.get_logger(__name__)


def main() -> None:
    """Serve until SIGTERM or SIGINT. Exit with a message where the settings are wrong or the database is away."""
    try:
        settings = load(Settings)
        configure_logs(settings)
        context = make_context(NAME, settings)
        wait_for_database(context, seconds=DATABASE_WAIT_SECONDS)
        keys = prepare(context, settings, seconds=DATABASE_WAIT_SECONDS)
    except (InvalidSettings, DatabaseUnavailable, DatabaseTooOld, PoolerRefused) as error:
        sys.exit(f"gateway: {error}")
    for key in keys:
        secret = f"\nsecret key {key.secret} (shown once)" if key.secret else " is valid"
        print(f"key id {key.key_id}{secret}", flush=True)  # noqa: T201
    serve(context, settings)


def serve(context: ServiceContext, settings: Settings) -> None:
    """Run the HTTP server and the threads beside it, and stop them in reverse order."""
    url = settings.rabbitmq_url.get_secret_value()
    hub = Hub()
    publisher = Publisher(url, name="gateway-publisher")
    listener = Listener(
        url,
        name=f"gateway.{socket.gethostname()}.{os.getpid()}",
        bindings=[(exchange_of(message), routing_key(message, message.service)) for message in LIVE],
        callback=hub.receive,
    )
    progress = ProgressMonitor(context)
    threads = [
        listener,
        progress,
        SystemLog(context),
        Heartbeat(context, kind="gateway"),
        Relay(context, publisher, poll=POLL_SECONDS),
        *watchers(context, settings, queue_reader(settings, context.clock)),
    ]

    def checks() -> Checks:
        return {
            "consumers": listener.attached.is_set(),
            "threads": all(thread.alive for thread in threads),
            "broker": publisher.connected.is_set(),
            **progress.checks(),
        }

    for thread in threads:
        thread.start()
    for signum in (signal.SIGTERM, signal.SIGINT):  # uvicorn ends in good order, then raises the signal again
        signal.signal(signum, lambda *_: sys.exit(0))
    log.info("gateway serves", host=settings.host, port=settings.port)
    server = http_server(
        build_app(context, hub, settings, checks),
        host=settings.host,
        port=settings.port,
        shutdown_seconds=5,
        trusted_proxies=settings.trusted_proxies,
    )
    try:
        server.run()
    finally:
        for thread in reversed(threads):
            thread.stop()
        publisher.stop()
    if not server.started:
        sys.exit("gateway: the HTTP server did not start")


if __name__ == "__main__":
    if sys.argv[1:2] == ["key"]:
        replace_key.main(sys.argv[2:])
    else:
        main()
