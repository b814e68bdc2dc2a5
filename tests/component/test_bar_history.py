"""The history of bars on a real PostgreSQL: stored in bulk, backfilled, rolled up and adjusted where they are read."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from services.marketdata.domain.bar import Bar
from services.marketdata.jobs import jobs
from services.marketdata.persistence import bars, coverage
from services.marketdata.persistence.coverage import Gap
from services.marketdata.persistence.partitions import ensure_partitions_between
from services.marketdata.providers.provider import Listed, Part, Provider, ProviderDown, Traits
from services.marketdata.usecases.backfill import backfill
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.jobs.engine.failures import Permanent
from shared.jobs.run_context import RunContext
from tests.component.watching import marketdata_at
from tests.conftest import FakeClock
from tests.support import rows, value

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
#: A Monday. New York is open from 13:30 to 20:00 UTC.
DAY = datetime(2026, 3, 9, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
APPLE = Listed("AAPL", "DEMO", AssetClass.US_EQUITY, "USD")


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with marketdata_at(NOW, urls, clock) as context:
        yield context


def bar(start: datetime, close: str | int = "100", *, interval: str = "1m", **changes: Any) -> Bar:
    price = Decimal(close)
    figures = {"open": price, "high": price, "low": price, "close": price, "volume": Decimal(10)}
    return Bar(**{"symbol": "AAPL", "interval": interval, "start": start, "provider": "test", **figures, **changes})


def minutes(begin: datetime, number: int) -> list[Bar]:
    return [bar(begin + n * MINUTE, 100 + n) for n in range(number)]


def store(context: ServiceContext, *given: Bar) -> int:
    with context.engine.begin() as connection:
        ensure_partitions_between(connection, min(b.start for b in given), max(b.start for b in given), NOW)
        return bars.store_bars(connection, given)


def stored(context: ServiceContext, interval: str = "1m") -> list[tuple[Any, ...]]:
    """(start, open, high, low, close, volume, origin) by time."""
    statement = """SELECT start_at, open, high, low, close, volume, origin FROM marketdata.bars_v1
                   WHERE symbol = 'AAPL' AND interval = :interval ORDER BY start_at"""
    return [tuple(row) for row in rows(context.engine, statement, interval=interval)]


def test_a_whole_bar_replaces_a_polled_one_and_later_trades_do_not_change_it(marketdata: ServiceContext) -> None:
    """Of two answers the later one counts, and the same answer again writes nothing."""
    live = """INSERT INTO marketdata.market_data VALUES ('AAPL', '1m', :at, 9, 12, 8, 11, 5, 'poll')"""
    with marketdata.engine.begin() as connection:
        connection.exec_driver_sql(live.replace(":at", "%s"), (DAY,))
    assert store(marketdata, bar(DAY, 20), bar(DAY + MINUTE, 30), bar(DAY, 21)) == 2
    assert store(marketdata, bar(DAY, 21)) == 0
    assert store(marketdata, bar(DAY, 22)) == 1
    assert [(row[4], row[6]) for row in stored(marketdata)] == [(22, "complete"), (30, "complete")]


def test_partitions_are_made_for_the_time_that_is_written(marketdata: ServiceContext) -> None:
    """A month each, and a year each long ago. Nothing is left in the default partition."""
    store(marketdata, *(bar(datetime(year, month, 2, tzinfo=UTC), interval="1d") for year, month in TIMES))
    partitions = "SELECT tableoid::regclass::text AS name, count(*) FROM marketdata.market_data GROUP BY 1 ORDER BY 1"
    assert [row.name.removeprefix("marketdata.market_data_") for row in rows(marketdata.engine, partitions)] == [
        "2004", "2005", "2024_02", "2026_03",
    ]  # fmt: skip
    assert store(marketdata, bar(datetime(2005, 7, 1, tzinfo=UTC), interval="1d")) == 1


TIMES = [(2004, 12), (2005, 1), (2005, 2), (2024, 2), (2026, 3)]


def test_minutes_are_rolled_up_and_late_ones_again(marketdata: ServiceContext) -> None:
    """First and last by time, however they came. A provider's own longer bar stays."""
    begin = DAY + 14 * HOUR
    late, *others = minutes(begin, 70)
    store(marketdata, *reversed(others), bar(begin + 15 * MINUTE, 7, interval="15m"))
    _roll_up(marketdata, begin + 20 * MINUTE, begin + 21 * MINUTE)
    assert stored(marketdata, "1h") == [(begin, 101, 159, 101, 159, 590, "rolled_up")]
    store(marketdata, late)
    _roll_up(marketdata, begin, begin + 2 * HOUR)
    assert stored(marketdata, "1h") == [
        (begin, 100, 159, 100, 159, 600, "rolled_up"),
        (begin + HOUR, 160, 169, 160, 169, 100, "rolled_up"),
    ]
    assert [row[4] for row in stored(marketdata, "5m")] == [104 + 5 * n for n in range(14)]
    assert [(row[4], row[6]) for row in stored(marketdata, "15m")][:2] == [(114, "rolled_up"), (7, "complete")]
    assert stored(marketdata, "1d") == [(DAY, 100, 169, 100, 169, 700, "rolled_up")]


