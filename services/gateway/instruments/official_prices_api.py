"""``/api/official-prices``: list official opening and closing prices, and enter one that no provider has."""

from typing import Annotated

from pydantic import AwareDatetime, ConfigDict

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid
from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import AnyCaseSymbol, Day, Moment
from services.gateway.instruments import queries
from services.gateway.trading import commands
from shared.contracts.official_prices import AuctionKind, AuctionPrice, EnterOfficialPrice, OfficialPrice
from shared.storage.keyset import Keyset


class NewOfficialPrice(AuctionPrice):
    """The price to enter. ``held_at`` defaults to the scheduled time of the auction."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: AnyCaseSymbol
    day: Day
    held_at: Moment | None = None


class OfficialPriceItem(OfficialPrice):
    """An official price. ``known_at`` is null while it is pending.

    ``split_count`` is the number of the symbol's splits and dividends before the auction.
    """

    known_at: AwareDatetime | None = None
    provider: str | None = None
    split_count: int | None = None


class OfficialPricePage(Page[OfficialPriceItem]):
    """Official prices, those of the last auction first."""


class OfficialPriceQuery(PageQuery):
    cursor: Annotated[tuple[Moment, str, str], *FROM_CURSOR] | None = None
    symbol: AnyCaseSymbol | None = None
    kind: AuctionKind | None = None
    day: Day | None = None


async def post_official_price(gateway: Gateway, principal: Principal, body: NewOfficialPrice) -> OfficialPriceItem:
    """Enter the official open or close of a trading day. Orders for that auction fill at it.

    An official price is final: once it is known, another one is rejected.

    Raises Invalid for an unknown symbol, a day without that auction, an auction that has not ended, and one during a
    halt.
    """
    auction = await read(gateway, queries.auction, body.symbol, body.kind, body.day)
    if auction is None:
        raise Invalid(f"symbol: unknown instrument {body.symbol}", field="symbol")
    if auction["due_at"] is None:
        raise Invalid(f"day: {body.day} is not a trading day of {body.symbol}", field="day")
    if auction["known"]:
        raise Invalid(f"day: the official {body.kind} of {body.day} is already known", field="day")
    held_at = body.held_at or auction["due_at"]
    if max(auction["due_at"], held_at) > gateway.context.clock():
        raise Invalid("held_at: the auction has not ended yet; enter its price afterwards", field="held_at")
    if await read(gateway, queries.was_halted, body.symbol, held_at):
        raise Invalid(f"held_at: trading of {body.symbol} was halted at that time", field="held_at")
    command = EnterOfficialPrice(**{**body.model_dump(), "held_at": held_at})
    after = command.model_dump(mode="json")
    publish = commands.recorded(command, principal, "enter_official_price", body.symbol, after)
    await commands.send(gateway, publish, (), account_id=None)
    return OfficialPriceItem(**command.model_dump())


async def get_official_prices(gateway: Gateway, query: OfficialPriceQuery) -> OfficialPricePage:
    """List all official opening and closing prices, those of the last auction first."""
    return await page_of(gateway, _PRICES.page, query, OfficialPricePage, ("held_at", "symbol", "kind"))


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
