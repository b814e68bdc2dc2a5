"""The simulated walk: repeatable, on ticks, and always a quote that could have been."""

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from statistics import fmean

from hypothesis import given
from hypothesis import strategies as st

from services.marketdata.domain.quote import TICK, Quote
from services.marketdata.domain.simulated import LOWEST, next_quote
from services.marketdata.providers.simulated import START_PRICE, SimulatedProvider

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
prices = st.decimals(min_value="0.01", max_value="1000000", places=4)
PINNED = ["202.91", "202.80", "202.83", "202.82", "202.89", "202.90"]

symbols = st.from_regex(r"[A-Z]{1,5}", fullmatch=True)
steps = st.integers(min_value=0, max_value=10**9)
seeds = st.integers(min_value=0, max_value=2**63)
spreads = st.decimals(min_value=0, max_value=30_000, places=1)


def numbers(quote: Quote) -> list[object]:
    return [getattr(quote, field.name) for field in fields(quote) if "Decimal" in str(field.type)]


@given(symbols, prices, steps, seeds, spreads)
def test_every_quote_could_have_been(symbol: str, last: Decimal, step: int, seed: int, spread: Decimal) -> None:
    """Bid below last below ask, open and close within low and high, whole shares, decimals throughout."""
    quote = next_quote(symbol, last, step, seed, NOW, spread_bps=spread)
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid_size is not None
    assert quote.ask_size is not None
    assert TICK <= quote.bid <= quote.last - TICK
    assert quote.last + TICK <= quote.ask
    assert TICK <= quote.low <= min(quote.open, quote.close)
    assert max(quote.open, quote.close) <= quote.high
    assert (quote.open, quote.close) == (last, quote.last)
    assert min(quote.bid_size, quote.ask_size, quote.volume) >= 100
    assert all(type(number) is Decimal and number.is_finite() for number in numbers(quote))


@given(symbols, prices, steps, seeds)
def test_new_prices_lie_on_ticks(symbol: str, last: Decimal, step: int, seed: int) -> None:
    """Also from a last price between two ticks."""
    quote = next_quote(symbol, last, step, seed, NOW)
    assert all(price is not None and price % TICK == 0 for price in (quote.last, quote.bid, quote.ask))
    assert quote.last >= LOWEST


@given(symbols, prices, steps, seeds)
def test_the_same_step_gives_the_same_quote(symbol: str, last: Decimal, step: int, seed: int) -> None:
    """Seed, symbol, step and last price determine all of it."""
    assert next_quote(symbol, last, step, seed, NOW) == next_quote(symbol, last, step, seed, NOW)


def walk(seed: int, symbol: str, start: Decimal, length: int) -> list[Decimal]:
    prices = [start]
    for step in range(length):
        prices.append(next_quote(symbol, prices[-1], step, seed, NOW).last)
    return prices


def test_the_walk_is_the_same_on_every_machine() -> None:
    """Pinned figures: another Python version or platform must not change anybody's recorded run."""
    assert [str(price) for price in walk(1, "IBM", Decimal("202.91"), 5)] == PINNED


def test_another_seed_and_another_symbol_walk_elsewhere() -> None:
    """Neither is ignored."""
    start = Decimal("202.91")
    walks = [walk(1, "IBM", start, 20), walk(2, "IBM", start, 20), walk(1, "MSFT", start, 20)]
    assert len({tuple(prices) for prices in walks}) == 3


def test_the_walk_has_no_drift_and_plausible_steps() -> None:
    """A step is about ten basis points, up as often as down."""
    prices = walk(1, "IBM", Decimal(200), 4000)
    moves = [float(after / before - 1) * 10_000 for before, after in pairwise(prices)]
    assert abs(fmean(moves)) < 0.5
    assert 9 < fmean(move * move for move in moves) ** 0.5 < 11


def test_a_penny_stock_still_moves() -> None:
    """Ten basis points of five cents are far below a tick, yet now and then it moves by one."""
    assert len(set(walk(1, "PENY", Decimal("0.05"), 5000))) > 1


def test_polls_walk_on_from_the_stored_state() -> None:
    """Two providers that hand over the state in between walk as one."""
    start = {"IBM": Decimal("202.91")}
    _, state = SimulatedProvider(seed=1, start_prices=start).poll(None, ["IBM"], NOW)
    quotes, _ = SimulatedProvider(seed=1, start_prices=start).advance(state, ["IBM"], NOW)
    assert [quote.last for quote in quotes] == walk(1, "IBM", Decimal("202.91"), 2)[2:]


def test_a_poll_leaves_the_given_state_alone() -> None:
    """The caller compares the state before with the one after."""
    provider = SimulatedProvider(seed=1, start_prices={})
    _, first = provider.poll(None, ["IBM"], NOW)
    _, second = provider.poll(first, ["IBM"], NOW)
    assert first is not None
    assert first["IBM"]["step"] == 1
    assert second != first


def test_a_symbol_without_a_start_price_begins_at_the_usual_one() -> None:
    """Any instrument can be simulated."""
    quotes, _ = SimulatedProvider(seed=1, start_prices={}).poll(None, ["NEW"], NOW)
    assert [quote.open for quote in quotes] == [START_PRICE]