def test_a_day_is_made_of_regular_trading_of_its_market(marketdata: ServiceContext) -> None:
    """Minutes before the open and after the close are in no day."""
    with marketdata.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS' WHERE symbol = 'AAPL'")
        for kind, begin, end in (("pre", 8, 13.5), ("regular", 13.5, 20), ("post", 20, 24)):
            connection.exec_driver_sql(
                "INSERT INTO marketdata.market_sessions VALUES ('XNYS', %s, %s, %s, %s)",
                (DAY + begin * HOUR, DAY + end * HOUR, kind, DAY.date()),
            )
    times = [13 * HOUR + 29 * MINUTE, 13 * HOUR + 30 * MINUTE, 19 * HOUR + 59 * MINUTE, 20 * HOUR]
    store(marketdata, *(bar(DAY + at, 10 + number) for number, at in enumerate(times)))
    _roll_up(marketdata, DAY + 15 * HOUR, DAY + 16 * HOUR)
    assert stored(marketdata, "1d") == [(DAY, 11, 12, 11, 12, 20, "rolled_up")]


def test_an_hour_that_starts_at_the_half_hour_takes_the_place_of_ours(marketdata: ServiceContext) -> None:
    """Two bars of one time would count its volume twice."""
    begin = DAY + 14 * HOUR
    store(marketdata, *minutes(begin, 180))
    _roll_up(marketdata, begin, begin + 3 * HOUR)
    store(marketdata, bar(begin + 30 * MINUTE, 5, interval="1h"))
    for _ in range(2):
        starts = [(row[0] - begin, row[6]) for row in stored(marketdata, "1h")]
        assert starts == [(30 * MINUTE, "complete"), (2 * HOUR, "rolled_up")]
        _roll_up(marketdata, begin, begin + 3 * HOUR)


def _roll_up(context: ServiceContext, begin: datetime, end: datetime) -> None:
    with context.engine.begin() as connection:
        bars.roll_up(connection, ["AAPL"], begin, end)


