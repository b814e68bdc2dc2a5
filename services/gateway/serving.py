"""The HTTP server in front of the gateway's app, in a container and in the embedded run."""

import uvicorn
from starlette.applications import Starlette

#: Longer than the pauses of a bot. With uvicorn's 5 s the server closes a connection just when a bot that polls every
#: 5 s sends its next request on it, and a POST that is lost so cannot be retried safely. nginx keeps them as long.
KEEP_ALIVE_SECONDS = 75


def http_server(app: Starlette, *, host: str = "127.0.0.1", port: int = 8000, shutdown_seconds: int) -> uvicorn.Server:
    """A server that is not started yet. After ``shutdown_seconds`` it ends what is still being answered."""
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
