"""``/api/halts``: trading of an instrument is halted and resumed by hand; its halts are listed."""

from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BeforeValidator, Field
from sqlalchemy import Connection, text

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound
from services.gateway.http.pagination import FROM_CURSOR, Moment, Page, PageQuery, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.operations.requests import Word
from services.gateway.trading import commands
from services.gateway.trading.requests import Asked, upper
from shared.contracts.base import Symbol
from shared.contracts.halts import Halt, HaltTrading, ResumeTrading
from shared.storage.keyset import Keyset, Record, records

#: In either case of its letters.
AskedSymbol = Annotated[Symbol, BeforeValidator(upper)]


class NewHalt(Halt, Asked):
    """``reason`` is told to whom an order is refused."""

    symbol: AskedSymbol
    reason: Word


class KnownHalt(Halt):
    """``began_at`` is empty until it has taken effect, ``ended_at`` until the trading is resumed."""

    id: UUID
    began_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None


class KnownHalts(Page[KnownHalt]):
    """Those that began last come first."""


class HaltQuery(PageQuery):
    cursor: Annotated[tuple[Moment, UUID], *FROM_CURSOR] | None = None
    symbol: AskedSymbol | None = None
    standing: bool | None = Field(default=None, description="Whether it has not ended.")


async def post_halt(gateway: Gateway, principal: Principal, body: NewHalt) -> KnownHalt:
    """Halt the trading of an instrument: orders for it are refused, and none of it fills until it is resumed.

    Open orders wait and may be canceled. What is halted already stays so as it is, and is answered.
    """
    found = await read(gateway, _instrument, body.symbol)
    if found is None:
        raise Invalid(f"symbol: {body.symbol} is not an instrument here", field="symbol")
    command = HaltTrading(**body.model_dump(), halt_id=uuid4())
    send = commands.noted(command, principal, "halt_trading", body.symbol, body.model_dump())
    await commands.ask(gateway, send, [] if found["id"] else [command.halt_id])
    now = await read(gateway, _instrument, body.symbol)
    return KnownHalt(**now) if now and now["id"] else KnownHalt(**body.model_dump(), id=command.halt_id)


async def delete_halt(gateway: Gateway, principal: Principal, symbol: AskedSymbol) -> None:
    """Resume the trading of an instrument: 204 when it is resumed or that is on its way, and where it is not halted."""
    found = await read(gateway, _instrument, symbol)
    if found is None:
        raise NotFound(f"{symbol} is not an instrument here")
    send = commands.noted(ResumeTrading(symbol=symbol), principal, "resume_trading", symbol, None)
    await commands.ask(gateway, send, [found["id"]] if found["id"] else [])


async def get_halts(gateway: Gateway, query: HaltQuery) -> KnownHalts:
    """All halts, those that stand and those that are over."""
    return await page_of(gateway, _HALTS.page, query, KnownHalts, ("began_at", "id"))


def standing_halts(connection: Connection) -> list[Record]:
    return records(connection, _STANDING)


def was_halted(connection: Connection, symbol: str, at: datetime) -> bool:
    return connection.execute(_COVERING, {"symbol": symbol, "at": at}).first() is not None


def _instrument(connection: Connection, symbol: str) -> Record | None:
    """The instrument with the halt that stands; None where there is no such instrument."""
    return next(iter(records(connection, _INSTRUMENT, symbol=symbol)), None)


_INSTRUMENT = text("""
SELECT i.symbol, h.id, h.reason, h.began_at FROM marketdata.instruments_v1 i
LEFT JOIN marketdata.halts_v1 h ON h.symbol = i.symbol AND h.ended_at IS NULL WHERE i.symbol = :symbol
""")
_COVERING = text("""
SELECT 1 FROM marketdata.halts_v1
WHERE symbol = :symbol AND began_at < :at AND COALESCE(ended_at, 'infinity') > :at LIMIT 1
""")
_HALTS = Keyset(
    "SELECT id, symbol, reason, began_at, ended_at FROM marketdata.halts_v1",
    ("began_at", "id"),
    {"symbol": "symbol = :symbol", "standing": "(ended_at IS NULL) = :standing"},
)
_STANDING = text("SELECT symbol, reason, began_at FROM marketdata.halts_v1 WHERE ended_at IS NULL ORDER BY symbol")
endpoints = (
    Endpoint("GET", "/api/halts", get_halts, OPERATE),
    Endpoint("POST", "/api/halts", post_halt, OPERATE, 202),
    Endpoint("DELETE", "/api/halts/{symbol}", delete_halt, OPERATE, 204),
)
