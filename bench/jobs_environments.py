"""An environment of its own for each library that ours is measured beside, so the project does not depend on it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.report import OUT, NotMeasured


def python_of(name: str) -> Path:
    """Return the interpreter of the environment with that name."""
    return OUT / f"{name}-venv" / "bin" / "python"


def install(name: str, requirements: Sequence[str]) -> None:
    """Make the environment from PyPI where it is missing. Raises NotMeasured if that fails."""
    python = python_of(name)
    done = python.parents[1] / "installed"
    if done.exists() and done.read_text().split() == list(requirements):
        return
    print(f"installing {', '.join(requirements)} into {python.parents[1]}", flush=True)
    OUT.mkdir(exist_ok=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    for command in ([sys.executable, "-m", "venv", str(python.parents[1])], pip):
        if subprocess.run(command, check=False).returncode:
            raise NotMeasured(f"{name} could not be installed: {' '.join(command)}")
    done.write_text("\n".join(requirements))
