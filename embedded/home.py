"""The folder of an embedded run, and the lock that lets one instance hold it."""

import fcntl
import os
from pathlib import Path
from typing import IO


class HomeUnusable(Exception):
    """The folder cannot be used. The message says why and what to do."""


class HomeTaken(HomeUnusable):
    """Another process holds the folder."""


def home_folder() -> Path:
    """The folder that the environment names, or the one below the working directory."""
    return Path(os.environ.get("PAPERPROFIT_HOME", ".paperprofit")).absolute()


def take_home(path: Path) -> IO[str]:
    """Make the folder if need be and hold its lock until the returned file is closed or the process ends.

    The lock, not a running database, decides who holds a home: it goes with its process, however that ends.

    Raises HomeTaken, and HomeUnusable where the folder cannot be written to.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (path / "lock").open("a+")
    except OSError as error:
        raise HomeUnusable(
            f"cannot write to {path}: {error.strerror}; choose another folder with PAPERPROFIT_HOME"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise HomeTaken(
            f"PaperProfit already runs on {path} (process {holder}); stop it, or choose another folder "
            "with PAPERPROFIT_HOME"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
