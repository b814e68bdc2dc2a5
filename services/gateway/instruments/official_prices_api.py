"""``/api/official-prices``: the official opens and closes, and entering one that no provider tells."""

from datetime import date
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator, ConfigDict
from sqlalchemy import Connection, text

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid
from services.gateway.http.pagination import FROM_CURSOR, Moment, Page, PageQuery, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.instruments import halts_api
from services.gateway.trading import commands
from services.gateway.trading.requests import upper
from shared.contracts.base import Symbol
from shared.contracts.official_prices import AuctionKind, AuctionPrice, EnterOfficialPrice, OfficialPrice
from shared.storage.keyset import Keyset, Record, records


class NewOfficialPrice(AuctionPrice):
    """Without ``held_at`` the auction was held when it was due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: Annotated[Symbol, BeforeValidator(upper)]
    held_at: Moment | None = None


class KnownOfficialPrice(OfficialPrice):
    """``known_at`` is empty until it is kept. ``split_count``: splits of the symbol before the auction."""

    known_at: AwareDatetime | None = None
    provider: str | None = None
    split_count: int | None = None


class KnownOfficialPrices(Page[KnownOfficialPrice]):
    """Those of the latest auctions come first."""


class OfficialPriceQuery(PageQuery):
    cursor: Annotated[tuple[Moment, str, str], *FROM_CURSOR] | None = None
    symbol: Annotated[Symbol, BeforeValidator(upper)] | None = None
    kind: AuctionKind | None = None
    day: date | None = None


async def post_official_price(gateway: Gateway, principal: Principal, body: NewOfficialPrice) -> KnownOfficialPrice:
    """Enter the official open or close of a trading day, at which the orders for that auction trade.

    It is final: one that is known already is refused.
    """
    command = await _command(gateway, body)
    after = command.model_dump(mode="json")
    await commands.ask(gateway, commands.noted(command, principal, "enter_official_price", body.symbol, after), ())
    return KnownOfficialPrice(**command.model_dump())


async def _command(gateway: Gateway, body: NewOfficialPrice) -> EnterOfficialPrice:
    found = await read(gateway, _auction, body)
    if found is None:
        raise Invalid(f"symbol: {body.symbol} is not an instrument here", field="symbol")
    due, now = found["due_at"], gateway.context.clock()
    if due is None:
        raise Invalid(f"day: {body.day} is no trading day of {body.symbol}", field="day")
    if found["known"]:
        raise Invalid(f"day: the official {body.kind} of {body.day} is known already", field="day")
    held_at = body.held_at or due
    if max(due, held_at) > now:
        raise Invalid("held_at: the auction is not over", field="held_at")
    if await read(gateway, halts_api.was_halted, body.symbol, held_at):
        raise Invalid(f"held_at: {body.symbol} was halted then", field="held_at")
    return EnterOfficialPrice(**{**body.model_dump(), "held_at": held_at})


def _auction(connection: Connection, body: NewOfficialPrice) -> Record | None:
    """When the auction was due, and whether its price is known; None where the symbol is no instrument."""
    found = records(connection, _AUCTION, symbol=body.symbol, kind=body.kind.value, day=body.day)
    return found[0] if found else None


async def get_official_prices(gateway: Gateway, query: OfficialPriceQuery) -> KnownOfficialPrices:
    """All official opens and closes that are known."""
    return await page_of(gateway, _PRICES.page, query, KnownOfficialPrices, ("held_at", "symbol", "kind"))


_AUCTION = text("""
SELECT CASE :kind WHEN 'open' THEN d.open_at ELSE d.close_at END AS due_at,
       EXISTS (SELECT FROM marketdata.official_prices_v1 p
               WHERE p.symbol = i.symbol AND p.day = :day AND p.kind = :kind) AS known
FROM marketdata.instruments_v1 i
LEFT JOIN marketdata.trading_days_v1 d ON d.market = i.market AND d.day = :day
WHERE i.symbol = :symbol
""")
_PRICES = Keyset(
    """SELECT symbol, kind, day, price, volume, held_at, known_at, provider, split_count
    FROM marketdata.official_prices_v1""",
    ("held_at", "symbol", "kind"),
    {"symbol": "symbol = :symbol", "kind": "kind = :kind", "day": "day = :day"},
)
endpoints = (
    Endpoint("GET", "/api/official-prices", get_official_prices, OPERATE),
    Endpoint("POST", "/api/official-prices", post_official_price, OPERATE, 202),
)
