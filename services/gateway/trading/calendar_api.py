"""``/v2/clock``: the time and the market's sessions."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from services.gateway.http.auth import TRADE
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.trading.schemas import MarketClock
from services.gateway.trading.serializers import moment
from shared.storage.keyset import Record, records

MARKET = "DEMO"


async def get_clock(gateway: Gateway) -> MarketClock:
    """Get the time and the state of the demo market."""
    now = gateway.context.clock()
    sessions = await read(gateway, market_clock, MARKET, now)
    # the day of a market that never closes ends at midnight UTC, and its day orders with it
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return {
        "timestamp": moment(now),
        "is_open": sessions["is_open"],
        "next_open": moment(sessions["next_open"] or midnight),
        "next_close": moment(sessions["next_close"] or midnight),
    }


def market_clock(connection: Connection, market: str, now: datetime) -> Record:
    """Return ``is_open``, ``next_open`` and ``next_close``. The times are None for a market that never closes."""
    return records(connection, _CLOCK, market=market, now=now)[0]


_CLOCK = text("""
SELECT EXISTS (SELECT FROM marketdata.sessions_v1 WHERE market = :market AND open_at <= :now AND close_at > :now)
         AS is_open,
       (SELECT min(open_at) FROM marketdata.sessions_v1
        WHERE market = :market AND open_at > :now AND isfinite(open_at)) AS next_open,
       (SELECT min(close_at) FROM marketdata.sessions_v1
        WHERE market = :market AND close_at > :now AND isfinite(close_at)) AS next_close
""")
endpoints = (Endpoint("GET", "/v2/clock", get_clock, TRADE),)
