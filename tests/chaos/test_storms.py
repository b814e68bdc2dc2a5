"""Nothing is lost and nothing doubled, whatever breaks: `make chaos`.

PAPERPROFIT_CHAOS_SEEDS is the number of storms (20), PAPERPROFIT_CHAOS_FIRST_SEED the seed of the first (1). A storm
runs from its seed; how its faults fall among the messages is up to the machine.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.contracts.orders import OrderClass, OrderType, TimeInForce
from tests.chaos.fleet import Fleet, running_fleet
from tests.chaos.storm import weather

FIRST = int(os.environ.get("PAPERPROFIT_CHAOS_FIRST_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("PAPERPROFIT_CHAOS_SEEDS", "20")))

#: Of each of them something fills in every storm.
KINDS = {*OrderType, *OrderClass, *TimeInForce, "take_profit", "stop_loss"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_loses_and_doubles_nothing(fleet: Fleet, seed: int) -> None:
    storm, toll, wrong = weather(fleet, seed)
    print("\n".join(storm.log))
    print(toll)
    assert wrong == {}
    assert toll.redeliveries, "nothing was delivered again: this seed does not count"
    assert toll.duplicates, "nothing came twice: this seed does not count"
    assert toll.reconnects, "no connection was lost: this seed does not count"
    assert set(toll.traded) >= KINDS, "not all of it was traded: this seed does not count"


#: Whatever comes is taken for new, and an exit goes on when the other has filled.
WITHOUT_INBOX_AND_FAMILIES = """
from services.orders.domain import settlement
from shared.bus import inbox

inbox.check_new, after_fill = lambda *_: None, settlement.after_fill
settlement.after_fill = lambda before, *rest: after_fill(before, *rest) if before.leg is None else []
"""


@pytest.mark.timeout(600)
def test_without_the_inbox_and_families_a_storm_is_noticed(tmp_path: Path) -> None:
    """The audit is worth something: what comes twice acts twice now, an exit outlives the other, and it is found."""
    with running_fleet(tmp_path / "fleet", WITHOUT_INBOX_AND_FAMILIES) as fleet:
        storm, toll, wrong = weather(fleet, FIRST)
        print("\n".join(storm.log))
        print(toll, list(wrong))
        assert {"who asks once is told once", "the other exit ends with the one that has ended"} <= set(wrong)
