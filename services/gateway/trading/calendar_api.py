"""``/v2/clock`` and ``/v2/calendar``: the time, and the sessions of the market of the key's account."""

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from services.gateway.http.auth import READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.trading.requests import MAX_DAYS, CalendarQuery
from services.gateway.trading.schemas import MarketClock, TradingDay
from shared.account_market import account_market
from shared.storage.keyset import Record, records

YEAR = timedelta(days=365)
#: Clients cannot read 24:00.
ALL_DAY = time(0), time(23, 59)


async def get_clock(gateway: Gateway, principal: Principal) -> MarketClock:
    """Get the time and the state of the account's market.

    The times have the market's offset from UTC, such as `-04:00`.
    """
    now = gateway.context.clock()
    market = await read(gateway, account_market, principal.account_id)
    hours = await read(gateway, clock, market["code"], now)
    zone = ZoneInfo(market["timezone"])
    # the day of a market that never closes ends at midnight, and its day orders with it
    local = now.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)

    def shown(moment: datetime | None) -> str:
        return (moment or midnight).astimezone(zone).isoformat()

    return {
        "timestamp": shown(now),
        "is_open": hours["is_open"],
        "next_open": shown(hours["next_open"]),
        "next_close": shown(hours["next_close"]),
    }


async def get_calendar(gateway: Gateway, principal: Principal, query: CalendarQuery) -> list[TradingDay]:
    """List the trading days of the account's market, by default those of a year from today.

    The times are the market's. A market that never closes trades from 00:00 to 23:59.
    """
    market = await read(gateway, account_market, principal.account_id)
    zone = ZoneInfo(market["timezone"])
    start = query.start or gateway.context.clock().astimezone(zone).date()
    end = min(query.end or start + YEAR, start + timedelta(days=MAX_DAYS))
    if market["always_open"]:
        days = [start + timedelta(days=number) for number in range((end - start).days + 1)]
        return [_trading_day(day, ALL_DAY, ALL_DAY, day + timedelta(days=1)) for day in days]

    def local(moment: datetime) -> time:
        return moment.astimezone(zone).time()

    return [
        _trading_day(
            row["day"],
            (local(row["open_at"]), local(row["close_at"])),
            (local(row["first_at"]), local(row["last_at"])),
            row["settles_on"],
        )
        for row in await read(gateway, trading_days, market["code"], start, end)
    ]


def _trading_day(
    day: date, regular: tuple[time, time], extended: tuple[time, time], settles_on: date | None
) -> TradingDay:
    return {
        "date": day.isoformat(),
        "open": f"{regular[0]:%H:%M}",
        "close": f"{regular[1]:%H:%M}",
        "session_open": f"{extended[0]:%H%M}",
        "session_close": f"{extended[1]:%H%M}",
        "settlement_date": None if settles_on is None else settles_on.isoformat(),
    }


def trading_days(connection: Connection, market: str, start: date, end: date) -> list[Record]:
    """Return the known trading days, with regular hours, the first and last session, and the day of settlement."""
    return records(connection, _TRADING_DAYS, market=market, start=start, end=end)


def clock(connection: Connection, market: str, now: datetime) -> Record:
    """Return ``is_open``, ``next_open`` and ``next_close`` of the market.

    The times are None for a market that never closes.
    """
    return records(connection, _CLOCK, now=now, market=market)[0]


_CLOCK = text("""
SELECT EXISTS (SELECT FROM marketdata.sessions_v1 WHERE market = :market AND open_at <= :now AND close_at > :now)
         AS is_open,
       (SELECT min(open_at) FROM marketdata.sessions_v1
        WHERE market = :market AND open_at > :now AND isfinite(open_at)) AS next_open,
       (SELECT min(close_at) FROM marketdata.sessions_v1
        WHERE market = :market AND close_at > :now AND isfinite(close_at)) AS next_close
""")
#: Trades settle on the next trading day (SEC Rule 15c6-1).
_TRADING_DAYS = text("""
SELECT * FROM (
  SELECT d.day, d.open_at, d.close_at, lead(d.day) OVER (ORDER BY d.day) AS settles_on,
         (SELECT min(s.open_at) FROM marketdata.sessions_v2 s WHERE s.market = d.market AND s.day = d.day) AS first_at,
         (SELECT max(s.close_at) FROM marketdata.sessions_v2 s WHERE s.market = d.market AND s.day = d.day) AS last_at
  FROM marketdata.trading_days_v1 d WHERE d.market = :market AND d.day >= :start
) known
WHERE day <= :end ORDER BY day
""")
endpoints = (
    Endpoint("GET", "/v2/clock", get_clock, READ),
    Endpoint("GET", "/v2/calendar", get_calendar, READ),
)
