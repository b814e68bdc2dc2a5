"""Official opens and closes on a real PostgreSQL: given by a provider, or the first and last trades of the day."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from services.marketdata.actors import enter_official_price
from services.marketdata.domain.official import Official
from services.marketdata.feed import INTERVAL
from services.marketdata.jobs import jobs
from services.marketdata.persistence import prices
from services.marketdata.service import prepare
from services.marketdata.usecases import official_prices
from services.marketdata.usecases.update_prices import update_prices
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.official_prices import AuctionKind, EnterOfficialPrice, OfficialPricePublished
from shared.jobs.run_context import RunContext
from tests.component.auction_days import FRIDAY, MONDAY, WEDNESDAY, sessions_in_new_york, utc
from tests.component.scripted_prices import MINUTE, Scripted, made_up_quote
from tests.component.watching import context_of, outbox, statements
from tests.conftest import FakeClock
from tests.support import rows

SYMBOLS = ("AAPL", "IBM")


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """The service's context on Wednesday morning. AAPL and IBM trade in New York, the others at all hours."""
    clock.now = utc(WEDNESDAY, "14:00")
    with context_of("marketdata", urls, clock) as context:
        prepare(context)
        with context.engine.begin() as connection:
            sessions_in_new_york(connection, *SYMBOLS)
        yield context


class Tape:
    """The prices of a day, one after the other."""

    def __init__(self, context: ServiceContext, clock: FakeClock) -> None:
        self.context, self.clock = context, clock
        self.provider = Scripted()

    def print(self, at: datetime, last: str, symbol: str = "AAPL", **fields: Any) -> int:
        """Take in a price of that time whose bar opened half a dollar below it, and return the number of new prices."""
        self.clock.now = at
        quote = made_up_quote(symbol, last, at)
        opened = quote.last - Decimal("0.5")
        interval, length = fields.pop("interval", "1m"), fields.pop("length", MINUTE)
        self.provider.quotes = [replace(quote, open=opened, low=opened, **fields)]
        return update_prices(self.context, self.provider, self.provider.poll, interval=interval, length=length)

    def minutes(self, day: Any, clock: str, *lasts: str, **fields: Any) -> None:
        """Take in one price a minute, from that time."""
        begin = utc(day, clock)
        for number, last in enumerate(lasts):
            self.print(begin + number * MINUTE, last, **fields)


@pytest.fixture
def tape(marketdata: ServiceContext, clock: FakeClock) -> Tape:
    return Tape(marketdata, clock)


def published(context: ServiceContext) -> list[OfficialPricePublished]:
    found = [sent.body for sent in outbox(context) if sent.name == "OfficialPricePublished.v1"]
    return [OfficialPricePublished.model_validate(body) for body in found]


def facts(context: ServiceContext) -> list[tuple[str, str, Decimal, datetime]]:
    return [(each.kind, str(each.day), each.price, each.held_at) for each in published(context)]


def test_the_first_and_the_last_trade_of_a_day_are_its_official_prices(tape: Tape, marketdata: ServiceContext) -> None:
    """The open of the first bar after 9:30, and the last price before 16:00, once a later one is known."""
    tape.minutes(WEDNESDAY, "14:28:30", "98", "99", "100", "101", "102")
    assert facts(marketdata) == [("open", "2026-11-25", Decimal("100.5"), utc(WEDNESDAY, "14:30:30"))]
    tape.minutes(WEDNESDAY, "20:57:30", "110", "111", "112")
    assert len(published(marketdata)) == 1
    tape.print(utc(WEDNESDAY, "21:00:30"), "113")
    assert facts(marketdata)[1:] == [("close", "2026-11-25", Decimal(112), utc(WEDNESDAY, "20:59:00"))]
    tape.minutes(WEDNESDAY, "21:01:30", "114", "115")
    assert len(published(marketdata)) == 2
    first, last = published(marketdata)
    assert (first.sequence, last.sequence, first.volume, first.provider) == (4, 9, None, "scripted")


def test_an_official_price_is_published_before_the_price_that_it_came_with(
    tape: Tape, marketdata: ServiceContext
) -> None:
    """And written with it: the row and the event are one transaction's."""
    tape.minutes(WEDNESDAY, "14:29:30", "99", "100", "101")
    names = [sent.name for sent in outbox(marketdata)]
    assert names == ["PricesUpdated.v1", "PricesUpdated.v1", "OfficialPricePublished.v1", "PricesUpdated.v1"]
    (row,) = rows(marketdata.engine, "SELECT * FROM marketdata.official_prices_v1")
    assert (row.symbol, row.kind, row.day, row.known_at) == ("AAPL", "open", WEDNESDAY, utc(WEDNESDAY, "14:31:30"))


