"""Nothing is lost and nothing doubled, whatever breaks: `make chaos`.

PAPERPROFIT_CHAOS_SEEDS is the number of fault runs (20), PAPERPROFIT_CHAOS_FIRST_SEED the seed of the first (1). The
seed decides the faults and their order. The machine decides how they fall among the messages.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.contracts.orders import OrderClass, OrderType, TimeInForce
from tests.chaos.fault_run import run_faults
from tests.chaos.fleet import Fleet, running_fleet

FIRST = int(os.environ.get("PAPERPROFIT_CHAOS_FIRST_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("PAPERPROFIT_CHAOS_SEEDS", "20")))

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
