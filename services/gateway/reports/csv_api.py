"""``/api/account/trades.csv`` and ``/api/account/ledger.csv``: the books of an account for a spreadsheet."""

from typing import Annotated
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from services.gateway.accounts.books import CSV, LEDGER, TRADES, Books, csv_file
from services.gateway.http.auth import ADMIN, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway
from services.gateway.http.schemas import Moment, Query
from services.gateway.performance.schemas import Generation


class BooksQuery(Query):
    """The time, by default all. ``from`` is inclusive, ``to`` is exclusive."""

    begin: Moment | None = Field(default=None, alias="from")
    end: Moment | None = Field(default=None, alias="to")
    generation: Generation | None = None


async def get_trades_csv(gateway: Gateway, principal: Principal, query: BooksQuery) -> Annotated[Response, str]:
    """Get the completed orders of the key's account as CSV, the last completed first.

    Times are by the clock of the account's market.
    """
    return await _file(gateway, principal.account_id, query, TRADES)


async def get_ledger_csv(gateway: Gateway, principal: Principal, query: BooksQuery) -> Annotated[Response, str]:
    """Get the ledger of the key's account as CSV, the last entry first.

    Times are by the clock of the account's market.
    """
    return await _file(gateway, principal.account_id, query, LEDGER)


async def get_trades_csv_of(gateway: Gateway, account_id: UUID, query: BooksQuery) -> Annotated[Response, str]:
    """Get the completed orders of an account as CSV, the last completed first.

    Raises NotFound for an unknown account.
    """
    return await _file(gateway, account_id, query, TRADES)


async def get_ledger_csv_of(gateway: Gateway, account_id: UUID, query: BooksQuery) -> Annotated[Response, str]:
    """Get the ledger of an account as CSV, the last entry first.

    Raises NotFound for an unknown account.
    """
    return await _file(gateway, account_id, query, LEDGER)


async def _file(gateway: Gateway, account_id: UUID, query: BooksQuery, books: Books) -> Response:
    filters = {"begin": query.begin, "end": query.end, "generation": query.generation}
    return await csv_file(gateway, account_id, books, filters)


endpoints = (
    Endpoint("GET", "/api/account/trades.csv", get_trades_csv, READ, media=CSV, refusals=(404,)),
    Endpoint("GET", "/api/account/ledger.csv", get_ledger_csv, READ, media=CSV, refusals=(404,)),
    Endpoint("GET", "/api/accounts/{account_id}/trades.csv", get_trades_csv_of, ADMIN, media=CSV),
    Endpoint("GET", "/api/accounts/{account_id}/ledger.csv", get_ledger_csv_of, ADMIN, media=CSV),
)
