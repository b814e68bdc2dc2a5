"""docs/walks.md names the files on three paths through the code, and no file that the paths do not pass."""

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import httpx2 as httpx
import pytest
import uvicorn

from embedded.system import System
from services.marketdata.configured import configured_provider
from services.marketdata.usecases.update_prices import update_prices
from shared.storage.migrate import ROOT
from tests.component.test_job_walk import WALK
from tests.conftest import database, running_system
from tests.support import eventually

#: The hops that a walk takes, each once in the document however often it is taken.
HOPS = ("A request", "The bus")
#: Most files of a walk without those of the hops.
MOST = {"An order": 27, "A price": 35, "A slot": 22}
#: The demo account's key in tests.
KEY = {"APCA-API-KEY-ID": "TESTKEY", "APCA-API-SECRET-KEY": "test-secret-key"}
ORDER = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
#: Its key may not operate, so its page shows no jobs.
NEW_ACCOUNT = {"name": "walker", "cash": "100000", "scopes": ["trade"]}
#: Threads that work beside the walks.
ASIDE = re.compile(r"system-log|queues|heartbeat|pulse|relay-strategy")


def section(title: str) -> str:
    text = (ROOT / "docs" / "walks.md").read_text()
    (found,) = re.findall(rf"^## {title}\b.*?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


def listed(title: str) -> list[str]:
    """The files of a section's numbered list."""
    return re.findall(r"^\d+\. `([^`]+)`", section(title), re.MULTILINE)


def plumbing() -> list[str]:
    return re.findall(r"`((?:shared|services)/[^`]+)`", section("Plumbing"))


class Recorder:
    """The production files whose functions are called while it is on, in the order of their first call."""

    def __init__(self) -> None:
        self.files: dict[str, None] = {}
        self.on = False
        self._packages = tuple(f"{ROOT}/{package}/" for package in ("shared", "services"))

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> None:
        code = frame.f_code
        if not self.on or event != "call" or code.co_name == "<module>":
            return
        if code.co_filename.startswith(self._packages) and not ASIDE.match(threading.current_thread().name):
            self.files.setdefault(code.co_filename.removeprefix(f"{ROOT}/"))

    @contextmanager
    def recording(self) -> Iterator[None]:
        self.files = {}
        self.on = True
        try:
            yield
        finally:
            self.on = False
        print("\n".join(self.files))  # a test that fails shows the walk in its order


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """It sees this thread and every thread that starts from now on."""
    recorder = Recorder()
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    yield recorder
    sys.setprofile(None)
    threading.setprofile(None)


@pytest.fixture(scope="module")
def system(recorder: Recorder, postgres: str, template: dict[str, str]) -> Iterator[System]:
    """All services, but for the gateway's repetition of unanswered submissions, which is on no walk."""
    del recorder  # begins before the threads do
    with pytest.MonkeyPatch.context() as patch, database(postgres, template) as urls, running_system(urls) as system:
        patch.setattr("services.gateway.trading.submissions.resend_unanswered", lambda *_: 0)
        take_price(system)
        yield system


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[httpx.Client]:
    """A client of the gateway over a real connection, since a stream never ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(system.app(), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],), name="http")
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=20) as client:
        eventually(lambda: server.started and client.get("/v2/account", headers=KEY).status_code == 200)
        opened = client.post("/api/accounts", headers=KEY, json=NEW_ACCOUNT).json()
        client.headers = {"APCA-API-KEY-ID": opened["key_id"], "APCA-API-SECRET-KEY": opened["secret_key"]}
        eventually(lambda: client.get("/v2/account").status_code == 200)
        yield client
    server.should_exit = True
    thread.join(10)


def place(client: httpx.Client) -> None:
    answer = client.post("/v2/orders", json=ORDER)
    assert (answer.status_code, answer.json()["status"]) == (200, "new")


def events_of(stream: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The name and the data of each server-sent event."""
    name, data = "", ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data += line.removeprefix("data: ")
        elif data:
            yield name, json.loads(data)
            data = ""


def take_price(system: System) -> None:
    provider = configured_provider()
    assert provider is not None
    update_prices(system.contexts["marketdata"], provider, provider.advance, interval="replay", length=None)


def own_files(passed: dict[str, None]) -> list[str]:
    """The files that a walk passes, without those of the hops and the plumbing."""
    aside = (*plumbing(), *(name for hop in HOPS for name in listed(hop)))
    return sorted(name for name in passed if not name.startswith(aside))


def test_an_order_passes_the_files_that_the_document_names(
    recorder: Recorder, system: System, client: httpx.Client
) -> None:
    """From ``POST /v2/orders`` to its answer. The order before it has read what is read once."""
    del system
    place(client)
    with recorder.recording():
        place(client)
    assert own_files(recorder.files) == sorted(listed("An order"))
    assert {name for hop in HOPS for name in listed(hop)} <= recorder.files.keys()


def test_a_price_passes_the_files_that_the_document_names(
    recorder: Recorder, system: System, client: httpx.Client
) -> None:
    """From the provider's answer to the page, which shows the filled order, the position and the account."""
    take_price(system)
    place(client)
    with client.stream("GET", "/api/stream") as stream:
        events = events_of(stream)
        while next(events)[0] != "orders":
            pass
        with recorder.recording():
            take_price(system)
            shown: set[str] = set()
            while not {"orders", "positions", "account", "prices"} <= shown:
                name, data = next(events)
                if name != "orders" or data["orders"][0]["status"] == "filled":
                    shown.add(name)
    assert own_files(recorder.files) == sorted(listed("A price"))


def test_a_slot_passes_the_files_that_the_document_names() -> None:
    """Those that ``test_job_walk`` records."""
    assert sorted(listed("A slot")) == sorted(set(WALK) - set(listed("The bus")))


@pytest.mark.parametrize(("title", "most"), MOST.items())
def test_a_walk_is_short(title: str, most: int) -> None:
    """Each file is entered once."""
    files = listed(title)
    assert files
    assert len(set(files)) == len(files) <= most
