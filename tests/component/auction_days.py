"""The paper exchange in New York, over Thanksgiving: its instruments have sessions, and so auctions."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from services.marketdata.domain.official import Official
from services.marketdata.domain.sessions import Hours, sessions_of
from services.marketdata.persistence.sessions import replace_sessions
from services.marketdata.usecases import official_prices
from shared.contracts.markets import MARKETS
from shared.contracts.official_prices import AuctionKind, OfficialPricePublished
from tests.component.paper_exchange import Exchange
from tests.component.watching import outbox

#: Friday is a half day, and Thursday none.
WEDNESDAY, FRIDAY, MONDAY = date(2026, 11, 25), date(2026, 11, 27), date(2026, 11, 30)
CLOSES = {WEDNESDAY: "21:00", FRIDAY: "18:00", MONDAY: "21:00"}


def utc(day: date, clock: str) -> datetime:
    """``14:30`` is the open."""
    return datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=UTC)


def move_to_new_york(exchange: Exchange) -> Exchange:
    """It is Wednesday, half an hour before the open."""
    exchange.clock.now = utc(WEDNESDAY, "14:00")
    with exchange.marketdata.engine.begin() as connection:
        sessions_in_new_york(connection, "AAPL", "IBM", "MSFT")
    return exchange


def sessions_in_new_york(connection: Connection, *symbols: str) -> None:
    """These instruments trade there, on three days."""
    days = [Hours(day, utc(day, "14:30"), utc(day, close), day == FRIDAY) for day, close in CLOSES.items()]
    held = [session for hours in days for session in sessions_of(MARKETS["XNYS"], hours)]
    replace_sessions(connection, ["XNYS"], WEDNESDAY, MONDAY, held)
    moved = "UPDATE marketdata.instruments SET market = 'XNYS' WHERE symbol = ANY(%s)"
    connection.exec_driver_sql(moved, (list(symbols),))


def at(exchange: Exchange, clock: str, day: date = WEDNESDAY) -> None:
    exchange.clock.now = utc(day, clock)


def become_known(
    exchange: Exchange, kind: str, price: str, *, day: date = WEDNESDAY, **fields: Any
) -> OfficialPricePublished:
    """Marketdata learns the official price of AAPL, held when it was due unless told. Returns its message."""
    due = utc(day, "14:30" if kind == "open" else CLOSES[day])
    given = {"symbol": "AAPL", "held_at": due, "provider": "test", **fields}
    with exchange.marketdata.unit_of_work() as uow:
        official_prices.record(uow, [Official(kind=AuctionKind(kind), day=day, price=Decimal(price), **given)])
    return said(exchange)[-1]


def hold(exchange: Exchange, kind: str, price: str, **fields: Any) -> OfficialPricePublished:
    """It becomes known, and orders hears of it."""
    event = become_known(exchange, kind, price, **fields)
    exchange.handle(event)
    return event


def said(exchange: Exchange) -> list[OfficialPricePublished]:
    """The messages of marketdata about auctions."""
    found = [sent.body for sent in outbox(exchange.marketdata) if sent.name == "OfficialPricePublished.v1"]
    return [OfficialPricePublished.model_validate(body) for body in found]
