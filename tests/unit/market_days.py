"""Trading days of real markets, as their exchanges published them, by the markets' own clocks."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shared.jobs.schedule.calendar import Market, Phase, Session

REGULAR = Phase.REGULAR
NEW_YORK_DAY = (
    (Phase.PRE_MARKET, "04:00", "09:30"),
    (REGULAR, "09:30", "16:00"),
    (Phase.AFTER_HOURS, "16:00", "20:00"),
)
NEW_YORK_HALF = (
    (Phase.PRE_MARKET, "04:00", "09:30"),
    (REGULAR, "09:30", "13:00"),
    (Phase.AFTER_HOURS, "13:00", "17:00"),
)
LONDON_DAY, LONDON_HALF = ((REGULAR, "08:00", "16:30"),), ((REGULAR, "08:00", "12:30"),)
TOKYO_DAY = ((REGULAR, "09:00", "11:30"), (REGULAR, "12:30", "15:30"))

Hours = tuple[tuple[Phase, str, str], ...]


def new_york() -> Market:
    """The trading days of 2026 and the first days of 2027."""
    closed = {
        *((2026, 1, 1), (2026, 1, 19), (2026, 2, 16), (2026, 4, 3), (2026, 5, 25), (2026, 6, 19), (2026, 7, 3)),
        *((2026, 9, 7), (2026, 11, 26), (2026, 12, 25), (2027, 1, 1)),
    }
    return _market("XNYS", "America/New_York", NEW_YORK_DAY, closed, {(2026, 11, 27), (2026, 12, 24)}, NEW_YORK_HALF)


def london() -> Market:
    closed = {
        *((2026, 1, 1), (2026, 4, 3), (2026, 4, 6), (2026, 5, 4), (2026, 5, 25), (2026, 8, 31)),
        *((2026, 12, 25), (2026, 12, 28), (2027, 1, 1)),
    }
    return _market("XLON", "Europe/London", LONDON_DAY, closed, {(2026, 12, 24), (2026, 12, 31)}, LONDON_HALF)


def tokyo() -> Market:
    """The trading days with holidays from November 2026 to the middle of January 2027, and earlier months without."""
    closed = {(2026, 11, 3), (2026, 11, 23), (2026, 12, 31), (2027, 1, 1), (2027, 1, 11)}
    return _market("XTKS", "Asia/Tokyo", TOKYO_DAY, closed, set(), ())


def at(market: Market, text: str) -> datetime:
    """Convert ``2026-11-27 13:00`` by the market's clock to UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=market.zone).astimezone(UTC)


def _market(
    code: str, zone: str, hours: Hours, closed: set[tuple[int, int, int]], short: set[tuple[int, int, int]], half: Hours
) -> Market:
    place = ZoneInfo(zone)
    days = (date(2026, 1, 1) + timedelta(days=number) for number in range(380))
    trading = (day for day in days if day.weekday() < 5 and (day.year, day.month, day.day) not in closed)

    def sessions() -> Iterator[Session]:
        for day in trading:
            for phase, opens, closes in half if (day.year, day.month, day.day) in short else hours:
                yield Session(day, phase, _moment(day, opens, place), _moment(day, closes, place))

    return Market(code, place, tuple(sessions()))


def _moment(day: date, text: str, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.fromisoformat(text), zone).astimezone(UTC)
