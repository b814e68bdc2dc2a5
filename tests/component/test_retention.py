"""Retention of old bars on a real PostgreSQL: months free their space, and kept bars are never missing."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.marketdata.jobs import jobs
from services.marketdata.persistence import partitions
from services.marketdata.service import prepare
from services.marketdata.settings import Settings
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.run_context import Counts, RunCanceled, RunContext
from tests.component.watching import context_of, statements
from tests.conftest import FakeClock
from tests.support import rows, value

JANUARY = datetime(2024, 1, 15, tzinfo=UTC)
#: January 2024 ended more than 730 days before it, February has not.
NOW = datetime(2026, 2, 14, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
INTERVALS = ("1m", "1d", "replay")
Bar = tuple[str, str, datetime]


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """The service's context, two years after it made the partitions of January and February 2024."""
    clock.now = JANUARY
    with context_of("marketdata", urls, clock) as context:
        prepare(context)
        clock.now = NOW
        yield context


def add_bars(
    context: ServiceContext, start: datetime, *intervals: str, number: int = 5, provider: str = "test"
) -> set[Bar]:
    """Add bars a minute apart, of two symbols and of each interval."""
    bars = {
        (symbol, interval, start + n * MINUTE)
        for symbol in ("AAPL", "IBM")
        for interval in intervals
        for n in range(number)
    }
    with context.engine.begin() as connection:
        for bar in bars:
            connection.exec_driver_sql(
                "INSERT INTO marketdata.market_data VALUES (%s, %s, %s, 1, 1, 1, 1, 1, %s)", (*bar, provider)
            )
    return bars


def bars(context: ServiceContext) -> set[Bar]:
    return {tuple(row) for row in rows(context.engine, "SELECT symbol, interval, start_at FROM marketdata.bars_v1")}


def kept(bars: set[Bar]) -> set[Bar]:
    return {bar for bar in bars if bar[1] != "1m"}


def months(context: ServiceContext) -> set[str]:
    """List the partitions of 2024."""
    sql = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'market_data_2024%'"
    return {row.relname.removeprefix("market_data_") for row in rows(context.engine, sql)}


def a_run(context: ServiceContext) -> RunContext:
    return RunContext(uuid4(), context, context.clock(), {})


def maintain(context: ServiceContext) -> Counts:
    return jobs.declared["maintain_market_data"].run(a_run(context))


def test_an_old_month_keeps_its_daily_and_replayed_bars(marketdata: ServiceContext) -> None:
    """Other bars are dropped with their table. Younger months do not change, and a second run has nothing to do."""
    old = add_bars(marketdata, JANUARY, *INTERVALS)
    young = add_bars(marketdata, datetime(2024, 2, 1, tzinfo=UTC), *INTERVALS)
    counts = maintain(marketdata)
    assert (counts["months_thinned"], counts["bars_kept"]) == (1, 20)
    for _ in range(2):
        assert bars(marketdata) == kept(old) | young
        assert months(marketdata) == {"2024_01_kept", "2024_02"}
        counts = maintain(marketdata)
        assert (counts["months_thinned"], counts["bars_kept"]) == (0, 0)


def test_a_month_without_bars_to_keep_is_dropped(marketdata: ServiceContext) -> None:
    """A later bar of that month lands in the default partition, and the next run removes it."""
    add_bars(marketdata, JANUARY, "1m")
    assert maintain(marketdata)["bars_kept"] == 0
    assert (bars(marketdata), months(marketdata)) == (set(), {"2024_02"})
    late = add_bars(marketdata, JANUARY, *INTERVALS)
    assert maintain(marketdata)["market_data_other_removed"] == 10
    assert bars(marketdata) == kept(late)


def test_a_kept_month_takes_late_bars_too(marketdata: ServiceContext) -> None:
    """The new table of a kept month is a partition like any other."""
    old = add_bars(marketdata, JANUARY, *INTERVALS)
    maintain(marketdata)
    late = add_bars(marketdata, JANUARY + timedelta(days=1), "1d")
    assert bars(marketdata) == kept(old) | late
    assert value(marketdata.engine, "SELECT count(*) FROM marketdata.market_data_2024_01_kept") == 30


