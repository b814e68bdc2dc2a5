"""A service that cannot start says why in one line, and exits with 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.contracts.routing import SERVICES
from shared.storage.migrate import ROOT


def started(service: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("service", "name"),
    [
        *((service, "PAPERPROFIT_POOL_SIZE") for service in SERVICES),
        ("orders", "PAPERPROFIT_ORDERS_MAX_QUOTE_AGE"),
        ("marketdata", "PAPERPROFIT_PROVIDER"),
    ],
)
def test_a_wrong_variable_is_named(service: str, name: str) -> None:
    """The service names it before it connects to anything, and does not show its value."""
    ended = started(service, **{name: "no-such-thing"})
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended.stderr
    assert name in ended.stderr
    assert "no-such-thing" not in ended.stderr


def test_a_wrong_jobs_file_is_named_with_its_key(tmp_path: Path) -> None:
    """The error has the file, the line, the job and the key."""
    file = tmp_path / "jobs.toml"
    file.write_text('[process_orders]\ninterval = "5 parsecs"\n')
    ended = started("orders", PAPERPROFIT_JOBS_CONFIG=str(file))
    assert ended.returncode == 1
    assert f"{file}:2: process_orders.interval:" in ended.stderr
    assert "5 parsecs" in ended.stderr


@pytest.mark.parametrize("service", ["orders", "gateway"])
def test_a_database_that_stays_away_is_one_line_at_the_end(service: str) -> None:
    """It comes after the time that a start waits. No log shows the password."""
    url = "postgresql+psycopg://somebody:topsecret@127.0.0.1:9/nowhere"
    wait = "import shared.worker as w, sys; w.DATABASE_WAIT_SECONDS = 1; sys.argv = ['x'];"
    module = f"services.{service}.__main__"
    code = f"{wait} import runpy; runpy.run_module('{module}', run_name='__main__', alter_sys=True)"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PAPERPROFIT_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert f"{service}: no database for 1 s" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "topsecret" not in ended.stderr