def test_a_provider_that_is_away_at_the_open_or_the_close_gives_neither(tape: Tape, marketdata: ServiceContext) -> None:
    """Prices begin at noon and end at two. Those after the close are of after hours."""
    tape.minutes(WEDNESDAY, "17:00", "100", "101", "102")
    tape.minutes(WEDNESDAY, "21:00:30", "110", "111")
    assert published(marketdata) == []


def test_a_price_without_a_trade_is_neither_first_nor_last(tape: Tape, marketdata: ServiceContext) -> None:
    """Polls repeat the previous price."""
    still = {"volume": Decimal(0)}
    tape.minutes(WEDNESDAY, "14:29:30", "99", "99", "99", **still)
    assert published(marketdata) == []
    tape.minutes(WEDNESDAY, "14:32:30", "100")
    assert facts(marketdata) == [("open", "2026-11-25", Decimal("99.5"), utc(WEDNESDAY, "14:31:30"))]
    tape.minutes(WEDNESDAY, "20:56:30", "110")
    tape.minutes(WEDNESDAY, "20:57:30", "111", "111", "111", "111", **still)
    assert facts(marketdata)[1:] == [("close", "2026-11-25", Decimal(110), utc(WEDNESDAY, "20:56"))]


def test_a_half_day_closes_at_one(tape: Tape, marketdata: ServiceContext) -> None:
    """The feed's own bars count like those of a minute."""
    for second in range(3):
        at = utc(FRIDAY, "17:59:58") + timedelta(seconds=second)
        tape.print(at, str(100 + second), interval=INTERVAL, length=None)
    assert published(marketdata) == []
    tape.print(utc(FRIDAY, "18:00:01"), "104", interval=INTERVAL, length=None)
    assert facts(marketdata) == [("close", "2026-11-27", Decimal(102), utc(FRIDAY, "18:00"))]


def test_a_feed_that_stopped_with_the_close_publishes_it_days_later(tape: Tape, marketdata: ServiceContext) -> None:
    """On Monday, with the first price: the close of Friday is right all the same."""
    tape.minutes(FRIDAY, "17:58:30", "100", "101")
    tape.print(utc(MONDAY, "14:00"), "120")
    assert facts(marketdata) == [("close", "2026-11-27", Decimal(101), utc(FRIDAY, "17:59"))]


def update_market_data(context: ServiceContext, monkeypatch: pytest.MonkeyPatch, provider: Scripted) -> None:
    monkeypatch.setattr("services.marketdata.jobs.configured_provider", lambda: provider)
    jobs.declared["update_market_data"].run(RunContext(uuid4(), context, context.clock(), {}))


@pytest.mark.parametrize(("minutes", "known"), [(5, False), (11, True), (120, False)])
def test_a_close_without_a_price_after_it_is_found_by_the_job(
    tape: Tape, marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch, minutes: int, *, known: bool
) -> None:
    """Ten minutes after the close its last price is final. Hours later it is no longer looked for."""
    tape.minutes(WEDNESDAY, "20:58:30", "100", "101")
    tape.clock.now = utc(WEDNESDAY, "21:00") + timedelta(minutes=minutes)
    for _ in range(2):
        update_market_data(marketdata, monkeypatch, Scripted())
    expected = [("close", "2026-11-25", Decimal(101), utc(WEDNESDAY, "20:59"))]
    assert facts(marketdata) == (expected if known else [])


def official(kind: str, price: str, **fields: Any) -> Official:
    due = utc(WEDNESDAY, "14:30" if kind == "open" else "21:00")
    given: dict[str, Any] = {"symbol": "AAPL", "day": WEDNESDAY, "held_at": due, "provider": "scripted"}
    return Official(**{**given, "kind": AuctionKind(kind), "price": Decimal(price), **fields})


