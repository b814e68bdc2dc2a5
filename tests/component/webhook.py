"""A real HTTP server that takes the messages that apprise sends to ``json://``, or refuses them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr

from services.gateway.alerts.channels import make_channels
from services.gateway.alerts.notifier import Notifier
from shared.bus.unit_of_work import ServiceContext

#: A token in the path, as real webhooks have it. It must never appear in a row or a log.
TOKEN = "s3cret-t0ken-in-the-path"


class Webhook:
    """``taken`` has the bodies of the requests that it answered with 200, ``asked`` counts all requests."""

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.asked = 0
        self.taken: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"json://admin:{TOKEN}@127.0.0.1:{self.port}/{TOKEN}")

    @property
    def titles(self) -> list[str]:
        return [body["title"] for body in self.taken]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, body: bytes) -> int:
        """Handle a request, and return the status of the response."""
        with self._lock:
            self.asked += 1
            if self.status == 200:
                self.taken.append(json.loads(body))
            return self.status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.send_response(hook.take(self.rfile.read(int(self.headers["Content-Length"]))))
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
                """Log nothing, because the tests count requests themselves."""

        return Handler


@contextmanager
def webhook(port: int = 0) -> Iterator[Webhook]:
    server = Webhook(port)
    try:
        yield server
    finally:
        server.close()


def notifier_to(context: ServiceContext, *hooks: Webhook) -> Notifier:
    return Notifier(context, make_channels([hook.url for hook in hooks]))
