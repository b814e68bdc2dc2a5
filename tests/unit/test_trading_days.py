"""The auction of an order and its cutoff, on full days, half days, holidays and with a midday break."""

from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from zoneinfo import ZoneInfo

import pytest

from services.marketdata.calendars import sessions_between
from shared.contracts.markets import MARKETS
from shared.contracts.orders import AUCTIONS, TimeInForce
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.risk_checks import refuse_change
from shared.exchange.refusal import Refusal
from shared.exchange.trading_days import A_DAY, CUTOFFS, OVERDUE, TradingDay, coming, is_closed
from tests.unit.trading_examples import ACCEPTED, INSTRUMENT, account, order, submission

NEW_YORK, TOKYO = ZoneInfo("America/New_York"), ZoneInfo("Asia/Tokyo")
LAST = INSTRUMENT.last
RICH = account("100000")


def trading_days(code: str, first: date) -> list[TradingDay]:
    """The trading days of two weeks, from the exchange's calendar."""
    regular = [each for each in sessions_between(MARKETS[code], first, first + timedelta(14)) if each.kind == "regular"]
    days = [(day, list(sessions)) for day, sessions in groupby(regular, key=attrgetter("day"))]
    return [TradingDay(day, sessions[0].open_at, sessions[-1].close_at) for day, sessions in days]


def found(tif: str, asked_at: str, zone: ZoneInfo = NEW_YORK, code: str = "XNYS") -> tuple[str, str, str] | None:
    """The day, time and end of the auction by the market's clock, for an order submitted then."""
    at = datetime.fromisoformat(asked_at).replace(tzinfo=zone).astimezone(UTC)
    days = [day for day in trading_days(code, at.date() - timedelta(1)) if day.close_at > at]
    auction = coming(TimeInForce(tif), days, at)
    if auction is None:
        return None
    local = [f"{each.astimezone(zone):%m-%d %H:%M}" for each in (auction.at, auction.until)]
    return (str(auction.day), *local)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("tif", "asked_at", "day", "due", "until"),
    [
        ("opg", "2026-11-24 20:00", "2026-11-25", "11-25 09:30", "11-25 16:00"),
        ("opg", "2026-11-25 09:29", "2026-11-25", "11-25 09:30", "11-25 16:00"),
        ("opg", "2026-11-25 09:30", "2026-11-27", "11-27 09:30", "11-27 13:00"),  # over Thanksgiving, to a half day
        ("opg", "2026-11-26 12:00", "2026-11-27", "11-27 09:30", "11-27 13:00"),
        ("opg", "2026-11-27 10:00", "2026-11-30", "11-30 09:30", "11-30 16:00"),  # over the weekend
        ("opg", "2026-04-02 12:00", "2026-04-06", "04-06 09:30", "04-06 16:00"),  # over Good Friday
        ("cls", "2026-11-25 08:00", "2026-11-25", "11-25 16:00", "11-27 09:30"),
        ("cls", "2026-11-25 15:59", "2026-11-25", "11-25 16:00", "11-27 09:30"),
        ("cls", "2026-11-25 16:00", "2026-11-27", "11-27 13:00", "11-30 09:30"),  # the half day closes at one
        ("cls", "2026-11-27 13:00", "2026-11-30", "11-30 16:00", "12-01 09:30"),
        ("cls", "2026-04-03 12:00", "2026-04-06", "04-06 16:00", "04-07 09:30"),  # Good Friday has no close
    ],
)
def test_an_order_is_for_the_next_auction_of_its_kind(tif: str, asked_at: str, day: str, due: str, until: str) -> None:
    """An auction that has begun is not the next. Orders wait for an open that day, for a close until the next open."""
    assert found(tif, asked_at) == (day, due, until)


@pytest.mark.parametrize(("tif", "due"), [("opg", "2026-11-26 09:00"), ("cls", "2026-11-25 15:30")])
def test_a_midday_break_has_no_auction(tif: str, due: str) -> None:
    """At 11:30 in Tokyo an opg order is for tomorrow's open and a cls order for the afternoon's close."""
    auction = found(tif, "2026-11-25 11:45", TOKYO, "XTKS")
    assert auction is not None
    assert auction[1] == due[5:]


def test_without_a_known_day_there_is_no_auction() -> None:
    """Orders wait one day for the close where no later day is known."""
    day = TradingDay(date(2026, 11, 25), ACCEPTED, ACCEPTED + timedelta(hours=6))
    for tif in AUCTIONS:
        assert coming(tif, [], ACCEPTED) is None
    last = coming(TimeInForce.CLS, [day], ACCEPTED)
    assert last is not None
    assert last.until == day.close_at + A_DAY


