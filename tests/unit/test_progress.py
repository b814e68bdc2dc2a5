"""An installation and a test run name what they do for as long as it lasts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.storage.migrate import ROOT

PROGRAM = str(ROOT / "deploy" / "with-progress")


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAM, "installing it", *command], capture_output=True, text=True, check=False, timeout=60)


def test_a_command_that_succeeds_is_one_line() -> None:
    """Its own output is hidden."""
    ended = run("sh", "-c", "echo chatter; echo warnings >&2")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "installing it\n", "")


def test_a_command_that_fails_shows_its_output_and_ends_alike() -> None:
    ended = run("sh", "-c", "echo no such package >&2; exit 7")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "installing it\n", "no such package\n")


def test_a_command_that_takes_long_is_never_silent_for_ten_seconds(tmp_path: Path) -> None:
    """It is said again after five; the command here ends once it has been."""
    shown = tmp_path / "shown"
    with shown.open("w") as output:
        command = [PROGRAM, "installing it", "sh", "-c", f"until grep -q ' 5 s' {shown}; do sleep 0.1; done"]
        subprocess.run(command, stdout=output, check=True, timeout=60)
    assert shown.read_text().splitlines()[:2] == ["installing it", "  … installing it: 5 s"]


@pytest.mark.parametrize("when", ["", "def test_it() -> None:\n    "])
def test_pytest_is_never_silent_for_ten_seconds(tmp_path: Path, when: str) -> None:
    """Neither while it collects nor while a test runs: each goes on here until the terminal was told of it."""
    shown = tmp_path / "shown"
    waits = f"while '… collecting' not in open({str(shown)!r}).read(): time.sleep(0.1)\n"
    (tmp_path / "test_slow.py").write_text(
        f"import time\n{when}{waits}" + ("" if when else "def test_it() -> None: pass\n")
    )
    with shown.open("w") as output:
        command = [sys.executable, "-m", "pytest", "-p", "tests.progress", "-c", os.devnull, str(tmp_path)]
        # a worker of pytest-xdist is silent, and this test may run in one
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
        subprocess.run(command, stdout=output, check=True, timeout=60, cwd=ROOT, env=environment)
    assert "1 passed" in shown.read_text()
