"""The same tape for a reference of the stated rules and for our engine, order by order, without any tolerance.

PAPERPROFIT_TAPE_SEED draws another tape than the first.
"""

import os

import pytest

from tests.differential.comparison import parted
from tests.differential.events import Submit
from tests.differential.wide_tape import make_wide_tape

SEED = int(os.environ.get("PAPERPROFIT_TAPE_SEED", "1"))
#: Many short tapes: a difference early on does not hide one that comes later.
TAPES, DAYS, LEAST_ORDERS = 20, 12, 15_000


@pytest.mark.timeout(900)
def test_every_order_fills_and_ends_as_the_rules_say() -> None:
    """The quantity, price, update and time of each fill, and the last status."""
    orders = 0
    for seed in range(SEED * 1000, SEED * 1000 + TAPES):
        tape = make_wide_tape(seed, DAYS)
        orders += sum(isinstance(event, Submit) for event in tape)
        assert parted(tape, DAYS) == [], f"seed {seed}"
    print(f"\n{orders} orders on {TAPES} tapes alike to the last fill")
    assert orders >= LEAST_ORDERS
