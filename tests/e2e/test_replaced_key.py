"""``make key`` beside ``make run``: a lost key is replaced, whether PaperProfit runs or not."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from embedded.home import take_home
from shared.storage.migrate import ROOT
from tests.embedded_run import HEADERS, KEY_ID, EmbeddedRun


@pytest.fixture
def run(tmp_path: Path) -> Iterator[EmbeddedRun]:
    run = EmbeddedRun(tmp_path / "home")
    yield run
    if not run.ended:
        run.stop()


def replace_key(run: EmbeddedRun, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """As ``make key`` does it."""
    return subprocess.run(
        [sys.executable, "-m", "embedded", "key", *arguments],
        cwd=ROOT,
        env=run.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def printed_key(output: str) -> dict[str, str]:
    lines = {line[:15].strip(): line[15:].split() for line in output.splitlines()}
    return {"APCA-API-KEY-ID": lines["key id"][0], "APCA-API-SECRET-KEY": lines["secret key"][0]}


def status(run: EmbeddedRun, key: dict[str, str]) -> int:
    return httpx.get(f"{run.url}/v2/account", headers=key).status_code


def test_a_key_is_replaced_while_it_runs(run: EmbeddedRun) -> None:
    """The former key is refused when the command has ended, and its open stream ends."""
    run.start()
    with httpx.stream("GET", f"{run.url}/api/stream", headers=HEADERS, timeout=20) as stream:
        lines = stream.iter_lines()
        next(lines)
        ended = replace_key(run)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert status(run, HEADERS) == 401
        assert status(run, printed_key(ended.stdout)) == 200
        list(lines)  # times out if the stream goes on


def test_a_key_is_replaced_while_it_is_stopped(run: EmbeddedRun) -> None:
    """The next start names the new key, without its secret, and does not bring the former one back."""
    run.start()
    assert f"key id       {KEY_ID}   (from PAPERPROFIT_API_KEY_ID)" in run.text
    run.stop()
    ended = replace_key(run)
    assert (ended.returncode, ended.stderr) == (0, "")
    new = printed_key(ended.stdout)
    run.start()
    assert "PAPERPROFIT_API_KEY_ID names a key that was replaced" in run.text
    assert f"key id       {new['APCA-API-KEY-ID']}\n" in run.text
    assert new["APCA-API-SECRET-KEY"] not in run.text
    assert (status(run, new), status(run, HEADERS)) == (200, 401)


def test_every_start_says_what_it_does_and_which_key_is_valid(run: EmbeddedRun) -> None:
    """The first shows the secret too, and later ones how a lost one is replaced."""
    run.settings = {"PAPERPROFIT_API_KEY_ID": "", "PAPERPROFIT_API_SECRET_KEY": ""}
    run.start()
    key = printed_key(run.text)
    first = run.text.splitlines()[:3]
    assert first == [
        f"making the first database in {run.home}",
        "bringing its tables up to date",
        "starting the services",
    ]
    run.stop()
    run.start()
    assert run.text.splitlines()[0] == "starting the database"
    assert f"key id       {key['APCA-API-KEY-ID']}\n" in run.text
    assert "make key replaces a lost one" in run.text
    assert key["APCA-API-SECRET-KEY"] not in run.text
    assert status(run, key) == 200


def test_a_home_that_never_ran_is_one_line_and_is_not_made(run: EmbeddedRun) -> None:
    ended = replace_key(run)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"paperprofit: there is no account in {run.home} yet; make run opens one and shows its key\n"
    assert not run.home.exists()


def test_a_home_whose_database_is_away_is_one_line(run: EmbeddedRun) -> None:
    """Another process holds the home, but its database is not up."""
    (run.home / "postgres" / "data").mkdir(parents=True)
    with take_home(run.home):
        ended = replace_key(run)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"paperprofit: PaperProfit starts or stops on {run.home}; try again in a moment\n"
