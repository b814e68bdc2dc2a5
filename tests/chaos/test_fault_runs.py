"""Nothing is lost and nothing doubled, whatever breaks: `make chaos`.

PAPERPROFIT_CHAOS_SEEDS is the number of fault runs (20), PAPERPROFIT_CHAOS_FIRST_SEED the seed of the first (1). The
seed decides the faults and their order. The machine decides how they fall among the messages.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import httpx2
import pytest

from shared.contracts.orders import OrderClass, OrderType, TimeInForce
from tests.chaos.fault_run import run_faults
from tests.chaos.fleet import Fleet, running_fleet
from tests.chaos.traders import Account, close_account, open_account
from tests.support import eventually

FIRST = int(os.environ.get("PAPERPROFIT_CHAOS_FIRST_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("PAPERPROFIT_CHAOS_SEEDS", "20")))

#: Longer than a client takes to give a server up, and than a replica may be silent.
AWAY_SECONDS = 15
#: A server frees a lost client's locks after 15 s, and a client tries again at least every 10 s.
BACK_SECONDS = 40

#: Something of each fills in every fault run.
KINDS = {*OrderType, *OrderClass, *TimeInForce, "take_profit", "stop_loss"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fault_run_loses_and_doubles_nothing(fleet: Fleet, seed: int) -> None:
    """The books, the orders and their answers hold after each of the seeded runs."""
    fault_run, effects, wrong = run_faults(fleet, seed)
    print("\n".join(fault_run.log))
    print(effects)
    assert wrong == {}
    assert effects.redeliveries, "nothing was delivered again: this seed does not count"
    assert effects.duplicates, "nothing came twice: this seed does not count"
    assert effects.reconnects, "no connection was lost: this seed does not count"
    assert set(effects.traded) >= KINDS, "not all of it was traded: this seed does not count"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("outage", ["PostgreSQL vanishes", "PostgreSQL moves", "RabbitMQ vanishes"])
def test_trading_is_back_soon_after_a_server_vanished_without_a_reset(fleet: Fleet, outage: str) -> None:
    """No replica ends itself, and the locks of feed and relays are free. A price comes and fills an order."""
    fleet.wait_healthy()
    account = open_account(fleet.gateway, {"allow_wash_trades": True})
    eventually(lambda: fills(fleet, account), seconds=30, what="an order fills")
    way = fleet.way_to_rabbitmq if outage.startswith("RabbitMQ") else fleet.way_to_postgres
    way.drop()
    if outage.endswith("moves"):
        fleet.way_to_postgres.move()
    else:
        eventually(lambda: none_is_ready(fleet), seconds=30, what="all replicas miss the server")
        Event().wait(AWAY_SECONDS)
        way.accept()
    began = time.monotonic()
    eventually(lambda: fills(fleet, account), seconds=BACK_SECONDS, what="an order fills again")
    print(f"{outage}: an order fills {time.monotonic() - began:.1f} s later")
    assert fleet.tend() == []
    fleet.wait_healthy()
    close_account(fleet.gateway, account)


def none_is_ready(fleet: Fleet) -> bool:
    """No replica is ready, and all are live."""
    assert all(replica.deployment.health(replica.service, "/livez") for replica in fleet.replicas)
    return not any(replica.deployment.health(replica.service, "/readyz") for replica in fleet.replicas)


def fills(fleet: Fleet, account: Account) -> bool:
    """True where an order that is submitted now fills within seconds."""
    order = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "gtc"}
    with (
        httpx2.Client(base_url=fleet.gateway, headers=account.headers, timeout=5) as client,
        suppress(httpx2.HTTPError),
    ):
        taken = client.post("/v2/orders", json=order).raise_for_status().json()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if client.get(f"/v2/orders/{taken['id']}").raise_for_status().json()["status"] == "filled":
                return True
            Event().wait(0.1)
    return False


#: Every message is taken for new, and an exit goes on when the other has filled.
WITHOUT_INBOX_AND_GROUPS = """
from shared.bus import inbox
from shared.exchange.matching import execution

inbox.check_new, after_fill = lambda *_: None, execution.after_fill
execution.after_fill = lambda before, *rest: after_fill(before, *rest) if before.leg is None else []
"""


@pytest.mark.timeout(600)
def test_the_audit_finds_a_missing_inbox_and_missing_order_groups(tmp_path: Path) -> None:
    """Without them a duplicate acts twice and an exit outlives the other: the audit has to say so."""
    with running_fleet(tmp_path / "fleet", WITHOUT_INBOX_AND_GROUPS) as fleet:
        fault_run, effects, wrong = run_faults(fleet, FIRST)
        print("\n".join(fault_run.log))
        print(effects, list(wrong))
        assert {"a cancel is answered once", "the other exit ends with the one that has ended"} <= set(wrong)
