"""The examples of README.md and docs/ work as they are written, and the comments beside them are true.

Every example runs once, in the order of the documents, against one ``make run``.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx2 as httpx
import pytest

from shared.jobs.config import load_jobs_config
from shared.storage.migrate import ROOT
from tests.embedded_run import HEADERS, KEY_ID, SECRET, EmbeddedRun
from tests.support import eventually

#: The phases in which the schedule of the README does not run; a phase that it does not name runs like the others.
RESTING = {"closed", "weekend", "holiday"}
URL = "http://127.0.0.1:8000"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Example:
    """A fenced block of a document."""

    name: str
    language: str
    text: str


@dataclass(frozen=True)
class Answer:
    """The answer to one request of an example."""

    method: str
    path: str
    status: int
    body: Any


def examples_of(document: Path) -> list[Example]:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    return [Example(f"{document.name}-{number}", *block) for number, block in enumerate(blocks, 1)]


EXAMPLES = [example for document in DOCUMENTS for example in examples_of(document)]
#: Examples that send requests.
REQUESTS = [each for each in EXAMPLES if each.language == "sh" and URL in each.text]
PROGRAMS = [each for each in EXAMPLES if each.language == "python" and URL in each.text]
CONFIGURATIONS = [each for each in EXAMPLES if each.language == "toml"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRun]:
    run = EmbeddedRun(tmp_path_factory.mktemp("readme") / "home").start()
    yield run
    run.stop()


@pytest.fixture(scope="module")
def client(run: EmbeddedRun) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=run.url, headers=HEADERS) as client:
        eventually(lambda: client.get("/v2/account").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def answers(
    run: EmbeddedRun, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Answer]]:
    """The answers to all requests of each example, run where ``curl`` is ours and ``.env`` has the key.

    The markets' sessions are known before.
    """
    jobs = ("update_sessions", "update_market_data")
    eventually(lambda: all(succeeded(client, job) for job in jobs), seconds=60)
    folder = tmp_path_factory.mktemp("curl")
    curl = folder / "curl"
    curl.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("documented_curl.py")}" "$@"\n')
    curl.chmod(0o755)
    (folder / ".env").write_text(f"PAPERPROFIT_API_KEY_ID={KEY_ID}\nPAPERPROFIT_API_SECRET_KEY={SECRET}\n")
    return {example.name: answered(example, run, folder) for example in REQUESTS}


def answered(example: Example, run: EmbeddedRun, folder: Path) -> list[Answer]:
    found = folder / f"{example.name}.jsonl"
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CURL_ANSWERS": str(found)}
    dotted = key_line()
    keyed = dotted.replace("…", KEY_ID, 1).replace("…", SECRET, 1)
    script = f"{keyed}\n{example.text.replace(dotted, '')}".replace(URL, run.url)
    subprocess.run(["sh", "-eu"], input=script, text=True, env=environment, cwd=folder, check=True, timeout=60)
    parts = [json.loads(line) for line in found.read_text().splitlines()]
    return [Answer(**{**part, "body": json.loads(part["body"] or "null")}) for part in parts]


def succeeded(client: httpx.Client, job: str) -> bool:
    """Whether the job's first run has succeeded."""
    return bool(client.get("/api/runs", params={"job": job, "outcome": "succeeded"}).json()["items"])


def key_line() -> str:
    """The line of the README that names the key, with dots in place of it."""
    (line,) = [line for example in REQUESTS for line in example.text.splitlines() if line.startswith("KEY='")]
    return line


def example_with(text: str) -> Example:
    """The example of the README that has this text."""
    (found,) = [each for each in EXAMPLES if text in each.text and each.name.startswith("README")]
    return found


def test_the_documents_have_examples_of_each_kind() -> None:
    """Otherwise the tests below would show nothing."""
    assert len([each for each in REQUESTS if each.name.startswith("README")]) >= 3
    assert PROGRAMS
    assert CONFIGURATIONS


@pytest.mark.parametrize("example", REQUESTS, ids=lambda example: example.name)
def test_every_request_of_an_example_is_answered_with_success(
    example: Example, answers: dict[str, list[Answer]]
) -> None:
    """As many requests as the example names, and 2xx for each."""
    sent = answers[example.name]
    assert len(sent) == len(re.findall(r"^\s*curl ", example.text, re.MULTILINE))
    assert [each for each in sent if not 200 <= each.status < 300] == []


