"""The same tape for NautilusTrader and for our engine, order by order: `make differential`.

PAPERPROFIT_TAPE_SEED draws another tape than the first.
"""

import os
import subprocess
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from shared.contracts.prices import Price
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.book import Book, Execution
from shared.exchange.matching.execution import execute
from shared.exchange.order import Order
from shared.storage.migrate import ROOT
from tests.differential.differences import read_tape
from tests.differential.ours import Engine, OurExchange
from tests.differential.outcome import Outcome, read_outcomes
from tests.differential.rules import compare, table
from tests.differential.tape import Event, Submit, make_tape, to_json

SEED = int(os.environ.get("PAPERPROFIT_TAPE_SEED", "1"))
NAUTILUS = ROOT / ".venv-nautilus" / "bin" / "python"
LEAST_ORDERS, LEAST_FILLS = 10_000, 5_000

Outcomes = dict[int, Outcome]


@pytest.fixture(scope="module")
def tape() -> list[Event]:
    return make_tape(SEED)


@pytest.fixture(scope="module")
def theirs(tape: list[Event]) -> Outcomes:
    assert NAUTILUS.exists(), "NautilusTrader has an environment of its own: run make differential"
    script = Path(__file__).with_name("nautilus.py")
    lines = "\n".join(map(to_json, tape))
    done = subprocess.run([NAUTILUS, script], input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return read_outcomes(done.stdout.splitlines())


def test_each_difference_from_nautilus_falls_under_a_rule_of_ours(tape: list[Event], theirs: Outcomes) -> None:
    """None is left over, and each rule has differences."""
    ours = OurExchange().run(tape)
    found = compare(read_tape(tape, ours, theirs))
    print("\n" + _counts(tape, ours, theirs), table(found), sep="\n")
    assert ours.keys() == theirs.keys()
    assert sum(isinstance(event, Submit) for event in tape) >= LEAST_ORDERS
    assert min(_fills(ours), _fills(theirs)) >= LEAST_FILLS
    assert [f"order {each.number}: {each.ours} / {each.theirs}" for each in found.left_over] == []
    assert [name for name, differences in found.known.items() if not differences] == []


def crossed(
    orders: Iterable[Order], prices: dict[str, Price], book: Book, now: datetime, rules: MarketRules
) -> Execution:
    """A buy pays the bid, and a sell gets the ask."""
    return execute(orders, {symbol: _crossed(price) for symbol, price in prices.items()}, book, now, rules)


def _crossed(price: Price) -> Price:
    other = {"bid": price.ask, "ask": price.bid, "bid_size": price.ask_size, "ask_size": price.bid_size}
    return price.model_copy(update=other)


def thrifty(
    orders: Iterable[Order], prices: dict[str, Price], book: Book, now: datetime, rules: MarketRules
) -> Execution:
    """Half of a quote's size is not available."""
    return execute(orders, {symbol: _halved(price) for symbol, price in prices.items()}, book, now, rules)


def _halved(price: Price) -> Price:
    sizes = {name: (getattr(price, name) or Decimal(0)) // 2 for name in ("bid_size", "ask_size")}
    return price.model_copy(update=sizes)


def forgetful(
    orders: Iterable[Order], prices: dict[str, Price], book: Book, now: datetime, rules: MarketRules
) -> Execution:
    """Every fiftieth quote fills nothing."""
    missed = {symbol: price for symbol, price in prices.items() if price.sequence % 50}
    return execute(orders, missed, book, now, rules)


@pytest.mark.parametrize("engine", [crossed, thrifty, forgetful])
def test_a_wrong_engine_leaves_differences_over(tape: list[Event], theirs: Outcomes, engine: Engine) -> None:
    """The rules are not so wide that a defect would pass for one of them."""
    found = compare(read_tape(tape, OurExchange(engine).run(tape), theirs))
    print(f"\n{engine.__name__}: {len(found.left_over)} left over")
    assert len(found.left_over) > 20


def _counts(tape: list[Event], ours: Outcomes, theirs: Outcomes) -> str:
    orders, differ = sum(isinstance(event, Submit) for event in tape), sum(ours[n] != theirs[n] for n in ours)
    return (
        f"seed {SEED}: {orders} orders, with exits {len(ours)}; {_fills(ours)} fills of ours, {_fills(theirs)} of "
        f"theirs; {len(ours) - differ} orders alike to the last fill, {differ} not"
    )


def _fills(outcomes: Outcomes) -> int:
    return sum(len(outcome.fills) for outcome in outcomes.values())
