"""The answer to a WebSocket handshake where there is no stream. Clients repeat it for ever, some without a pause."""

import structlog
from starlette.requests import Request

from services.gateway.http.errors import NotFound

log = structlog.get_logger(__name__)

#: The one WebSocket. A handshake for another path is an HTTP request.
PRICE_STREAM = "/api/prices/stream"
#: Further clients and paths are not logged, so that nobody fills the log by inventing paths.
LOG_AT_MOST = 1_000


class MissingStreams:
    """Refuse handshakes, and log each client and path once."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str]] = set()

    def refusal(self, request: Request) -> NotFound:
        """Return the error for the handshake."""
        client, path = request.client.host if request.client else "unknown", request.url.path[:200]
        if (client, path) not in self._logged and len(self._logged) < LOG_AT_MOST:
            self._logged.add((client, path))
            log.warning("a client asks for a stream that does not exist", client=client, path=path)
        return NotFound(f"there is no stream at {path}: this server has no WebSocket streams; poll GET /v2/orders")


def is_handshake(request: Request) -> bool:
    """Return True if the request asks for a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"
