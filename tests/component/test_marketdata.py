"""Prices on a real PostgreSQL: instruments, bars, the provider's place and the event commit together, each once."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from services.marketdata.domain.quote import Quote
from services.marketdata.jobs import jobs
from services.marketdata.persistence import instruments, partitions, prices
from services.marketdata.providers.stateful import Answer, ProviderState
from services.marketdata.service import INSTRUMENTS, prepare
from services.marketdata.usecases.corporate_actions import enter
from services.marketdata.usecases.update_prices import poll
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.contracts.corporate_actions import ActionKind, EnterCorporateAction
from shared.contracts.prices import PricesUpdated
from shared.jobs.run_context import Counts, RunContext
from tests.component.scripted_prices import MINUTE, Scripted, made_up_quote, push
from tests.component.watching import marketdata_at, outbox, statements
from tests.conftest import FakeClock
from tests.support import eventually, rows, value

SYMBOLS = [instrument.symbol for instrument in INSTRUMENTS]
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class ServiceKilled(RuntimeError):
    """Stands for the end of the process in the middle of a transaction."""


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """The service's context at noon of a Monday, with its instruments and no price yet."""
    with marketdata_at(NOON, urls, clock) as context:
        yield context


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The configured provider, which says what the test tells it."""
    scripted = Scripted()
    monkeypatch.setattr("services.marketdata.jobs.configured_provider", lambda: scripted)
    return scripted


def update_market_data(context: ServiceContext) -> Counts:
    return jobs.declared["update_market_data"].run(RunContext(uuid4(), context, context.clock(), {}))


def instrument(context: ServiceContext, symbol: str = "AAPL") -> Any:
    (row,) = rows(context.engine, "SELECT * FROM marketdata.instruments WHERE symbol = :s", s=symbol)
    return row


def bars(context: ServiceContext, symbol: str = "AAPL") -> list[Any]:
    columns = "*, tableoid::regclass::text AS partition"
    return rows(
        context.engine, f"SELECT {columns} FROM marketdata.market_data WHERE symbol = :s ORDER BY start_at", s=symbol
    )


def test_an_update_writes_prices_and_bars_and_publishes_one_event(
    marketdata: ServiceContext, provider: Scripted
) -> None:
    """Every symbol has its quote and its bar, and one PricesUpdated carries them all."""
    provider.quotes = [made_up_quote(symbol, Decimal(100 + n), NOON, volume=n) for n, symbol in enumerate(SYMBOLS)]
    assert update_market_data(marketdata) == {"prices_written": len(SYMBOLS)}
    for n, symbol in enumerate(SYMBOLS):
        row = instrument(marketdata, symbol)
        assert (row.last_price, row.bid, row.ask) == (100 + n, n + Decimal("99.99"), n + Decimal("100.01"))
        assert (row.sequence, row.quoted_at, row.provider) == (1, NOON, "scripted")
        (bar,) = bars(marketdata, symbol)
        assert (bar.interval, bar.start_at, bar.close, bar.volume) == ("1m", NOON, 100 + n, n)
    (sent,) = outbox(marketdata)
    assert sent.name == "PricesUpdated.v1"
    assert {price["symbol"]: (price["last"], price["sequence"]) for price in sent.body["prices"]} == {
        symbol: (str(100 + n), 1) for n, symbol in enumerate(SYMBOLS)
    }


def test_a_price_of_a_clock_that_was_ahead_shuts_out_no_later_one(marketdata: ServiceContext, clock: FakeClock) -> None:
    """The clock is put right, and prices go on. A replica whose own clock is behind replaces nothing."""
    clock.now = utc_now() + timedelta(minutes=3)
    push(marketdata, {"AAPL": "100"})
    clock.now = utc_now()
    assert push(marketdata, {"AAPL": "101"}) == 1
    row = instrument(marketdata, "AAPL")
    assert (row.last_price, row.quoted_at, row.since, row.sequence) == (101, clock.now, None, 2)
    clock.now -= timedelta(minutes=3)
    assert push(marketdata, {"AAPL": "102"}) == 0


def test_the_configured_provider_has_a_price_for_every_instrument(marketdata: ServiceContext) -> None:
    """As it comes, the service replays recorded prices, of the instruments that it makes itself."""
    assert update_market_data(marketdata) == {"prices_written": len(SYMBOLS)}


def test_a_batch_takes_as_many_statements_for_40_symbols_as_for_one(
    marketdata: ServiceContext, clock: FakeClock
) -> None:
    """Instruments, bars, state and outbox are one statement each, however many symbols there are."""
    symbols = [f"S{number}" for number in range(40)]
    with marketdata.engine.begin() as connection:
        instruments.add_instruments(connection, [instruments.Instrument(symbol, symbol) for symbol in symbols])

    def counted(batch: list[str], last: int) -> int:
        with statements(marketdata.engine) as seen:
            assert push(marketdata, {symbol: Decimal(last) for symbol in batch}) == len(batch)
        return len(seen)

    one = counted(symbols[:1], 100)
    clock.move(seconds=1)
    assert counted(symbols, 101) == one


def test_the_sequence_rises_by_one_with_each_update(marketdata: ServiceContext, clock: FakeClock) -> None:
    """The sequence in the row is the one in the event."""
    for _ in range(3):
        push(marketdata, {"AAPL": "100", "IBM": "200"})
        clock.move(seconds=1)
    assert [price["sequence"] for sent in outbox(marketdata) for price in sent.body["prices"]] == [1, 1, 2, 2, 3, 3]
    assert instrument(marketdata).sequence == 3


@pytest.mark.parametrize("age", [timedelta(0), SECOND])
def test_a_quote_that_is_not_newer_changes_nothing(
    marketdata: ServiceContext, provider: Scripted, age: timedelta
) -> None:
    """Neither row, bar nor event has it. A newer quote in the same batch goes through."""
    provider.quotes = [made_up_quote("AAPL", "100", NOON), made_up_quote("IBM", "200", NOON)]
    update_market_data(marketdata)
    before = (instrument(marketdata), bars(marketdata))
    provider.quotes = [made_up_quote("AAPL", "99", NOON - age), made_up_quote("IBM", "201", NOON + SECOND)]
    assert update_market_data(marketdata) == {"prices_written": 1}
    assert (instrument(marketdata), bars(marketdata)) == before
    assert instrument(marketdata, "IBM").last_price == 201
    assert [price["symbol"] for price in outbox(marketdata)[-1].body["prices"]] == ["IBM"]


def test_a_batch_of_old_quotes_publishes_nothing(marketdata: ServiceContext, provider: Scripted) -> None:
    """No event without news."""
    provider.quotes = [made_up_quote("AAPL", "100", NOON)]
    assert [update_market_data(marketdata)["prices_written"] for _ in range(2)] == [1, 0]
    assert len(outbox(marketdata)) == 1


def test_a_quote_ahead_of_the_clock_is_dropped_and_blocks_no_other(
    marketdata: ServiceContext, provider: Scripted
) -> None:
    """Until its time all others would be older than the current price."""
    for ahead, written in ((6, 0), (5, 1)):
        provider.quotes = [made_up_quote("AAPL", "100", NOON + ahead * SECOND)]
        assert update_market_data(marketdata) == {"prices_written": written}


def test_a_bar_with_a_start_of_its_own_is_kept_and_published_with_it(
    marketdata: ServiceContext, provider: Scripted
) -> None:
    """It is quoted at its end, which is the start of the next one."""
    start = NOON - 60 * SECOND
    provider.quotes = [replace(made_up_quote("AAPL", "100", NOON), bar_start=start)]
    update_market_data(marketdata)
    assert [bar.start_at for bar in bars(marketdata)] == [start]
    (published,) = PricesUpdated.model_validate(outbox(marketdata)[-1].body).prices
    assert (published.bar_start, instrument(marketdata).bar_start) == (start, start)


def test_quotes_of_one_minute_merge_into_one_bar(
    marketdata: ServiceContext, provider: Scripted, clock: FakeClock
) -> None:
    """It opens with the first, closes with the last, spans them all and adds up their volumes."""
    for seconds, last in ((0, "100"), (20, "103"), (40, "98"), (59, "101"), (60, "102")):
        clock.now = NOON + seconds * SECOND
        provider.quotes = [made_up_quote("AAPL", last, NOON + seconds * SECOND, volume=10)]
        update_market_data(marketdata)
    first, second = bars(marketdata)
    assert (first.start_at, second.start_at) == (NOON, NOON + 60 * SECOND)
    assert (first.open, first.high, first.low, first.close, first.volume) == (100, 103, 98, 101, 40)
    assert (second.open, second.high, second.low, second.close, second.volume) == (102, 102, 102, 102, 10)


def test_a_crash_before_the_commit_leaves_no_trace(marketdata: ServiceContext, clock: FakeClock) -> None:
    """Prices, bars and the event about them are written together or not at all."""
    push(marketdata, {"AAPL": "100"})
    before = (instrument(marketdata), bars(marketdata), outbox(marketdata))
    clock.move(seconds=1)

    def push_and_die() -> None:
        with marketdata.unit_of_work() as uow:
            quotes = [made_up_quote("AAPL", "101", uow.now)]
            updates = prices.save_prices(uow.connection, quotes, uow.now)
            uow.run(prices.adding_bars(quotes, "1m", SECOND))
            assert updates["AAPL"] == prices.Update(2, before[0].quoted_at, market="DEMO")
            raise ServiceKilled

    with pytest.raises(ServiceKilled):
        push_and_die()
    assert (instrument(marketdata), bars(marketdata), outbox(marketdata)) == before


class Slow(Scripted):
    """It reads its quotes when it is polled, but does not answer before it is let go."""

    def __init__(self, *quotes: Quote) -> None:
        super().__init__(quotes=list(quotes))
        self.asked, self.let_go = threading.Event(), threading.Event()

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        answer = super().poll(state, symbols, now)
        self.asked.set()
        assert self.let_go.wait(30)
        return answer


@contextmanager
def answering_slowly(context: ServiceContext, provider: Slow) -> Iterator[Future[int]]:
    """Poll the provider meanwhile, which answers at the end. The future holds the number of prices written."""
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(poll, context, provider, interval="1m", length=MINUTE)
        try:
            assert provider.asked.wait(30)
            yield written
        finally:
            provider.let_go.set()


def test_while_a_provider_answers_no_transaction_is_open_and_others_go_on(
    replicas: list[ServiceContext], clock: FakeClock
) -> None:
    """A second replica takes in its prices meanwhile."""
    one, two = replicas
    prepare(one)
    slow = Slow(made_up_quote("AAPL", "100", clock.now))
    with answering_slowly(one, slow) as written:
        (sessions,) = rows(two.engine, _TRANSACTIONS)
        assert (sessions.open, sessions.all > 0) == (0, True)
        assert push(two, {"IBM": "200"}) == 1
        assert not written.done()
    assert written.result() == 1
    assert (instrument(one).last_price, instrument(one, "IBM").last_price) == (100, 200)


@pytest.mark.parametrize(("later", "expected"), [(SECOND, 101), (timedelta(0), 101), (-SECOND, 100)])
def test_of_two_answers_the_newer_price_stays(
    replicas: list[ServiceContext], clock: FakeClock, later: timedelta, expected: int
) -> None:
    """The slow one is stored last: it neither sets an older price again nor tells the same one twice."""
    one, two = replicas
    prepare(one)
    with answering_slowly(one, Slow(made_up_quote("AAPL", "100", clock.now))) as written:
        assert push(two, {}) == 0
        quick = Scripted(quotes=[made_up_quote("AAPL", "101", clock.now + later)])
        assert poll(two, quick, interval="1m", length=MINUTE) == 1
    assert written.result() == (expected == 100)
    assert instrument(one).last_price == expected
    published = [price["last"] for sent in outbox(one) for price in sent.body["prices"]]
    assert published == (["101", "100"] if expected == 100 else ["101"])


def test_a_price_of_old_shares_is_not_stored_after_their_split(marketdata: ServiceContext, clock: FakeClock) -> None:
    """The split took effect while the provider answered. Its next answer is of new shares."""
    push(marketdata, {"AAPL": "100"})
    clock.move(seconds=1)
    with answering_slowly(marketdata, Slow(made_up_quote("AAPL", "100", clock.now))) as written:
        clock.move(seconds=1)
        with marketdata.unit_of_work() as uow:
            kind, at = ActionKind.SPLIT, clock.now
            enter(uow, EnterCorporateAction(action_id=uuid4(), symbol="AAPL", kind=kind, ratio=2, effective_at=at))
    assert written.result() == 0
    assert (instrument(marketdata).last_price, instrument(marketdata).split_count) == (50, 1)
    clock.move(seconds=1)
    assert push(marketdata, {"AAPL": "51"}) == 1


def test_an_answer_that_a_killed_process_never_stored_comes_again(
    marketdata: ServiceContext, provider: Scripted
) -> None:
    """The process died with it in hand: nothing is lost, nothing is there twice."""
    provider.quotes = [made_up_quote("AAPL", "100", NOON)]

    def answer_and_die(*_: object) -> Answer:
        raise ServiceKilled

    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(provider, "poll", answer_and_die)
        with pytest.raises(ServiceKilled):
            update_market_data(marketdata)
    assert (bars(marketdata), outbox(marketdata)) == ([], [])
    assert [update_market_data(marketdata)["prices_written"] for _ in range(2)] == [1, 0]
    assert (len(bars(marketdata)), len(outbox(marketdata))) == (1, 1)


@pytest.mark.parametrize(
    ("now", "months"),
    [
        (datetime(2026, 11, 30, 23, 59, 58, tzinfo=UTC), ("2026_11", "2026_12")),
        (datetime(2026, 12, 31, 23, 59, 58, tzinfo=UTC), ("2026_12", "2027_01")),
        (datetime(2027, 1, 31, 23, 59, 58, tzinfo=UTC), ("2027_01", "2027_02")),
        (datetime(2028, 2, 29, 23, 59, 58, tzinfo=UTC), ("2028_02", "2028_03")),
    ],
)
def test_this_month_and_the_next_have_their_partitions(
    marketdata: ServiceContext, provider: Scripted, clock: FakeClock, now: datetime, months: tuple[str, str]
) -> None:
    """The bar after midnight has its place before midnight, at the end of a year too."""
    clock.now = now
    tomorrow = now + timedelta(seconds=4)
    for at in (now, tomorrow):
        provider.quotes = [made_up_quote("AAPL", "100", at)]
        update_market_data(marketdata)
    made = {row.name for row in rows(marketdata.engine, "SELECT relname AS name FROM pg_class WHERE relkind = 'r'")}
    assert {f"market_data_{month}" for month in months} <= made
    assert [bar.partition for bar in bars(marketdata)] == [
        f"marketdata.market_data_{at:%Y_%m}" for at in (now, tomorrow)
    ]


def test_a_month_gets_its_partition_also_when_it_has_bars_already(marketdata: ServiceContext, clock: FakeClock) -> None:
    """With update_market_data switched off the feed went on into a month without one. The next start makes it."""
    clock.now = NOON + timedelta(days=90)
    push(marketdata, {"AAPL": "100"})
    prepare(marketdata)
    assert [bar.close for bar in bars(marketdata)] == [100]
    assert value(marketdata.engine, "SELECT to_regclass('marketdata.market_data_2027_02') IS NOT NULL")


def test_replicas_that_start_together_make_each_partition_once(marketdata: ServiceContext, clock: FakeClock) -> None:
    """The second waits while the first is at it, and finds the partitions made."""
    clock.move(days=90)
    waiting = """SELECT count(*) FROM pg_locks WHERE NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    with ThreadPoolExecutor(1) as pool:
        with marketdata.engine.begin() as connection:
            partitions.ensure_partitions(connection, clock.now)
            second = pool.submit(prepare, marketdata)
            eventually(lambda: value(marketdata.engine, waiting) or second.done())
        second.result()
    assert value(marketdata.engine, "SELECT to_regclass('marketdata.market_data_2027_03') IS NOT NULL")


_TRANSACTIONS = """
SELECT count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS open, count(*) AS all FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'paperprofit-marketdata'
"""
