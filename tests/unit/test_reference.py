"""Every order has the fills and the end that the stated rules give it, and defects of an engine are found."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from shared.contracts.orders import NewOrder
from shared.exchange.acceptance import replace as replacing
from shared.exchange.matching import execution
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.matching.matching import Match
from shared.money import ZERO
from tests.differential.comparison import parted, stated
from tests.differential.events import Event, Replace, Submit, Update
from tests.differential.wide_tape import make_wide_tape

DAYS = 4


@pytest.fixture(scope="module")
def tape() -> list[Event]:
    return make_wide_tape(seed=1, days=DAYS)


@settings(max_examples=12, derandomize=True, phases=[Phase.generate])  # a smaller tape tells no more
@given(st.integers(0, 2**32))
def test_every_order_fills_and_ends_as_the_rules_say(seed: int) -> None:
    """The same quantities at the same prices on the same updates, without any tolerance."""
    assert parted(make_wide_tape(seed, DAYS), DAYS) == []


def _newest_first(patch: pytest.MonkeyPatch) -> None:
    honest = Match.precedence

    def precedence(match: Match, price: Any) -> tuple[Any, ...]:
        stage, eager, accepted_at, *rest = honest(match, price)
        return (stage, eager, -accepted_at.timestamp(), *rest)  # type: ignore[attr-defined]

    patch.setattr(Match, "precedence", precedence)


def _worst_limit_first(patch: pytest.MonkeyPatch) -> None:
    honest = Match.precedence

    def precedence(match: Match, price: Any) -> tuple[Any, ...]:
        stage, eager, *rest = honest(match, price)
        return (stage, -eager, *rest)  # type: ignore[operator]

    patch.setattr(Match, "precedence", precedence)


def _replace_the_whole_quantity(patch: pytest.MonkeyPatch) -> None:
    honest = replacing._new_terms

    def new_terms(old: Any, command: Any) -> Any:
        found = honest(old, command)
        if not isinstance(found, NewOrder):
            return found
        return found.model_copy(update={"qty": command.qty or old.qty})

    patch.setattr(replacing, "_new_terms", new_terms)


def _take_the_same_shares_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Liquidity, "consume", lambda *_: None)


def _forget_the_other_exit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(execution, "after_fill", lambda *_: [])


@pytest.mark.parametrize(
    "defect",
    [
        _newest_first,
        _worst_limit_first,
        _replace_the_whole_quantity,
        _take_the_same_shares_twice,
        _forget_the_other_exit,
    ],
)
def test_a_wrong_engine_differs(
    defect: Callable[[pytest.MonkeyPatch], None], tape: Sequence[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reversed price or time priority, and a replace that trades the filled part again, are found at once."""
    defect(monkeypatch)
    assert parted(tape, DAYS) != []


def test_the_tape_has_every_kind_of_order_and_quote(tape: Sequence[Event]) -> None:
    """Each kind also fills, and orders that have filled partly are replaced."""
    orders = stated(tape, DAYS)
    filled = [order for order in orders.values() if order.fills]
    seen = Counter(word for order in filled for word in (order.type, order.tif, order.role, order.status))
    assert {"market", "limit", "stop", "stop_limit", "trailing_stop"} <= seen.keys()
    assert {"day", "gtc", "ioc", "fok", "opg", "cls", "", "entry", "gain", "loss"} <= seen.keys()
    assert any(order.notional is not None for order in filled)
    assert any(order.qty is not None and order.qty % 1 for order in filled)
    assert any(order.status == "replaced" for order in filled)
    assert {event.order_class for event in tape if isinstance(event, Submit)} == {"simple", "bracket", "oto", "oco"}
    assert any(isinstance(event, Replace) and event.trail is not None for event in tape)
    quotes = Counter(kind for event in tape if isinstance(event, Update) for kind in _kinds(event))
    assert all(quotes[kind] for kind in ("no quote", "one side", "crossed", "locked", "no size", "last outside"))


def _kinds(update: Update) -> list[str]:
    bid, ask = update.bid, update.ask
    found = []
    if (bid is None) != (ask is None):
        found.append("one side")
    if bid is None and ask is None:
        found.append("no quote")
    if ZERO in {update.bid_size, update.ask_size}:
        found.append("no size")
    if bid is not None and ask is not None:
        found += ["crossed"] * (bid > ask) + ["locked"] * (bid == ask)
        found += ["last outside"] * (not min(bid, ask) <= update.last <= max(bid, ask))
    return found