@pytest.mark.parametrize(("tif", "minutes"), [("opg", 2), ("cls", 10)])
def test_an_auction_closes_before_it_is_held(tif: str, minutes: int) -> None:
    """At 9:28 and 15:50 in New York it is still open, to the microsecond."""
    time_in_force, last = TimeInForce(tif), ACCEPTED - timedelta(minutes=minutes)
    assert CUTOFFS[time_in_force] == ACCEPTED - last
    assert not is_closed(time_in_force, ACCEPTED, last)
    assert is_closed(time_in_force, ACCEPTED, last + timedelta(microseconds=1))


DAY = TradingDay(date(2026, 11, 23), ACCEPTED + timedelta(minutes=5), ACCEPTED + timedelta(hours=6))


@pytest.mark.parametrize(("tif", "due"), [("opg", DAY.open_at), ("cls", DAY.close_at)])
def test_an_order_for_an_auction_knows_its_day_and_its_end(tif: str, due: datetime) -> None:
    """It is accepted while the market is closed, with the same reservation as any order."""
    auction = coming(TimeInForce(tif), [DAY], ACCEPTED)
    instrument = Instrument(True, last=LAST, is_open=False, session_end=DAY.open_at, auction=auction)
    admitted = admit(submission(f"buy 10 AAPL limit 99 {tif}"), instrument, RICH, Exposure(), ACCEPTED)
    assert isinstance(admitted, Admitted)
    (row,) = admitted.orders
    assert auction is not None
    assert (row.auction_day, row.auction_at, row.expires_at) == (DAY.day, due, auction.until)
    assert row.reserved == 990


@pytest.mark.parametrize(
    ("tif", "late", "reason"),
    [
        ("opg", timedelta(minutes=3), None),
        ("opg", timedelta(minutes=4), "auction_closed"),
        ("cls", timedelta(hours=5, minutes=51), "auction_closed"),
        ("cls", timedelta(hours=5, minutes=49), None),
    ],
)
def test_an_order_after_the_cutoff_is_rejected(tif: str, late: timedelta, reason: str | None) -> None:
    """It was submitted in time and is handled too late. It does not become an order for another day."""
    instrument = Instrument(True, last=LAST, auction=coming(TimeInForce(tif), [DAY], ACCEPTED))
    answer = admit(submission(f"buy 10 AAPL limit 99 {tif}"), instrument, RICH, Exposure(), ACCEPTED + late)
    assert getattr(answer, "reason", None) == reason


def test_an_auction_order_in_a_market_without_auctions_is_rejected() -> None:
    """Other orders are accepted there."""
    for tif, reason in (("opg", "no_auction"), ("cls", "no_auction"), ("day", None)):
        answer = admit(submission(f"buy 10 AAPL limit 99 {tif}"), Instrument(True), RICH, Exposure(), ACCEPTED)
        assert getattr(answer, "reason", None) == reason


@pytest.mark.parametrize(
    ("after_the_open", "reason"),
    [
        (timedelta(minutes=-2), None),
        (timedelta(minutes=-1), "auction_closed"),
        (timedelta(minutes=59), "auction_closed"),
        (OVERDUE, None),
    ],
)
def test_an_order_cannot_be_changed_once_its_auction_is_near(after_the_open: timedelta, reason: str | None) -> None:
    """A trader who knows the opening price must not withdraw. An hour without a price ends that."""
    waiting = order("buy 10 AAPL market opg", auction_day=DAY.day, auction_at=DAY.open_at)
    refusal = refuse_change(waiting, DAY.open_at + after_the_open)
    assert (refusal and refusal.reason) == reason
    assert refuse_change(order("buy 10 AAPL market day"), DAY.open_at + after_the_open) is None


def test_the_refusals_name_the_cutoff() -> None:
    """A late order is told the deadline that it missed."""
    instrument = Instrument(True, auction=coming(TimeInForce.CLS, [DAY], ACCEPTED))
    late = admit(submission("buy 1 AAPL market cls"), instrument, RICH, Exposure(), DAY.close_at)
    assert isinstance(late, Refusal)
    assert late.message == (
        "cls orders must be submitted at least 10 minutes before the auction, which was due at 2026-11-23 21:00 UTC"
    )
