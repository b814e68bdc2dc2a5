"""The HTTP server of the gateway's application, in a container and in the embedded run."""

import logging

import uvicorn
from starlette.applications import Starlette

#: Longer than the pauses of a bot. With uvicorn's default of 5 s the server closes a connection just when a bot that
#: polls every 5 s sends its next request on it. A POST that is lost this way cannot be retried safely. nginx uses the
#: same time.
KEEP_ALIVE_SECONDS = 75
#: uvicorn's warnings about a WebSocket handshake. The application logs it once for each client.
_HANDSHAKE_WARNINGS = ("Unsupported upgrade request.", "No supported WebSocket library detected.")


def http_server(app: Starlette, *, host: str = "127.0.0.1", port: int = 8000, shutdown_seconds: int) -> uvicorn.Server:
    """Make a server that is not started yet. It aborts requests that still run ``shutdown_seconds`` after its stop."""
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=shutdown_seconds,
            ws="none",
        )
    )


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_HANDSHAKE_WARNINGS)
