"""The files of the page at ``/``."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"
#: Browsers ask before they use a file that they keep.
REVALIDATE = {"Cache-Control": "no-cache"}


async def get_page(_request: Request) -> Response:
    """The page itself. Its scripts ask the API for everything else."""
    return FileResponse(STATIC / "index.html", headers=REVALIDATE)


class Files(StaticFiles):
    """The scripts, which a browser must not mix with those of an earlier version."""

    def file_response(self, *given: Any, **options: Any) -> Response:
        response = super().file_response(*given, **options)
        response.headers.update(REVALIDATE)
        return response


files: list[BaseRoute] = [
    Route("/", get_page, methods=["GET"]),
    Mount("/static", Files(directory=STATIC, check_dir=False)),
]