def test_bars_are_copied_in_batches_and_none_is_missing_meanwhile(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is a transaction and reports progress. Readers see all bars until the tables are swapped."""
    monkeypatch.setattr(partitions, "BATCH", 3)
    old = add_bars(marketdata, JANUARY, *INTERVALS)
    (month,) = old_months(marketdata)
    told: list[int] = []

    def progress(done: int) -> None:
        assert bars(marketdata) == old
        told.append(done)

    with statements(marketdata.engine) as seen:
        assert partitions.thin_out(marketdata, month, progress) == 20
    assert told == [3, 6, 9, 12, 15, 18, 20]
    assert len([statement for statement in seen if "INSERT" in statement]) == len(told) + 1
    assert bars(marketdata) == kept(old)


def old_months(context: ServiceContext) -> list[datetime]:
    with context.engine.connect() as connection:
        return partitions.old_months(connection, NOW - timedelta(days=730))


def interrupted(context: ServiceContext) -> None:
    """Start a run that is canceled after its first batch."""
    run = a_run(context)
    run.signals.canceled.set()
    with pytest.raises(RunCanceled):
        jobs.declared["maintain_market_data"].run(run)


def test_a_run_after_a_canceled_one_continues_its_copy(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bar is lost or copied twice."""
    monkeypatch.setattr(partitions, "BATCH", 6)
    old = add_bars(marketdata, JANUARY, *INTERVALS)
    interrupted(marketdata)
    copied = "SELECT count(*) FROM marketdata.market_data_2024_01_kept"
    assert (bars(marketdata), value(marketdata.engine, copied)) == (old, 6)
    assert maintain(marketdata)["bars_kept"] == 20
    assert bars(marketdata) == kept(old)


def test_a_bar_that_arrives_after_its_batch_was_copied_is_not_lost(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run copies the month again."""
    monkeypatch.setattr(partitions, "BATCH", 20)
    old = add_bars(marketdata, JANUARY, *INTERVALS)
    interrupted(marketdata)
    old |= add_bars(marketdata, JANUARY - timedelta(days=1), "1d", number=1)
    assert maintain(marketdata)["months_thinned"] == 0
    assert bars(marketdata) == old
    assert maintain(marketdata)["bars_kept"] == 22
    assert bars(marketdata) == kept(old)


def test_a_month_before_the_first_partition_is_thinned_out_too(marketdata: ServiceContext) -> None:
    """Old bars in the default partition are deleted."""
    before = add_bars(marketdata, JANUARY - timedelta(days=60), *INTERVALS)
    young = add_bars(marketdata, datetime(2025, 6, 1, tzinfo=UTC), *INTERVALS)
    assert maintain(marketdata)["market_data_other_removed"] == 10
    assert bars(marketdata) == kept(before) | young


def test_the_retention_of_bars_is_a_setting(marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """``PAPERPROFIT_KEEP_BARS_DAYS`` sets it. The job also makes the coming partitions."""
    monkeypatch.setenv("PAPERPROFIT_KEEP_BARS_DAYS", "100")
    monkeypatch.setattr("services.marketdata.jobs.current", Settings)
    add_bars(marketdata, datetime(2024, 2, 1, tzinfo=UTC), "1m")
    assert maintain(marketdata)["months_thinned"] == 2
    assert months(marketdata) == set()
    assert value(marketdata.engine, "SELECT to_regclass('marketdata.market_data_2026_03') IS NOT NULL")


def test_bars_that_the_demo_makes_up_are_kept_for_days(marketdata: ServiceContext) -> None:
    """Those of the random walk, and the minutes of the replay. Recorded bars and those of other providers stay."""
    with marketdata.engine.begin() as connection:
        partitions.ensure_partitions(connection, NOW)
    old, young = NOW - timedelta(days=3, hours=1), NOW - timedelta(days=2)
    add_bars(marketdata, old, "1m", "replay", provider="simulated")
    recorded = add_bars(marketdata, old + HOUR / 2, "1m", "replay", provider="replay")
    stays = add_bars(marketdata, old - HOUR, *INTERVALS) | add_bars(
        marketdata, young, "1m", "replay", provider="simulated"
    )
    assert maintain(marketdata)["market_data_2026_02_removed"] == 30
    assert bars(marketdata) == kept(recorded) | stays


def test_a_month_of_the_demo_is_dropped_when_its_last_bar_is_old(marketdata: ServiceContext) -> None:
    """Its table and index free their room at once, long before months of other providers are thinned out."""
    february, march = datetime(2024, 2, 20, tzinfo=UTC), datetime(2024, 3, 4, tzinfo=UTC)
    add_bars(marketdata, february, "1m", "replay", provider="simulated")
    recorded = add_bars(marketdata, february + HOUR, "replay", provider="replay")
    real = add_bars(marketdata, JANUARY, "1m")
    mixed = add_bars(marketdata, JANUARY + HOUR, "1m", provider="simulated")
    maintain(replace(marketdata, clock=FakeClock(march)))
    assert months(marketdata) >= {"2024_01", "2024_02_kept"}
    assert bars(marketdata) == recorded | real | mixed
