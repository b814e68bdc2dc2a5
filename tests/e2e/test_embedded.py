"""The embedded run: one command, a whole paper exchange, and nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderStatus, TimeInForce
from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest

from shared.storage.migrate import ROOT
from tests.embedded_run import HEADERS, KEY_ID, SECRET, EmbeddedRun
from tests.support import eventually

Starter = Callable[..., EmbeddedRun]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts embedded runs, and ends those that the test leaves."""
    runs: list[EmbeddedRun] = []

    def starter(home: Path = tmp_path / "home", *, wait: bool = True, **settings: str) -> EmbeddedRun:
        run = EmbeddedRun(home, settings=settings)
        runs.append(run)
        return run.start(wait=wait)

    yield starter
    for run in runs:
        if not run.ended:
            run.stop()


def test_an_official_client_trades_against_it(start: Starter) -> None:
    """alpaca-py with another URL: account, market order, resting limit, cancel, positions, clock, refusals.

    In GOOG, which the demo's bot leaves alone.
    """
    run = start()
    client = TradingClient(KEY_ID, SECRET, url_override=run.url)
    account = client.get_account()
    assert (account.status.value, account.currency) == ("ACTIVE", "USD")
    bought = client.submit_order(
        MarketOrderRequest(symbol="GOOG", qty=2, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
    )
    eventually(lambda: client.get_order_by_id(bought.id).status is OrderStatus.FILLED)
    limit = LimitOrderRequest(symbol="GOOG", qty=1, side=OrderSide.BUY, time_in_force=TimeInForce.GTC, limit_price=1)
    resting = client.submit_order(limit)
    assert [order.id for order in client.get_orders() if order.symbol == "GOOG"] == [resting.id]
    client.cancel_order_by_id(resting.id)
    assert client.get_order_by_id(resting.id).status is OrderStatus.CANCELED
    held = {position.symbol: position.qty for position in client.get_all_positions()}
    assert held["GOOG"] == "2"
    assert client.get_clock().is_open
    with pytest.raises(APIError) as refused:
        client.submit_order(MarketOrderRequest(symbol="NOPE", qty=1, side=OrderSide.BUY, time_in_force=TimeInForce.DAY))
    assert "NOPE" in str(refused.value)


def test_a_job_triggered_over_http_runs_and_shows_in_the_status(start: Starter) -> None:
    """As the README's curl does it."""
    run = start()
    with httpx.Client(base_url=run.url, headers=HEADERS) as client:
        triggered = client.post("/api/jobs/update_positions/trigger")
        assert triggered.status_code == 202

        def finished() -> Any:
            jobs = {job["name"]: job["last_run"] for job in client.get("/api/jobs/status").json()["jobs"]}
            last = jobs["update_positions"]
            return last if last["id"] == triggered.json()["run_id"] and last["finished_at"] else None

        assert eventually(finished)["outcome"] == "succeeded"
        eventually(lambda: client.get("/healthz").status_code == 200)


def test_the_schedule_runs_every_job_and_the_bot_decides(start: Starter) -> None:
    """Within seconds of the first start each job with an interval has had a run, and none has failed.

    No strategy of the demo has a schedule of its own, so the runs of that job are skipped.
    """
    run = start()
    with httpx.Client(base_url=run.url, headers=HEADERS) as client:

        def outcomes() -> Any:
            jobs = client.get("/api/jobs/status").json()["jobs"]
            runs = {
                job["name"]: job["last_run"] for job in jobs if " " not in job["schedule"] and job["schedule"] != "off"
            }
            own = runs.pop("trading_bot_schedules")
            return {run["outcome"] if run else None for run in runs.values()}, own and own["outcome"]

        expected = ({"succeeded"}, "skipped")
        eventually(lambda: outcomes() == expected, seconds=60)  # the bot waits for its first price
        assert client.get("/api/runs?outcome=failed").json()["items"] == []


def test_a_schedule_that_is_changed_acts_within_two_seconds(start: Starter) -> None:
    """Without a restart: it ran every ten minutes, and now it runs every second."""
    run = start()
    with httpx.Client(base_url=run.url, headers=HEADERS) as client:

        def slots() -> int:
            items = client.get("/api/runs?job=update_positions&trigger=schedule").json()["items"]
            return len([each for each in items if each["outcome"] == "succeeded"])

        before = eventually(slots, seconds=30)
        changed = client.patch("/api/jobs/update_positions", json={"schedule": "1s"})
        assert (changed.status_code, changed.json()["settings"]["schedule"]) == (200, "1s")
        since = time.monotonic()
        eventually(lambda: slots() > before)
        assert time.monotonic() - since < 2


def test_a_run_is_accounted_for_with_its_log(start: Starter) -> None:
    """Triggered by hand: its outcome, what it counted, and no line that only repeats this."""
    run = start()
    with httpx.Client(base_url=run.url, headers=HEADERS) as client:
        run_id = client.post("/api/jobs/update_positions/trigger").json()["run_id"]

        def finished() -> Any:
            found = client.get(f"/api/runs/{run_id}").json()
            return found if found["state"] == "finished" else None

        found = eventually(finished, seconds=30)
        assert (found["outcome"], found["trigger"], found["attempt"]) == ("succeeded", "manual", 1)
        assert set(found["counts"]) == {"accounts_valued", "positions_valued"}
        assert found["log"] == []  # the job logs nothing, and the engine's own lines are in the run's row
        (action,) = client.get("/api/actions?what=trigger").json()["items"]
        assert action["after"]["run_id"] == run_id


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_within_five_seconds_and_leaves_no_process(start: Starter, signum: int) -> None:
    """Also while a page is open on the stream."""
    run = start()
    processes = run.processes()
    assert len(processes) > 1
    with httpx.stream("GET", f"{run.url}/api/stream", headers=HEADERS, timeout=10) as stream:
        next(stream.iter_lines())
        assert run.stop(signum) < 5
    assert run.process is not None
    assert run.process.returncode == 0
    eventually(lambda: not any(alive(process) for process in processes), seconds=3)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_second_start_goes_on_with_the_same_account(start: Starter, tmp_path: Path) -> None:
    """Orders, cash and the place in the recorded prices are as they were."""
    run = start(PAPERPROFIT_REPLAY_SPEED="20")
    with httpx.Client(base_url=run.url, headers=HEADERS) as client:
        order = place(client, symbol="GOOG", qty="3")
        eventually(lambda: client.get(f"/v2/orders/{order}").json()["status"] == "filled")
        account = client.get("/v2/account").json()["account_number"]
    run.stop()
    again = start(tmp_path / "home")
    with httpx.Client(base_url=again.url, headers=HEADERS) as client:
        assert client.get("/v2/account").json()["account_number"] == account
        assert client.get("/v2/positions/GOOG").json()["qty"] == "3"


def place(client: httpx.Client, **fields: str) -> str:
    body = {"side": "buy", "type": "market", "time_in_force": "gtc", "qty": "1", **fields}
    answer = client.post("/v2/orders", json=body)
    assert answer.status_code == 200, answer.text
    order_id: str = answer.json()["id"]
    return order_id


def test_killed_and_started_again_it_has_lost_nothing(start: Starter, tmp_path: Path) -> None:
    """Kill -9 right behind a burst of orders: each fills exactly once after the restart, and no server is left."""
    run = start(PAPERPROFIT_REPLAY_SPEED="5")
    with httpx.Client(base_url=run.url, headers=HEADERS) as client:
        taken = [place(client, symbol=symbol) for symbol in ("AAPL", "IBM", "MSFT", "GOOG", "FB") * 4]
    processes = run.processes()
    run.stop(signal.SIGKILL)
    eventually(lambda: not any(alive(process) for process in processes), seconds=15, what="PostgreSQL ended with it")
    again = start(tmp_path / "home", PAPERPROFIT_REPLAY_SPEED="5")
    with httpx.Client(base_url=again.url, headers=HEADERS) as client:
        eventually(lambda: all(client.get(f"/v2/orders/{o}").json()["status"] == "filled" for o in taken))
        by_hand = [client.get(f"/v2/orders/{order}").json() for order in taken]
        assert {order["filled_qty"] for order in by_hand} == {"1"}


def test_a_second_instance_on_the_same_home_ends_with_a_message(start: Starter, tmp_path: Path) -> None:
    """One line, exit code 1, and the first goes on."""
    first = start()
    second = start(tmp_path / "home", wait=False)
    assert second.process is not None
    assert second.process.wait(20) == 1
    eventually(lambda: second.text)
    assert len(second.text.splitlines()) == 1
    assert "already runs" in second.text
    assert "PAPERPROFIT_HOME" in second.text
    assert httpx.get(f"{first.url}/healthz").status_code in {200, 503}


def test_a_port_in_use_is_one_line_that_says_what_to_do(start: Starter, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = EmbeddedRun(tmp_path / "home", port=taken.getsockname()[1]).start(wait=False)
        assert run.process is not None
        assert run.process.wait(20) == 1
    eventually(lambda: run.text)
    assert (len(run.text.splitlines()), "PORT=" in run.text) == (1, True)
    del start


@pytest.mark.parametrize("name", ["PORT", "PAPERPROFIT_REPLAY_SPEED", "PAPERPROFIT_API_SECRET_KEY"])
def test_a_wrong_setting_is_one_line_that_names_it(start: Starter, name: str) -> None:
    """No traceback for a typing error."""
    run = start(wait=False, **{name: "?"})
    assert run.process is not None
    assert run.process.wait(30) == 1
    eventually(lambda: run.text)
    assert (len(run.text.splitlines()), name in run.text) == (1, True), run.text


def test_an_unwritable_home_is_one_line_that_says_what_to_do(start: Starter, tmp_path: Path) -> None:
    """A file stands where the folder should be made."""
    (tmp_path / "file").write_text("")
    run = start(tmp_path / "file" / "home", wait=False)
    assert run.process is not None
    assert run.process.wait(20) == 1
    eventually(lambda: run.text)
    assert (len(run.text.splitlines()), "PAPERPROFIT_HOME" in run.text) == (1, True)


def test_it_runs_from_a_folder_that_only_its_user_can_enter(start: Starter, tmp_path: Path) -> None:
    """For root, whose PostgreSQL runs as another user, this is the hard case. No folder is loosened for it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    start(closed / "home")
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == os.geteuid()


def test_help_names_every_variable() -> None:
    """Python -m embedded --help"""
    shown = subprocess.run(
        [sys.executable, "-m", "embedded", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in ("PORT", "PAPERPROFIT_HOME", "PAPERPROFIT_API_KEY_ID", "PAPERPROFIT_REPLAY_SPEED"):
        assert name in shown.stdout