def test_the_trigger_answers_with_the_id_of_a_run(answers: dict[str, list[Answer]], client: httpx.Client) -> None:
    """``{"run_id": "…"}``, and the run succeeds."""
    trigger = answers[example_with("/trigger").name][0]
    assert set(trigger.body) == {"run_id"}

    def finished() -> Any:
        found = client.get(f"/api/runs/{trigger.body['run_id']}").json()
        return found if found["state"] == "finished" else None

    assert eventually(finished, seconds=30)["outcome"] == "succeeded"


def test_the_toggle_switches_the_strategy_off(answers: dict[str, list[Answer]], client: httpx.Client) -> None:
    """The job that it names is disabled, and has no next slot."""
    assert answers[example_with("/trigger").name][2].path.endswith("toggle?enabled=false")
    job = client.get("/api/jobs/trading_bot").json()
    assert job["settings"]["enabled"] is False
    assert job["next_slots"] == []


def test_the_schedule_has_five_slots_in_trading_hours_only(answers: dict[str, list[Answer]]) -> None:
    """The phases that the example switches off have none: no slot lies on a weekend or outside 04:00 to 20:00."""
    shown = answers[example_with('"phases"').name][1].body
    slots = [datetime.fromisoformat(slot).astimezone(ZoneInfo("America/New_York")) for slot in shown["next_slots"]]
    assert len(slots) == 5
    assert {phase for phase, schedule in shown["settings"]["phases"].items() if schedule == "off"} == RESTING
    assert all(slot.weekday() < 5 and time(4) <= slot.time() < time(20) for slot in slots)


def test_null_takes_the_schedule_back_to_that_of_the_file(answers: dict[str, list[Answer]]) -> None:
    back = answers[example_with('"schedule": null').name][2].body
    file = load_jobs_config(ROOT / "config" / "jobs.demo.toml")["update_positions"]
    assert back["settings"]["schedule"] == file["schedule"]
    assert back["settings"]["phases"] == {}


def test_the_settings_of_the_example_are_those_of_the_account(
    answers: dict[str, list[Answer]], client: httpx.Client
) -> None:
    assert answers[example_with("/api/account/settings").name]

    def applied() -> Any:
        found = client.get("/api/account/settings").json()
        return found if Decimal(found["multiplier"]) == 2 else None

    settings = eventually(applied)
    assert settings["shorting"] is True
    assert settings["fills"]["fills_on"] == "bar"
    assert Decimal(settings["limits"]["max_drawdown"]) == Decimal("0.25")


def test_the_ledger_has_the_transfer_and_balances(answers: dict[str, list[Answer]]) -> None:
    """Double entry: in every entry the money is where it came from."""
    ledger = next(each for each in answers[example_with("/transfers").name] if each.path.endswith("/ledger"))
    entries = ledger.body["items"]
    assert "5000" in {str(int(Decimal(entry["cash"]))) for entry in entries}
    for entry in entries:
        amounts = {name: Decimal(entry[name] or 0) for name in BOOKS}
        assert sum(amounts[name] for name in ASSETS) == sum(amounts[name] for name in SOURCES), entry


#: The books of an entry: cash + cost + fee + interest = realized + dividend + capital.
ASSETS = ("cash", "cost", "fee", "interest")
SOURCES = ("realized", "dividend", "capital")
BOOKS = ASSETS + SOURCES


def test_the_program_submits_an_order_that_fills_on_the_next_price(run: EmbeddedRun, client: httpx.Client) -> None:
    """``new`` and the account's equity are printed, and the order fills."""
    (program,) = PROGRAMS
    text = program.text.replace(URL, run.url).replace("KEY ID", KEY_ID).replace("SECRET KEY", SECRET)
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    status, equity = ended.stdout.split()
    assert status == "OrderStatus.NEW"
    assert Decimal(equity) > 0
    query = {"status": "closed", "symbols": "IBM"}
    eventually(lambda: "5" in [each["filled_qty"] for each in client.get("/v2/orders", params=query).json()])
    trades = client.get("/api/account/trades").json()["items"]
    assert ("IBM", "buy", "5") in [(each["symbol"], each["side"], each["qty"]) for each in trades]


@pytest.mark.parametrize("example", CONFIGURATIONS, ids=lambda example: example.name)
def test_an_example_of_the_configuration_is_what_the_file_has(example: Example, tmp_path: Path) -> None:
    """It is valid, and ``config/jobs.toml`` says the same of its jobs."""
    file = tmp_path / "jobs.toml"
    file.write_text(example.text)
    assert load_jobs_config(file)
    shipped = tomllib.loads((ROOT / "config" / "jobs.toml").read_text())
    assert {name: shipped[name] for name in tomllib.loads(example.text)} == tomllib.loads(example.text)
