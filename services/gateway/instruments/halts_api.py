"""``/api/halts``: halt and resume trading of an instrument, and list its halts."""

from uuid import UUID, uuid4

from pydantic import AwareDatetime, Field

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound
from services.gateway.http.pagination import Page, PageQuery, TimeCursor, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import AnyCaseSymbol, Query, Word
from services.gateway.instruments import queries
from services.gateway.trading import commands
from shared.contracts.halts import Halt, HaltTrading, ResumeTrading
from shared.storage.keyset import Keyset


class NewHalt(Halt, Query):
    """The halt to begin. ``reason`` is part of the error for rejected orders."""

    symbol: AnyCaseSymbol
    reason: Word


class HaltItem(Halt):
    """A halt. ``began_at`` is null while it is pending, ``ended_at`` until trading is resumed."""

    id: UUID
    began_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None


class HaltPage(Page[HaltItem]):
    """Halts, the last one first."""


class HaltQuery(PageQuery):
    cursor: TimeCursor | None = None
    symbol: AnyCaseSymbol | None = None
    standing: bool | None = Field(default=None, description="True for halts that have not ended.")


async def post_halt(gateway: Gateway, principal: Principal, body: NewHalt) -> HaltItem:
    """Halt trading of an instrument: new orders are rejected, and none fills until trading is resumed.

    Open orders stay open and may be canceled. If the instrument is halted already, the result is that halt, unchanged.

    Raises Invalid for an unknown symbol.
    """
    found = await read(gateway, queries.instrument_with_halt, body.symbol)
    if found is None:
        raise Invalid(f"symbol: unknown instrument {body.symbol}", field="symbol")
    command = HaltTrading(**body.model_dump(), halt_id=uuid4())
    publish = commands.recorded(command, principal, "halt_trading", body.symbol, body.model_dump())
    await commands.send(gateway, publish, [] if found["id"] else [command.halt_id], account_id=None)
    halted = await read(gateway, queries.instrument_with_halt, body.symbol)
    return HaltItem(**halted) if halted and halted["id"] else HaltItem(**body.model_dump(), id=command.halt_id)


async def delete_halt(gateway: Gateway, principal: Principal, symbol: AnyCaseSymbol) -> None:
    """Resume trading of an instrument.

    The status is 204 if trading is resumed, if that is pending, and if the instrument is not halted.

    Raises NotFound for an unknown symbol.
    """
    found = await read(gateway, queries.instrument_with_halt, symbol)
    if found is None:
        raise NotFound(f"unknown instrument {symbol}")
    publish = commands.recorded(ResumeTrading(symbol=symbol), principal, "resume_trading", symbol, None)
    await commands.send(gateway, publish, [found["id"]] if found["id"] else [], account_id=None)


async def get_halts(gateway: Gateway, query: HaltQuery) -> HaltPage:
    """List all halts, the last one first."""
    return await page_of(gateway, _HALTS.page, query, HaltPage, ("began_at", "id"))


_HALTS = Keyset(
    "SELECT id, symbol, reason, began_at, ended_at FROM marketdata.halts_v1",
    ("began_at", "id"),
    {"symbol": "symbol = :symbol", "standing": "(ended_at IS NULL) = :standing"},
)
endpoints = (
    Endpoint("GET", "/api/halts", get_halts, OPERATE),
    Endpoint("POST", "/api/halts", post_halt, OPERATE, 202),
    Endpoint("DELETE", "/api/halts/{symbol}", delete_halt, OPERATE, 204),
)
