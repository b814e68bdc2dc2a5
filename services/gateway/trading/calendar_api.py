"""``/v2/clock``: the time and the market's sessions."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from services.gateway.http.auth import TRADE
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.trading.schemas import MarketClock
from shared.contracts.markets import DEFAULT_MARKET
from shared.storage.keyset import Record, records


async def get_clock(gateway: Gateway) -> MarketClock:
    """Get the time and the state of the market on which most instruments trade.

    The times have the market's offset from UTC, such as `-04:00`.
    """
    now = gateway.context.clock()
    market = await read(gateway, market_clock, now)
    zone = ZoneInfo(market["timezone"])
    # the day of a market that never closes ends at midnight, and its day orders with it
    local = now.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)

    def shown(moment: datetime | None) -> str:
        return (moment or midnight).astimezone(zone).isoformat()

    return {
        "timestamp": shown(now),
        "is_open": market["is_open"],
        "next_open": shown(market["next_open"]),
        "next_close": shown(market["next_close"]),
    }


def market_clock(connection: Connection, now: datetime) -> Record:
    """Return the market's ``timezone``, ``is_open``, ``next_open`` and ``next_close``.

    The times are None for a market that never closes.
    """
    return records(connection, _CLOCK, now=now, otherwise=DEFAULT_MARKET)[0]


_CLOCK = text("""
SELECT m.timezone,
       EXISTS (SELECT FROM marketdata.sessions_v1 WHERE market = m.code AND open_at <= :now AND close_at > :now)
         AS is_open,
       (SELECT min(open_at) FROM marketdata.sessions_v1
        WHERE market = m.code AND open_at > :now AND isfinite(open_at)) AS next_open,
       (SELECT min(close_at) FROM marketdata.sessions_v1
        WHERE market = m.code AND close_at > :now AND isfinite(close_at)) AS next_close
FROM marketdata.markets_v1 m
WHERE m.code = COALESCE((SELECT market FROM marketdata.instruments_v1 WHERE tradable
                         GROUP BY market ORDER BY count(*) DESC, market LIMIT 1), :otherwise)
""")
endpoints = (Endpoint("GET", "/v2/clock", get_clock, TRADE),)
