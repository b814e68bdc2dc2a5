"""The tape of the differential test and its rules, without NautilusTrader."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.differential.differences import Difference, differences, read_tape
from tests.differential.ours import OurExchange
from tests.differential.outcome import Filled, Outcome
from tests.differential.rules import rule_of
from tests.differential.tape import Event, Quote, Submit, make_tape, to_json

OPENED = datetime(2008, 3, 3, 14, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def tape() -> list[Event]:
    return make_tape(seed=7, days=5)


def test_a_seed_draws_one_tape(tape: list[Event]) -> None:
    """To the last line; another seed draws another."""
    lines = [to_json(event) for event in tape]
    assert lines == [to_json(event) for event in make_tape(seed=7, days=5)]
    assert lines != [to_json(event) for event in make_tape(seed=8, days=5)]


def test_a_tape_is_in_order(tape: list[Event]) -> None:
    """Each quote has a time of its own; an order comes after a quote of its symbol and before its session ends."""
    quotes = [event for event in tape if isinstance(event, Quote)]
    assert [event.at for event in tape] == sorted(event.at for event in tape)
    assert [quote.number for quote in quotes] == list(range(1, len(quotes) + 1))
    assert len({quote.at for quote in quotes}) == len(quotes)
    known: set[str] = set()
    for event in tape:
        if isinstance(event, Quote):
            assert event.bid <= event.last <= event.ask
            assert event.bid < event.ask
            known.add(event.symbol)
        else:
            assert event.symbol in known
        if isinstance(event, Submit):
            assert any(event.at < quote.at < event.ends_at for quote in quotes if quote.symbol == event.symbol)


def test_our_engine_fills_the_tape_at_the_quotes_and_within_their_sizes(tape: list[Event]) -> None:
    """No buy pays less than the ask, and only one that rests pays more. The same outcomes come again."""
    quotes = {event.number: event for event in tape if isinstance(event, Quote)}
    outcomes = OurExchange().run(tape)
    sides = dict(_sides(tape))
    taken: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    for number, outcome in outcomes.items():
        for fill in outcome.fills:
            quote, side = quotes[fill.quote], sides[number]
            assert fill.price >= quote.ask if side == "buy" else fill.price <= quote.bid
            taken[fill.quote, side] += fill.qty
            assert taken[fill.quote, side] <= (quote.ask_size if side == "buy" else quote.bid_size)
    assert len(taken) > 50
    assert outcomes == OurExchange().run(tape)


def _sides(tape: list[Event]) -> Iterator[tuple[int, str]]:
    """The side of each order. The two exits of an entry are on the other one."""
    for event in tape:
        if isinstance(event, Submit):
            yield event.id, event.side
            other = "sell" if event.side == "buy" else "buy"
            yield from ((event.id + leg, other) for leg in (1, 2) if event.is_bracket)


def _quotes(*asks: str) -> list[Quote]:
    """A minute apart, a cent wide, with a last trade at the bid and 100 shares a side."""
    tick = Decimal("0.01")
    return [
        Quote(number, "IBM", OPENED + timedelta(minutes=number), Decimal(ask) - tick, Decimal(ask), Decimal(ask) - tick,
              100, 100)
        for number, ask in enumerate(asks, start=1)
    ]  # fmt: skip


def _order(**terms: Any) -> Submit:
    """To buy 10, after the first quote."""
    known = {"side": "buy", "type": "limit", "time_in_force": "gtc", "qty": 10, **terms}
    return Submit(1, "IBM", OPENED + timedelta(seconds=90), ends_at=OPENED + timedelta(hours=6), **known)


def _difference(
    quotes: list[Quote], order: Submit, ours: Sequence[tuple[int, str]], theirs: Sequence[tuple[int, str]]
) -> Difference:
    """Of fills of the whole order, as (quote, price)."""
    a, b = ({1: _outcome(fills, order)} for fills in (ours, theirs))
    (found,) = differences(read_tape([*quotes, order], a, b))
    return found


def _outcome(fills: Sequence[tuple[int, str]], order: Submit) -> Outcome:
    found = [Filled(quote, Decimal(order.qty), Decimal(price)) for quote, price in fills]
    return Outcome("filled" if fills else "open", found)


LIMIT = _order(limit=Decimal(100))
STOP = _order(type="stop", stop=Decimal(101))
TRAIL = _order(type="trailing_stop", trail=Decimal(1))


@pytest.mark.parametrize(
    ("order", "asks", "ours", "theirs", "rule"),
    [
        (LIMIT, ("99.5", "101", "99"), [(3, "99")], [(3, "100")], "better-of-limit-and-quote"),
        (LIMIT, ("101", "99"), [(2, "100")], [(2, "99")], "a-limit-that-rests-gets-its-limit"),
        (STOP, ("100", "101", "102"), [(3, "102")], [(2, "101")], "the-last-trade-triggers"),
        (TRAIL, ("99.2", "99.5", "100.3"), [(3, "100.3")], [], "a-trail-follows-last-trades"),
    ],
)  # fmt: skip
def test_a_rule_knows_its_difference(
    order: Submit, asks: Sequence[str], ours: Sequence[tuple[int, str]], theirs: Sequence[tuple[int, str]], rule: str
) -> None:
    """By the tape and both outcomes."""
    found = rule_of(_difference(_quotes(*asks), order, ours, theirs))
    assert found is not None
    assert found.name == rule


@pytest.mark.parametrize(
    ("order", "asks", "ours", "theirs"),
    [
        (LIMIT, ("101", "99"), [(2, "98.99")], [(2, "100")]),
        (LIMIT, ("101", "99"), [(2, "99")], [(2, "100")]),
        (LIMIT, ("99.5", "101", "99"), [(3, "100")], [(3, "99")]),
        (LIMIT, ("101", "99"), [], [(2, "99")]),
        (LIMIT, ("101", "99", "98"), [(3, "98")], [(2, "99")]),
        (STOP, ("100", "101.01", "102"), [(3, "102")], [(2, "101.01")]),
        (STOP, ("100", "100.5"), [(2, "100.5")], []),
        (TRAIL, ("100", "99", "100.5"), [], [(3, "100.5")]),
    ],
)  # fmt: skip
def test_no_rule_knows_a_defect(
    order: Submit, asks: Sequence[str], ours: Sequence[tuple[int, str]], theirs: Sequence[tuple[int, str]]
) -> None:
    """A buy at the bid, a resting limit at the quote or another at its limit, a missed quote, a stop not reached."""
    assert rule_of(_difference(_quotes(*asks), order, ours, theirs)) is None
