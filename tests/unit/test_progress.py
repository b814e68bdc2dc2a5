"""deploy/with-progress: whoever waits for an installation reads what it does, and its output where it failed."""

import subprocess
from pathlib import Path

from shared.storage.migrate import ROOT

PROGRAM = str(ROOT / "deploy" / "with-progress")


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([PROGRAM, "installing it", *command], capture_output=True, text=True, check=False, timeout=60)


def test_a_command_that_succeeds_is_one_line() -> None:
    """What it writes itself is not shown."""
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