class Source(Provider):
    """Has one bar for each hour, in pages of ten. It fails after so many pages."""

    traits: ClassVar[Traits] = Traits(
        name="source",
        parts=frozenset({Part.BARS}),
        asset_classes=frozenset(AssetClass),
        intervals=("1h", "1m"),
    )

    def __init__(self, *, fails_after: int = 1000, step: timedelta = HOUR, interval: str = "1h") -> None:
        self.asked: list[tuple[datetime, datetime]] = []
        self._left, self._step, self._interval = fails_after, step, interval

    def bars(self, instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[list[Bar]]:
        self.asked.append((begin, end))
        page: list[Bar] = []
        while begin < end:
            page.append(bar(begin, symbol=instrument.symbol, interval=interval, provider="source"))
            begin += self._step
            if len(page) == 10:
                yield self._paged(page)
                page = []
        yield page

    def _paged(self, page: list[Bar]) -> list[Bar]:
        self._left -= 1
        if self._left < 0:
            raise ProviderDown("source: no answer")
        return page


def fill(context: ServiceContext, source: Source, begin: datetime, end: datetime, interval: str = "1h") -> Any:
    told: list[tuple[int, int]] = []
    counts = backfill(context, source, APPLE, interval, Gap(begin, end), lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    return counts


def test_a_backfill_asks_only_for_what_is_missing(marketdata: ServiceContext) -> None:
    """The same time again asks for nothing, a longer one for its ends, and another provider has its own coverage."""
    source = Source()
    assert fill(marketdata, source, DAY, DAY + 40 * HOUR)["bars_written"] == 40
    assert fill(marketdata, source, DAY, DAY + 40 * HOUR) == {
        "gaps": 0, "bars_received": 0, "bars_written": 0, "bars_refused": 0,
    }  # fmt: skip
    fill(marketdata, source, DAY - HOUR, DAY + 41 * HOUR)
    assert source.asked == [(DAY, DAY + 40 * HOUR), (DAY - HOUR, DAY), (DAY + 40 * HOUR, DAY + 41 * HOUR)]
    covered = rows(marketdata.engine, "SELECT * FROM marketdata.bar_coverage_v1")
    assert [tuple(row) for row in covered] == [("AAPL", "1h", "source", DAY - HOUR, DAY + 41 * HOUR)]


def test_a_backfill_that_ended_early_goes_on_where_it_was(marketdata: ServiceContext) -> None:
    """Its pages stay, and with each the time that it covers."""
    source = Source(fails_after=3)
    with pytest.raises(ProviderDown):
        fill(marketdata, source, DAY, DAY + 40 * HOUR)
    assert len(stored(marketdata, "1h")) == 30
    source = Source()
    assert fill(marketdata, source, DAY, DAY + 40 * HOUR)["bars_written"] == 10
    assert source.asked == [(DAY + 30 * HOUR, DAY + 40 * HOUR)]


def test_bars_of_now_are_asked_for_again(marketdata: ServiceContext) -> None:
    """The bar that has not ended is refused, and the last hour is not covered: a delayed provider may add to it."""
    counts = fill(marketdata, Source(), NOW - 3 * HOUR - 30 * MINUTE, NOW)
    assert (counts["bars_written"], counts["bars_refused"]) == (3, 1)
    with marketdata.engine.begin() as connection:
        missing = coverage.gaps(connection, "AAPL", "1h", "source", Gap(NOW - 3 * HOUR, NOW))
    assert missing == [Gap(NOW - HOUR, NOW)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"open": Decimal(0)},
        {"low": Decimal(101)},
        {"high": Decimal("NaN")},
        {"volume": Decimal(-1)},
        {"close": Decimal("100.0000000001")},
    ],
)
def test_a_wrong_bar_of_a_provider_is_left_out_and_the_rest_kept(
    marketdata: ServiceContext, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, and logged with the symbol and the field."""
    page = [bar(DAY, interval="1h", **wrong), bar(DAY + HOUR, interval="1h"), bar(DAY, interval="1h", symbol="IBM")]
    monkeypatch.setattr(Source, "bars", lambda *_: iter([page]))
    counts = fill(marketdata, Source(), DAY, DAY + 2 * HOUR)
    assert (counts["bars_written"], counts["bars_refused"]) == (1, 2)
    assert [row[0] for row in stored(marketdata, "1h")] == [DAY + HOUR]


def test_backfilled_minutes_are_rolled_up_with_them(marketdata: ServiceContext) -> None:
    """In the transaction of their page."""
    fill(marketdata, Source(step=MINUTE, interval="1m"), DAY, DAY + HOUR, "1m")
    assert [row[5] for row in stored(marketdata, "1h")] == [600]
    assert [row[6] for row in stored(marketdata, "1m")] == ["complete"] * 60


def act(context: ServiceContext, kind: str, at: datetime, *, new: int | None = None, amount: str | None = None) -> None:
    """Store an action that has taken effect."""
    given = (uuid4(), kind, new, new, new and 1, amount, at, at, at)
    with context.engine.begin() as connection:
        connection.exec_driver_sql(
            """INSERT INTO marketdata.corporate_actions
               (id, symbol, kind, ratio, new_shares, old_shares, amount, effective_at, entered_at, applied_at)
               VALUES (%s, 'AAPL', %s, %s, %s, %s, %s, %s, %s, %s)""",
            given,
        )


def closes(context: ServiceContext, adjustment: str, interval: str = "1d") -> list[Any]:
    """The closes of all bars, the oldest first."""
    statement = """SELECT close FROM marketdata.adjusted_bars_v1('AAPL', :interval, '1970-01-01', '2100-01-01',
                   :adjustment, 100) ORDER BY start_at"""
    return [row.close for row in rows(context.engine, statement, interval=interval, adjustment=adjustment)]


def test_bars_are_adjusted_for_splits_and_dividends_where_they_are_read(marketdata: ServiceContext) -> None:
    """A split of 2 for 1 on the third day, and a dividend of 1 on the fourth, before which a share closed at 50."""
    daily = [bar(DAY + n * timedelta(days=1), close, interval="1d") for n, close in enumerate((100, 100, 50, 49))]
    store(marketdata, *daily)
    act(marketdata, "split", DAY + timedelta(days=2, hours=9), new=2)
    act(marketdata, "dividend", DAY + timedelta(days=3, hours=9), amount="1")
    assert closes(marketdata, "raw") == [100, 100, 50, 49]
    assert closes(marketdata, "split") == [50, 50, 50, 49]
    assert closes(marketdata, "dividend") == [98, 98, 49, 49]
    assert closes(marketdata, "all") == [49, 49, 49, 49]
    volumes = "SELECT volume FROM marketdata.adjusted_bars_v1('AAPL', '1d', '1970-01-01', '2100-01-01', 'all', 100)"
    assert [row.volume for row in rows(marketdata.engine, volumes)] == [10, 10, 20, 20]


def test_minutes_are_adjusted_from_the_moment_of_the_action(marketdata: ServiceContext) -> None:
    """There the close before the ex-date is that of the last bar, and a split between the two counts for it."""
    at = DAY + 14 * HOUR
    store(marketdata, *(bar(at + n * MINUTE, close) for n, close in enumerate((200, 200, 99))))
    act(marketdata, "split", at + 2 * MINUTE, new=2)
    act(marketdata, "dividend", at + 2 * MINUTE + timedelta(seconds=1), amount="1")
    assert closes(marketdata, "split", "1m") == [100, 100, 99]
    assert closes(marketdata, "all", "1m") == [99, 99, Decimal("98.01")]


def test_a_dividend_without_a_price_before_it_changes_nothing(marketdata: ServiceContext) -> None:
    """Without one there is no factor."""
    store(marketdata, bar(DAY, 10, interval="1d"))
    act(marketdata, "dividend", DAY + timedelta(days=100), amount="1")
    act(marketdata, "dividend", DAY, amount="1")
    assert closes(marketdata, "all") == [10]


def test_a_thinned_month_takes_bars_of_a_backfill(marketdata: ServiceContext) -> None:
    """Its table has another name."""
    with marketdata.engine.begin() as connection:
        ensure_partitions_between(connection, DAY, DAY, NOW)
        connection.exec_driver_sql("ALTER TABLE marketdata.market_data_2026_03 RENAME TO market_data_2026_03_kept")
    store(marketdata, bar(DAY))
    assert value(marketdata.engine, "SELECT count(*) FROM marketdata.market_data_2026_03_kept") == 1


def run_of(context: ServiceContext, **parameters: Any) -> RunContext:
    return RunContext(uuid4(), context, context.clock(), parameters)


def test_the_job_rolls_up_what_came_since_and_late_minutes_on_the_next_day(
    marketdata: ServiceContext, clock: FakeClock
) -> None:
    """A minute that came more than two hours late waits for the first run of the next day."""
    job = jobs.declared["roll_up_bars"]
    store(marketdata, bar(NOW - HOUR, 1))
    assert job.run(run_of(marketdata)) == {"bars_written": 4}
    assert job.run(run_of(marketdata)) == {"bars_written": 0}
    store(marketdata, bar(NOW - 5 * HOUR, 2))
    clock.now = NOW + HOUR
    assert job.run(run_of(marketdata)) == {"bars_written": 1}  # the day is made of all its minutes
    clock.now = NOW + 13 * HOUR
    assert job.run(run_of(marketdata)) == {"bars_written": 3}
    assert [row[4] for row in stored(marketdata, "1h")] == [2, 1]
    assert job.run(run_of(marketdata, symbols=("AAPL",), begin=DAY, end=NOW)) == {"bars_written": 0}


def backfill_run(context: ServiceContext, **changes: Any) -> RunContext:
    begin = datetime(2005, 1, 1, tzinfo=UTC)
    given = {"symbols": ("IBM",), "interval": "1d", "begin": begin, "end": NOW, "provider": "replay"}
    return run_of(context, **{**given, **changes})


def test_the_job_backfills_each_symbol_in_a_part(marketdata: ServiceContext) -> None:
    """From the recorded prices, which end in 2013."""
    job = jobs.declared["backfill_bars"]
    assert job.parts is not None
    assert job.parts(backfill_run(marketdata, symbols=("IBM", "MSFT", "IBM"))) == [
        {"symbols": ["IBM"]}, {"symbols": ["MSFT"]},
    ]  # fmt: skip
    run = backfill_run(marketdata)
    assert job.run(run)["bars_written"] == 2054
    assert run.signals.done == run.signals.total


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": ("NOPE",)}, "symbols: unknown instrument NOPE"),
        ({"provider": "bloomberg"}, "provider: bloomberg has no bars; choose of: replay"),
        ({"interval": "1m", "begin": DAY}, "interval: replay has no bars of 1m, but of 1d"),
        ({"end": NOW + HOUR}, "from, to: must lie in the past and in this order"),
    ],
)
def test_a_run_of_the_job_that_cannot_succeed_fails_for_good(
    marketdata: ServiceContext, changes: dict[str, Any], message: str
) -> None:
    """With a sentence that says why. It was started by hand, since the API checks it before."""
    with pytest.raises(Permanent) as refused:
        jobs.declared["backfill_bars"].run(backfill_run(marketdata, **changes))
    assert str(refused.value) == message


def test_times_whose_bars_are_removed_leave_the_coverage(marketdata: ServiceContext, clock: FakeClock) -> None:
    """They can be backfilled again once bars are kept for longer. Daily bars stay."""
    old = Gap(DAY - timedelta(days=60), DAY)
    with marketdata.engine.begin() as connection:
        for interval in ("1h", "1d"):
            coverage.cover(connection, "AAPL", interval, "source", old, NOW)
    clock.now = NOW + timedelta(days=700)
    jobs.declared["maintain_market_data"].run(run_of(marketdata))
    kept = rows(marketdata.engine, "SELECT interval, begin_at FROM marketdata.bar_coverage_v1 ORDER BY interval")
    assert [tuple(row) for row in kept] == [("1d", old.begin), ("1h", datetime(2026, 2, 1, tzinfo=UTC))]
