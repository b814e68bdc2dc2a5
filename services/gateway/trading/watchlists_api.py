"""``/v2/watchlists``: the account's lists of symbols, whose prices, news and indicators are fetched and computed first.

A list is addressed by its id or, with ``:by_name``, by its name. Its indicators are an addition to Alpaca's API.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import READ, TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import FIELD_CODE, Invalid, NotFound
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import watchlist_queries as queries
from services.gateway.trading.requests import AskedAsset
from services.gateway.trading.schemas import Watchlist, WatchlistItem
from services.gateway.trading.serializers import watchlist_item_json, watchlist_json
from services.gateway.trading.watchlist_requests import (
    MOST_COMPUTED,
    MOST_SYMBOLS,
    MOST_WATCHLISTS,
    AddedSymbol,
    NameQuery,
    NewWatchlist,
    WatchedIndicator,
    WatchlistChanges,
)
from shared.bus.unit_of_work import UnitOfWork
from shared.storage.keyset import Record

#: A watchlist is named by its id or its name.
Which = UUID | str
Change = Callable[[Connection, Record], Record]
Result = TypeVar("Result")


async def get_watchlists(gateway: Gateway, principal: Principal) -> list[WatchlistItem]:
    """List the account's watchlists without their assets, the oldest first."""
    return [watchlist_item_json(row) for row in await read(gateway, queries.watchlists, principal.account_id)]


async def post_watchlist(gateway: Gateway, principal: Principal, body: NewWatchlist) -> Watchlist:
    """Create a watchlist.

    Each of its `indicators` is computed for each of its symbols, and read at `/api/indicators/values`.

    Raises Invalid for an unknown symbol, for a name that another watchlist of the account has, and for more watchlists
    or indicators than an account may have.
    """

    def create(uow: UnitOfWork) -> Watchlist:
        symbols = _symbols(uow.connection, body.symbols)
        given = {"id": uuid4(), "account_id": principal.account_id, "name": body.name, "symbols": symbols}
        return _saved(uow, {**given, "indicators": _stored(body.indicators)})

    return await _committed(gateway, principal, create)


async def get_watchlist(gateway: Gateway, principal: Principal, watchlist_id: UUID) -> Watchlist:
    """Get a watchlist with its assets."""
    return await read(gateway, _shown, principal.account_id, watchlist_id)


async def put_watchlist(
    gateway: Gateway, principal: Principal, watchlist_id: UUID, body: WatchlistChanges
) -> Watchlist:
    """Replace the name, the symbols or the indicators of a watchlist. A field that is missing stays.

    Raises NotFound, and Invalid as the creation does.
    """
    return await _changed(gateway, principal, watchlist_id, _replacing(body))


async def post_watchlist_symbol(
    gateway: Gateway, principal: Principal, watchlist_id: UUID, body: AddedSymbol
) -> Watchlist:
    """Add a symbol at the end of a watchlist. A symbol that is there stays in its place.

    Raises NotFound, and Invalid for an unknown symbol or a full watchlist.
    """
    return await _changed(gateway, principal, watchlist_id, _adding(body))


async def delete_watchlist(gateway: Gateway, principal: Principal, watchlist_id: UUID) -> None:
    """Remove a watchlist."""
    await _removed(gateway, principal, watchlist_id)


async def delete_watchlist_symbol(
    gateway: Gateway, principal: Principal, watchlist_id: UUID, symbol: AskedAsset
) -> Watchlist:
    """Remove a symbol from a watchlist.

    Raises NotFound if there is no such watchlist, or if the symbol is not on it.
    """

    def change(connection: Connection, row: Record) -> Record:
        removed = queries.symbols_of(connection, [symbol])[symbol] or symbol
        if removed not in row["symbols"]:
            raise NotFound(f"{removed} is not on the watchlist")
        return {**row, "symbols": [each for each in row["symbols"] if each != removed]}

    return await _changed(gateway, principal, watchlist_id, change)


async def get_watchlist_by_name(gateway: Gateway, principal: Principal, query: NameQuery) -> Watchlist:
    """Get a watchlist with its assets by its name."""
    return await read(gateway, _shown, principal.account_id, query.name)


async def put_watchlist_by_name(
    gateway: Gateway, principal: Principal, query: NameQuery, body: WatchlistChanges
) -> Watchlist:
    """Replace the name, the symbols or the indicators of the watchlist with this name. A field that is missing stays.

    Raises NotFound, and Invalid as the creation does.
    """
    return await _changed(gateway, principal, query.name, _replacing(body))


async def post_watchlist_symbol_by_name(
    gateway: Gateway, principal: Principal, query: NameQuery, body: AddedSymbol
) -> Watchlist:
    """Add a symbol at the end of the watchlist with this name. A symbol that is there stays in its place.

    Raises NotFound, and Invalid for an unknown symbol or a full watchlist.
    """
    return await _changed(gateway, principal, query.name, _adding(body))


async def delete_watchlist_by_name(gateway: Gateway, principal: Principal, query: NameQuery) -> None:
    """Remove the watchlist with this name."""
    await _removed(gateway, principal, query.name)


