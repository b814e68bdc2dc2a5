"""The replay of a file: all symbols at their common times, and its control."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.marketdata.domain.bar import Bar
from services.marketdata.providers.provider import Listed
from services.marketdata.providers.recorded_history import RecordedHistory
from services.marketdata.providers.replay import ReplayProvider, TapeProvider, bars_of_file, recording_between
from services.marketdata.providers.stateful import ProviderState
from services.marketdata.settings import Settings
from shared.bar_files import WrongFile
from shared.contracts.instruments import AssetClass
from shared.contracts.replay import ReplayAction, ReplayControl
from shared.settings import InvalidSettings, load

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
BEGIN = datetime(2026, 3, 9, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SYMBOLS = ["EUR/USD", "SPY"]
HEADER = "symbol,interval,start,open,high,low,close,volume\n"


def bar(symbol: str, minute: int, close: str, volume: int = 50_000) -> Bar:
    price = Decimal(close)
    return Bar(symbol, "1m", BEGIN + minute * MINUTE, price, price + 1, price, price, Decimal(volume), "file")


#: SPY has a bar in each of three minutes, EUR/USD in the first and the last.
BARS = [
    bar("SPY", 0, "500.25"), bar("SPY", 1, "501"), bar("SPY", 2, "502"),
    bar("EUR/USD", 2, "1.08325"), bar("EUR/USD", 0, "1.08312"),
]  # fmt: skip


def provider() -> TapeProvider:
    return TapeProvider("day.csv", BARS)


def played(
    state: ProviderState | None, steps: int, symbols: list[str] = SYMBOLS
) -> tuple[list[dict[str, Decimal]], ProviderState | None]:
    """The closes of so many steps, with the state through JSON after each."""
    taken = []
    for _ in range(steps):
        quotes, state = provider().advance(state, symbols, NOW)
        state = json.loads(json.dumps(state))
        taken.append({quote.symbol: quote.close for quote in quotes})
    return taken, state


def change(state: ProviderState | None, action: str, **given: Any) -> ProviderState:
    return provider().control(state, ReplayControl(action=ReplayAction(action), **given))


def test_symbols_move_together_through_the_times_of_the_file() -> None:
    """After the last bar nothing comes."""
    steps, state = played(None, 4)
    assert steps == [
        {"SPY": Decimal("500.25"), "EUR/USD": Decimal("1.08312")},
        {"SPY": 501},
        {"SPY": 502, "EUR/USD": Decimal("1.08325")},
        {},
    ]
    assert state is not None
    assert (state["at"], state["first"], state["last"]) == (
        "2026-03-09T14:32:00+00:00", "2026-03-09T14:30:00+00:00", "2026-03-09T14:32:00+00:00",
    )  # fmt: skip


def test_times_without_a_wanted_symbol_are_passed_over() -> None:
    """A step without a price would not be stored, and the replay would stand still."""
    assert played(None, 2, ["EUR/USD"])[0] == [{"EUR/USD": Decimal("1.08312")}, {"EUR/USD": Decimal("1.08325")}]


def test_a_quote_has_its_bar_the_present_time_and_ticks_as_fine_as_its_price() -> None:
    """A cent would be a hundred times the spread of a pair of currencies."""
    quotes, _ = provider().advance(None, SYMBOLS, NOW)
    pair, spy = sorted(quotes, key=lambda quote: quote.symbol)
    assert (spy.open, spy.high, spy.volume, spy.quoted_at) == (Decimal("500.25"), Decimal("501.25"), 50_000, NOW)
    assert (spy.bid, spy.ask, spy.bid_size) == (Decimal("500.19"), Decimal("500.31"), 500)
    assert (pair.bid, pair.ask) == (Decimal("1.08301"), Decimal("1.08323"))


def test_a_poll_repeats_the_newest_price_of_each_symbol_without_volume() -> None:
    """Before its first bar a symbol has none."""
    assert provider().poll(None, SYMBOLS, NOW) == ([], None)
    _, state = played(None, 2)
    quotes, after = provider().poll(state, SYMBOLS, NOW)
    assert {quote.symbol: (quote.close, quote.high, quote.volume) for quote in quotes} == {
        "SPY": (501, 501, 0),
        "EUR/USD": (Decimal("1.08312"), Decimal("1.08312"), 0),
    }
    assert after == state


def test_a_pause_a_seek_and_a_speed_are_in_the_state() -> None:
    """A seek keeps a pause, and the next bar is the first that starts then or later."""
    _, state = played(None, 3)
    state = change(state, "pause")
    assert played(state, 1) == ([{}], state)
    state = change(state, "seek", at=BEGIN + MINUTE)
    state = change(state, "speed", speed=Decimal("2.5"))
    assert (state["paused"], state["speed"], state["at"]) == (True, "2.5", "2026-03-09T14:30:00+00:00")
    steps, state_after = played(change(state, "resume"), 1)
    assert steps == [{"SPY": 501}]
    assert state_after is not None
    assert (state_after["paused"], state_after["speed"]) == (False, "2.5")
    assert played(change(None, "seek", at=BEGIN - MINUTE), 1)[0][0]["SPY"] == Decimal("500.25")


def test_another_file_begins_at_its_first_bar() -> None:
    """A place in the file before it, or in the recorded prices, means nothing in it."""
    for state in ({"file": "other.csv", "at": "2030-01-01T00:00:00+00:00"}, {"seed": 1, "places": {}, "at": None}):
        assert played(state, 1)[0][0]["SPY"] == Decimal("500.25")
    recorded = ReplayProvider(recording_between(None, None), seed=1)
    assert recorded.advance(played(None, 1)[1], ["IBM"], NOW)[0] == recorded.advance(None, ["IBM"], NOW)[0]


def test_the_recorded_prices_are_moved_by_day_and_chosen_by_days() -> None:
    """The next bar of each symbol is its first on that day or later, and a range leaves out the others."""
    recorded = ReplayProvider(recording_between(None, None), seed=1)
    state = recorded.control(None, ReplayControl(action=ReplayAction.SEEK, at=datetime(2008, 9, 15, tzinfo=UTC)))
    assert state["at"] == "2008-09-12T00:00:00+00:00"
    quotes, after = recorded.advance(state, ["IBM", "FB"], NOW)
    assert after is not None
    assert after["at"] == "2008-09-15T00:00:00+00:00"
    chosen = ReplayProvider(recording_between(date(2008, 9, 15), date(2008, 9, 16)), seed=1)
    [first], _ = chosen.advance(None, ["IBM", "FB"], NOW)
    assert first.close == next(quote.close for quote in quotes if quote.symbol == "IBM")
    with pytest.raises(WrongFile, match="there are no recorded prices in that time"):
        recording_between(date(2020, 1, 1), None)


def test_a_file_is_read_for_the_chosen_days(tmp_path: Path) -> None:
    """The days are those of the bars' starts in UTC."""
    file = tmp_path / "days.csv"
    file.write_text(HEADER + "".join(f"SPY,1d,2026-03-{day:02},1,1,1,1,1\n" for day in (9, 10, 11)))
    found = bars_of_file(file, date(2026, 3, 10), date(2026, 3, 10), NOW)
    assert [each.start for each in found] == [datetime(2026, 3, 10, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("SPY,1m,2026-03-09T14:30:00Z,1,1,2,1,1\n", "bars.csv, line 2, low: is above the open or the close"),
        ("", "bars.csv: has no bars in that time"),
        (
            "SPY,1m,2026-03-09T14:30:00Z,1,1,1,1,1\nSPY,1d,2026-03-09,1,1,1,1,1\n",
            "bars.csv: has bars of 1d, 1m: a replay needs a file of one interval",
        ),
    ],
)
def test_a_file_that_cannot_be_replayed_says_why(tmp_path: Path, lines: str, message: str) -> None:
    """With its line."""
    file = tmp_path / "bars.csv"
    file.write_text(HEADER + lines)
    with pytest.raises(WrongFile) as refused:
        bars_of_file(file, None, None, NOW)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"REPLAY_FILE": "no-such-file.csv"}, "PAPERPROFIT_REPLAY_FILE: is not a file"),
        ({"REPLAY_FROM": "soon"}, "PAPERPROFIT_REPLAY_FROM: "),
        ({"REPLAY_FROM": "2026-03-10", "REPLAY_TO": "2026-03-09"}, "PAPERPROFIT_REPLAY_TO: must not be before"),
    ],
)
def test_a_wrong_setting_of_the_replay_is_named(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    """An empty one is none."""
    for name in ("REPLAY_FILE", "REPLAY_FROM", "REPLAY_TO"):
        monkeypatch.setenv(f"PAPERPROFIT_{name}", "")
    assert load(Settings).replay_file is None
    for name, text in given.items():
        monkeypatch.setenv(f"PAPERPROFIT_{name}", text)
    with pytest.raises(InvalidSettings, match=message):
        load(Settings)


def test_the_recorded_prices_are_a_history_as_it_was_traded() -> None:
    """With the splits that the replay splices: AAPL halved its price on 2005-02-28."""
    apple = Listed("AAPL", "DEMO", AssetClass.US_EQUITY, "USD")
    begin, end = datetime(2005, 2, 25, tzinfo=UTC), datetime(2005, 3, 1, tzinfo=UTC)
    [page] = RecordedHistory().bars(apple, "1d", begin, end)
    assert [(bar.start.day, bar.close) for bar in page] == [(25, Decimal("88.99")), (28, Decimal("44.86"))]
    [split] = RecordedHistory().actions(apple, begin.date(), end.date())
    assert (split.ex_date, split.new_shares, split.old_shares) == (date(2005, 2, 28), 2, 1)
