"""The files of the page at ``/``."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"


async def get_page(_request: Request) -> Response:
    """The page itself. Its scripts ask the API for everything else."""
    return FileResponse(STATIC / "index.html")


files: list[BaseRoute] = [
    Route("/", get_page, methods=["GET"]),
    Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
]