def test_the_official_prices_of_a_provider_count(
    tape: Tape, marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, although every quote carries them, and also with a quote that is not new. Trades make none then."""
    tape.provider.official = True
    tape.minutes(WEDNESDAY, "14:29:30", "99", "100", "101")
    assert published(marketdata) == []
    given = (official("open", "99.75", volume=Decimal(250000)),)
    tape.minutes(WEDNESDAY, "14:32:30", "102", "102", official=given)
    (event,) = published(marketdata)
    assert (event.price, event.volume, event.held_at) == (Decimal("99.75"), Decimal(250000), utc(WEDNESDAY, "14:30"))
    tape.minutes(WEDNESDAY, "20:59:30", "110")
    stale = utc(WEDNESDAY, "20:59:30")
    assert tape.print(stale, "110", official=(*given, official("close", "110.25"))) == 0
    assert facts(marketdata)[1:] == [("close", "2026-11-25", Decimal("110.25"), utc(WEDNESDAY, "21:00"))]
    tape.minutes(FRIDAY, "17:58:30", "111")
    tape.clock.now = utc(FRIDAY, "18:20")
    update_market_data(marketdata, monkeypatch, tape.provider)
    assert len(published(marketdata)) == 2


def test_a_market_that_never_closes_has_no_official_prices(tape: Tape, marketdata: ServiceContext) -> None:
    """Its prices take no extra statement."""
    tape.print(utc(WEDNESDAY, "14:29:30"), "100", symbol="MSFT")
    with statements(marketdata.engine) as seen:
        tape.print(utc(WEDNESDAY, "14:30:30"), "101", symbol="MSFT")
    assert not [each for each in seen if "market_sessions" in each or "official_prices" in each]
    tape.minutes(WEDNESDAY, "14:31:30", "102", "103", symbol="MSFT")
    assert published(marketdata) == []


def enter(context: ServiceContext, price: str, **fields: Any) -> None:
    given: dict[str, Any] = {"symbol": "AAPL", "kind": "close", "day": WEDNESDAY, "held_at": utc(WEDNESDAY, "21:00")}
    with context.unit_of_work() as uow:
        enter_official_price(EnterOfficialPrice(**{**given, "price": price, **fields}), uow)


def test_an_official_price_that_an_operator_enters_stays(tape: Tape, marketdata: ServiceContext) -> None:
    """Entered twice, and then found in the trades as well: the first that is known is final."""
    tape.minutes(WEDNESDAY, "20:59:30", "100")
    for price in ("101.5", "101.5", "99"):
        enter(marketdata, price)
    tape.print(utc(WEDNESDAY, "21:00:30"), "103")
    assert [(each.price, each.provider) for each in published(marketdata)] == [(Decimal("101.5"), "hand")]


def test_a_price_from_before_a_split_has_the_old_split_count(tape: Tape, marketdata: ServiceContext) -> None:
    """It is entered after the split, whose adjusted orders must not fill at it."""
    tape.minutes(WEDNESDAY, "20:59:30", "100")
    with marketdata.engine.begin() as connection:
        connection.exec_driver_sql(_SPLIT, (utc(FRIDAY, "14:00"), utc(FRIDAY, "14:01")))
    tape.clock.now = utc(FRIDAY, "19:00")
    enter(marketdata, "100")
    enter(marketdata, "50", day=FRIDAY, held_at=utc(FRIDAY, "18:00"))
    assert [(str(each.day), each.split_count) for each in published(marketdata)] == [
        ("2026-11-25", 0),
        ("2026-11-27", 1),
    ]


_SPLIT = """
WITH adjusted AS (UPDATE marketdata.instruments SET split_count = 1 WHERE symbol = 'AAPL')
INSERT INTO marketdata.corporate_actions (id, symbol, kind, ratio, effective_at, entered_at, applied_at)
VALUES (gen_random_uuid(), 'AAPL', 'split', 2, %s, now(), %s)
"""


def test_a_crash_leaves_neither_the_price_nor_the_event(tape: Tape, marketdata: ServiceContext) -> None:
    """The same price comes again and completes both."""
    tape.minutes(WEDNESDAY, "14:29:30", "99", "100")
    tape.clock.now = utc(WEDNESDAY, "14:31:30")
    quotes = [replace(made_up_quote("AAPL", "101", tape.clock.now))]

    def die() -> None:
        with marketdata.unit_of_work() as uow:
            assert official_prices.record_trades(uow, quotes, prices.save_prices(uow.connection, quotes, uow.now)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert (published(marketdata), rows(marketdata.engine, "SELECT * FROM marketdata.official_prices_v1")) == ([], [])
    tape.print(tape.clock.now, "101")
    assert len(published(marketdata)) == 1
