"""The replay: recorded bars as live quotes, a place that survives a restart, and what follows the last bar."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.marketdata.domain import simulated
from services.marketdata.domain.quote import TICK, Quote, spread_around
from services.marketdata.domain.recorded import RecordedDay
from services.marketdata.domain.replay import Place, Replay, ReplayState
from services.marketdata.providers.registry import UnknownProvider, check_name, simulated_provider
from services.marketdata.providers.replay import ReplayProvider, recording

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
START = ReplayState(seed=1, places={})

ticks = st.integers(min_value=2, max_value=10**8)
spreads = st.decimals(min_value=0, max_value=30_000, places=1)


def bar(symbol: str, day: int, close: str, volume: int = 1_234_567) -> RecordedDay:
    price = Decimal(close)
    return RecordedDay(symbol, date(2012, 5, day), price - 1, price + 1, price - 2, price, Decimal(volume))


BARS = {
    "FB": (bar("FB", 1, "38.2318"), bar("FB", 2, "34.03", volume=7)),
    "IBM": tuple(bar("IBM", day, f"{200 + day}.5") for day in range(1, 8)),
}


def steps(replay: Replay, state: ReplayState, count: int) -> tuple[list[list[Quote]], ReplayState]:
    taken = []
    for _ in range(count):
        quotes, state = replay.next_quotes(state, list(BARS), NOW)
        taken.append(quotes)
    return taken, state


def through_json(state: ReplayState) -> ReplayState:
    return ReplayState.from_json(json.loads(json.dumps(state.as_json())))


def test_every_symbol_starts_at_its_own_first_bar() -> None:
    """FB was listed twelve years after the others began. All five move from the first second."""
    quotes, _ = Replay(recording()).next_quotes(START, list(recording()), NOW)
    assert {quote.symbol: quote.last for quote in quotes} == {
        symbol: bars[0].close for symbol, bars in recording().items()
    }


def test_a_recorded_bar_becomes_a_quote_of_now() -> None:
    """The bar's figures, an assumed bid and ask, a hundredth of the volume as sizes."""
    [quote], _ = Replay(BARS).next_quotes(START, ["FB"], NOW)
    assert quote == Quote(
        symbol="FB",
        bid=Decimal("38.22"),
        ask=Decimal("38.25"),
        bid_size=Decimal(12345),
        ask_size=Decimal(12345),
        last=Decimal("38.2318"),
        open=Decimal("37.2318"),
        high=Decimal("39.2318"),
        low=Decimal("36.2318"),
        close=Decimal("38.2318"),
        volume=Decimal(1_234_567),
        quoted_at=NOW,
        provider="replay",
    )


def test_a_thin_day_still_quotes_a_round_lot() -> None:
    """Seven shares a day would otherwise quote none."""
    state = ReplayState(1, {"FB": Place(1, Decimal("38.2318"))})
    [quote], _ = Replay(BARS).next_quotes(state, ["FB"], NOW)
    assert (quote.bid_size, quote.ask_size) == (Decimal(100), Decimal(100))


@given(ticks, st.integers(min_value=0, max_value=99), spreads)
def test_the_assumed_spread_encloses_the_price(whole: int, part: int, spread: Decimal) -> None:
    """At least a tick and half the spread to each side, on ticks, the bid never below one."""
    last = whole * TICK + Decimal(part) / 10_000
    bid, ask = spread_around(last, spread)
    half = last * spread / 20_000
    assert TICK <= bid <= last - TICK
    assert bid == TICK or bid <= last - half
    assert max(last + TICK, last + half) <= ask
    assert bid % TICK == ask % TICK == 0


def test_a_wider_spread_is_quoted_where_it_is_asked_for() -> None:
    """A hundred basis points of 34.03 are 17.015 cents to each side, rounded outward."""
    state = ReplayState(1, {"FB": Place(1, Decimal("38.2318"))})
    [quote], _ = Replay(BARS, spread_bps=Decimal(100)).next_quotes(state, ["FB"], NOW)
    assert (quote.bid, quote.ask) == (Decimal("33.85"), Decimal("34.21"))