def _replacing(body: WatchlistChanges) -> Change:
    def change(connection: Connection, row: Record) -> Record:
        symbols = row["symbols"] if body.symbols is None else _symbols(connection, body.symbols)
        indicators = row["indicators"] if body.indicators is None else _stored(body.indicators)
        return {**row, "name": body.name or row["name"], "symbols": symbols, "indicators": indicators}

    return change


def _adding(body: AddedSymbol) -> Change:
    def change(connection: Connection, row: Record) -> Record:
        (symbol,) = _symbols(connection, [body.symbol], field="symbol")
        symbols = list(dict.fromkeys([*row["symbols"], symbol]))
        if len(symbols) > MOST_SYMBOLS:
            raise Invalid(f"symbol: a watchlist has at most {MOST_SYMBOLS} symbols; remove one first", field="symbol")
        return {**row, "symbols": symbols}

    return change


async def _changed(gateway: Gateway, principal: Principal, which: Which, change: Change) -> Watchlist:
    """Save the watchlist as ``change`` returns it. Raises NotFound and Invalid."""

    def save(uow: UnitOfWork) -> Watchlist:
        return _saved(uow, change(uow.connection, _row(uow.connection, principal.account_id, which)))

    return await _committed(gateway, principal, save)


async def _removed(gateway: Gateway, principal: Principal, which: Which) -> None:
    """Remove the watchlist. Raises NotFound."""

    def remove(uow: UnitOfWork) -> None:
        queries.remove(uow.connection, _row(uow.connection, principal.account_id, which)["id"])

    await _committed(gateway, principal, remove)


async def _committed(gateway: Gateway, principal: Principal, change: Callable[[UnitOfWork], Result]) -> Result:
    """Run the change in a transaction in which no other one changes watchlists of the account."""

    def commit() -> Result:
        with gateway.context.unit_of_work() as uow:
            queries.lock_account(uow.connection, principal.account_id)
            return change(uow)

    return await run_in_threadpool(commit)


def _saved(uow: UnitOfWork, row: Record) -> Watchlist:
    """Save the watchlist. Raises Invalid if its name is taken, or if the account has too many of something."""
    others = queries.others(uow.connection, row["account_id"], row["id"], row["name"])
    if others["has_name"]:
        raise Invalid("watchlist name must be unique", field="name", code=FIELD_CODE)
    if others["count"] >= MOST_WATCHLISTS:
        raise Invalid(f"an account has at most {MOST_WATCHLISTS} watchlists; remove one first")
    if others["computed"] + len(row["symbols"]) * len(row["indicators"]) > MOST_COMPUTED:
        raise Invalid(
            f"indicators: the watchlists of an account have at most {MOST_COMPUTED} indicators, each counted for every"
            " symbol of its list; name fewer indicators or symbols",
            field="indicators",
        )
    saved = queries.save(uow.connection, row, uow.now)
    return watchlist_json(saved, queries.assets(uow.connection, saved["symbols"]))


def _shown(connection: Connection, account_id: UUID, which: Which) -> Watchlist:
    row = _row(connection, account_id, which)
    return watchlist_json(row, queries.assets(connection, row["symbols"]))


def _row(connection: Connection, account_id: UUID, which: Which) -> Record:
    """Return the watchlist's row. Raises NotFound if the account has no such watchlist."""
    row = queries.watchlist(connection, account_id, which)
    if row is None:
        raise NotFound("watchlist not found")
    return row


def _symbols(connection: Connection, asked: Sequence[str], *, field: str = "symbols") -> list[str]:
    """Return the symbols of these symbols or ids, each once. Raises Invalid for an unknown one."""
    known = queries.symbols_of(connection, asked)
    found = {each: known[each] for each in asked}
    for each, symbol in found.items():
        if symbol is None:
            raise Invalid(f"asset not found: {each}", field=field, code=FIELD_CODE)
    return list(dict.fromkeys(filter(None, found.values())))


def _stored(indicators: Sequence[WatchedIndicator]) -> list[dict[str, Any]]:
    """Return the indicators as they are stored, each once."""
    stored: list[dict[str, Any]] = []
    for each in indicators:
        if each.stored() not in stored:
            stored.append(each.stored())
    return stored


endpoints = (
    Endpoint("GET", "/v2/watchlists", get_watchlists, READ),
    Endpoint("POST", "/v2/watchlists", post_watchlist, TRADE),
    Endpoint("GET", "/v2/watchlists:by_name", get_watchlist_by_name, READ, refusals=(404,)),
    Endpoint("PUT", "/v2/watchlists:by_name", put_watchlist_by_name, TRADE, refusals=(404,)),
    Endpoint("POST", "/v2/watchlists:by_name", post_watchlist_symbol_by_name, TRADE, refusals=(404,)),
    Endpoint("DELETE", "/v2/watchlists:by_name", delete_watchlist_by_name, TRADE, 204, refusals=(404,)),
    Endpoint("GET", "/v2/watchlists/{watchlist_id}", get_watchlist, READ),
    Endpoint("PUT", "/v2/watchlists/{watchlist_id}", put_watchlist, TRADE),
    Endpoint("POST", "/v2/watchlists/{watchlist_id}", post_watchlist_symbol, TRADE),
    Endpoint("DELETE", "/v2/watchlists/{watchlist_id}", delete_watchlist, TRADE, 204),
    Endpoint("DELETE", "/v2/watchlists/{watchlist_id}/{symbol}", delete_watchlist_symbol, TRADE),
)
