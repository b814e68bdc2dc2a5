"""Make ``tests/component/data/populated.sql.gz`` and ``populated.json``: a populated database, and what its API shows.

    python -m tests.populated_database FOLDER

Run it with the code of the commit whose database the upgrade test shall begin with: check that commit out beside this
one, copy this file into its ``tests``, run it there, and move both files from FOLDER to ``tests/component/data``. The
dump has the secret of the tests' key only as a hash, and no path and no name of the machine.
"""

import gzip
import json
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import make_url
from starlette.testclient import TestClient

from embedded.database import service_urls
from embedded.postgres_cluster import programs
from embedded.system import System
from services.gateway.http.auth import add_key
from shared.bus.inprocess import wait_until_idle
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.settings import DEMO_ACCOUNT_ID
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT
from tests.component.http_trader import KEY, Trader, open_account, push
from tests.conftest import running_system
from tests.servers.choice import private_postgres
from tests.support import account, broken_invariants, eventually, price, prices, value

VERSION = "18"
#: What the API shows of an account, and has to show after an upgrade.
SHOWN = (
    "/v2/account",
    "/v2/positions",
    "/v2/orders?status=all&nested=true",
    "/api/account/settings",
    "/api/account/ledger",
    "/api/account/trades",
    "/api/account/round-trips",
    "/api/account/dividends",
)
RESTING: dict[str, Any] = {"type": "limit", "limit_price": "50", "time_in_force": "gtc"}
#: Of the margin account.
OTHER_KEY = {**KEY, "APCA-API-KEY-ID": "OTHERKEY"}
#: The account whose opening waits in the outbox.
WAITING_ACCOUNT = UUID(int=11)


def populate(system: System, client: TestClient) -> dict[str, Any]:
    """Trade in two accounts, and leave orders open and a message in the outbox. Returns what the API shows of both."""
    eventually(lambda: client.get("/v2/account", headers=KEY).status_code == 200)
    margin: dict[str, Any] = {"multiplier": 4, "shorting": True, "limits": {"max_order_qty": "1000"}}
    other = open_account(system, client, **margin)
    secret, scopes = KEY["APCA-API-SECRET-KEY"], ["trade", "operate"]
    with system.contexts["gateway"].unit_of_work() as uow:
        add_key(uow.connection, OTHER_KEY["APCA-API-KEY-ID"], secret, other.account_id, scopes, uow.now)
    traders = [replace(other, key=OTHER_KEY), Trader(system, client, DEMO_ACCOUNT_ID, KEY)]
    for trader in traders:
        trade(trader)
    act(system, client)
    for trader in traders:
        trader.order(**RESTING)
        bracket = {"order_class": "bracket", "take_profit": {"limit_price": "60"}, "stop_loss": {"stop_price": "40"}}
        trader.order(**RESTING, **bracket)
        trader.order(type="trailing_stop", side="sell", qty="1", trail_percent="10", time_in_force="gtc")
    eventually(lambda: value(system.contexts["orders"].engine, "SELECT count(*) = 0 FROM orders.outbox"))
    return {
        trader.key["APCA-API-KEY-ID"]: {path: client.get(path, headers=trader.key).json() for path in SHOWN}
        for trader in traders
    }


def trade(trader: Trader) -> None:
    """A round trip, a position of two lots, an order that was canceled and one that was rejected."""
    trader.filled("100")
    trader.filled("101", side="sell", qty="4")
    trader.filled("102", qty="2.5")
    placed = trader.order(**RESTING)
    assert trader.ask("DELETE", f"/orders/{placed['id']}").status_code == 204
    assert trader.ask("POST", "/orders", json={"symbol": "AAPL", "qty": "900000", "side": "buy", "type": "market",
                                               "time_in_force": "day"}).status_code in {403, 422}  # fmt: skip


def act(system: System, client: TestClient) -> None:
    """Leave the traces of operators and jobs: a dividend, a session, runs, and a dead letter."""
    now = system.contexts["gateway"].clock().isoformat()
    dividend = {"symbol": "AAPL", "kind": "dividend", "amount": "0.5", "effective_at": now}
    assert client.post("/api/corporate-actions", json=dividend, headers=KEY).status_code == 202
    eventually(lambda: client.get("/api/account/dividends?paid=true", headers=KEY).json()["items"])
    key = {"key_id": KEY["APCA-API-KEY-ID"], "secret_key": KEY["APCA-API-SECRET-KEY"]}
    assert client.post("/api/session", json=key).status_code == 200
    client.cookies.clear()
    for job in ("update_positions", "prove_books"):
        run = client.post(f"/api/jobs/{job}/trigger", headers=KEY).json()["run_id"]
        eventually(lambda id_=run: client.get(f"/api/runs/{id_}", headers=KEY).json()["state"] == "finished")  # type: ignore[misc]
    with system.contexts["marketdata"].unit_of_work() as uow:
        uow.publish(prices(price("AAPL", "1")))
        (sent,) = uow.outgoing
        uow.outgoing[:] = [sent._replace(body=sent.body.replace(b"AAPL", b"no symbol"))]
    eventually(lambda: value(system.contexts["orders"].engine, "SELECT count(*) FROM orders.dead_letters"))
    push(system, "103")
    wait_until_idle(system.broker, seconds=10)
    assert broken_invariants(system.contexts["orders"].engine) == {}


def leave_waiting(url: str) -> None:
    """Leave a message that is committed, and that no relay has sent."""
    engine = make_engine(url, name="gateway")
    with ServiceContext("gateway", engine).unit_of_work() as uow:
        uow.publish(account(WAITING_ACCOUNT))
    engine.dispose()


def anonymous(text: str) -> str:
    """The text without the paths and the name of this machine."""
    for path in sorted({str(ROOT), sys.prefix, sys.base_prefix}, key=len, reverse=True):
        text = text.replace(path, "/srv")
    return re.sub(rf"\b{re.escape(socket.gethostname())}\b", "host", text)


def main(folder: Path) -> None:
    with private_postgres(VERSION) as url:
        urls = service_urls(url)
        with running_system(urls) as system, TestClient(system.app()) as client:
            answers = populate(system, client)
        leave_waiting(urls["gateway"])
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        command = [str(programs() / "pg_dump"), "--inserts", "--rows-per-insert=50", plain]
        dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (folder / "populated.sql.gz").write_bytes(gzip.compress(anonymous(dump).encode(), mtime=0))
    (folder / "populated.json").write_text(
        json.dumps({"day": str(utc_now().date()), "shown": answers}, indent=1) + "\n"
    )
    print(f"wrote {folder}/populated.sql.gz and populated.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