def test_only_the_symbols_asked_for_move() -> None:
    """The others stay where they are. A symbol that was never recorded is left out."""
    quotes, state = Replay(BARS).next_quotes(START, ["IBM", "TSLA"], NOW)
    assert [quote.symbol for quote in quotes] == ["IBM"]
    assert state.places == {"IBM": Place(1, Decimal("201.5"))}


@given(st.integers(min_value=0, max_value=12), st.integers(min_value=0, max_value=2**63))
def test_a_replay_that_is_cut_goes_on_as_if_it_had_not_been(cut: int, seed: int) -> None:
    """The state goes through JSON at any moment, before and after the last bars."""
    start = ReplayState(seed, {})
    whole, end = steps(Replay(BARS), start, 12)
    before, state = steps(Replay(BARS), start, cut)
    after, last = steps(Replay(BARS), through_json(state), 12 - cut)
    assert before + after == whole
    assert last == end


@given(st.integers(min_value=0, max_value=10**6))
def test_after_the_last_bar_the_walk_goes_on_from_its_price(seed: int) -> None:
    """The first simulated quote opens at the last recorded close and stays near it."""
    last = BARS["FB"][-1].close
    state = ReplayState(seed, {"FB": Place(len(BARS["FB"]), last)})
    [quote], after = Replay(BARS).next_quotes(state, ["FB"], NOW)
    assert (quote.open, quote.provider, quote.quoted_at) == (last, "simulated", NOW)
    assert abs(quote.last / last - 1) < Decimal("0.004")
    assert after.places["FB"] == Place(len(BARS["FB"]) + 1, quote.last)


def test_the_walk_after_the_last_bar_is_the_simulated_provider_s() -> None:
    """Its steps are counted on from the bars, so that no two of them draw the same."""
    state = ReplayState(5, {"FB": Place(900, Decimal("34.03"))})
    quotes, _ = Replay(BARS).next_quotes(state, ["FB"], NOW)
    assert quotes == [simulated.next_quote("FB", Decimal("34.03"), 900, 5, NOW)]


def test_the_whole_recording_replays_into_the_walk() -> None:
    """Every quote of every bar and of the walk after it is one that could have been."""
    replay, state = Replay(recording()), START
    for _ in range(3300):
        quotes, state = replay.next_quotes(state, list(recording()), NOW)
        for quote in quotes:
            assert quote.bid is not None
            assert quote.ask is not None
            assert quote.bid < quote.last < quote.ask
            assert quote.low <= min(quote.open, quote.close) <= max(quote.open, quote.close) <= quote.high
    assert {quote.provider for quote in quotes} == {"simulated"}


@pytest.mark.parametrize(("taken", "provider"), [(1, "replay"), (2, "replay"), (3, "simulated")])
def test_a_poll_repeats_the_current_price_with_an_empty_bar(taken: int, provider: str) -> None:
    """Nothing traded since. The time is now, and the place does not move."""
    replay, later = ReplayProvider(BARS, seed=1), NOW + timedelta(seconds=30)
    state = None
    for _ in range(taken):
        [pushed], state = replay.advance(state, ["FB"], NOW)
    [polled], after = replay.poll(state, ["FB"], later)
    assert after == state
    assert {polled.open, polled.high, polled.low, polled.close, polled.last} == {pushed.last}
    assert (polled.bid, polled.ask, polled.volume) == (pushed.bid, pushed.ask, Decimal(0))
    assert (polled.quoted_at, polled.provider, pushed.provider) == (later, provider, provider)


def test_a_poll_before_the_first_bar_gives_its_open() -> None:
    """There is a price before the feed has pushed anything."""
    quotes, state = ReplayProvider(BARS, seed=1).poll(None, ["FB", "IBM"], NOW)
    assert [quote.last for quote in quotes] == [BARS["FB"][0].open, BARS["IBM"][0].open]
    assert state is None


def test_the_simulated_provider_begins_where_the_recording_ends() -> None:
    """Its first price is made of the last recorded one."""
    simulated = simulated_provider(seed=1)
    quotes, _ = simulated.advance(None, ["IBM"], NOW)
    assert (simulated.name, quotes[0].open) == ("simulated", Decimal("202.91"))


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    """The message says what may be asked for."""
    with pytest.raises(UnknownProvider, match="'bloomberg'; choose replay, simulated"):
        check_name("bloomberg")
