"""``/api/account/trades.csv`` and ``/api/account/ledger.csv``: the books of an account for a spreadsheet.

Rows are read and sent page by page, each page in a transaction of its own, so neither the memory nor a transaction
grows with the file or with a slow client.
"""

import csv
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from io import StringIO
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from services.gateway.http.auth import ADMIN, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Moment, Query
from services.gateway.performance.schemas import Generation
from shared.account_market import account_market
from shared.money import plain
from shared.reports import report_queries
from shared.storage.keyset import Keyset, Record

#: The rows of a page.
PAGE = 1000
#: A spreadsheet takes a text that begins with one of these for a formula (OWASP: CSV injection).
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


class BooksQuery(Query):
    """The time, by default all. ``from`` is inclusive, ``to`` is exclusive."""

    begin: Moment | None = Field(default=None, alias="from")
    end: Moment | None = Field(default=None, alias="to")
    generation: Generation | None = None


async def get_trades_csv(gateway: Gateway, principal: Principal, query: BooksQuery) -> Annotated[Response, str]:
    """Get the completed orders of the key's account as CSV, the last completed first.

    Times are by the clock of the account's market.
    """
    return await _file(gateway, principal.account_id, query, TRADES, "trades")


async def get_ledger_csv(gateway: Gateway, principal: Principal, query: BooksQuery) -> Annotated[Response, str]:
    """Get the ledger of the key's account as CSV, the last entry first.

    Times are by the clock of the account's market.
    """
    return await _file(gateway, principal.account_id, query, LEDGER, "ledger")


async def get_trades_csv_of(gateway: Gateway, account_id: UUID, query: BooksQuery) -> Annotated[Response, str]:
    """Get the completed orders of an account as CSV, the last completed first.

    Raises NotFound for an unknown account.
    """
    return await _file(gateway, account_id, query, TRADES, "trades")


async def get_ledger_csv_of(gateway: Gateway, account_id: UUID, query: BooksQuery) -> Annotated[Response, str]:
    """Get the ledger of an account as CSV, the last entry first.

    Raises NotFound for an unknown account.
    """
    return await _file(gateway, account_id, query, LEDGER, "ledger")


async def _file(gateway: Gateway, account_id: UUID, query: BooksQuery, books: Keyset, name: str) -> Response:
    account = await read(gateway, report_queries.account, account_id)
    if account is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    zone = ZoneInfo((await read(gateway, account_market, account_id))["timezone"])
    filters = {"account_id": account_id}
    filters |= {each: value for each in ("begin", "end", "generation") if (value := getattr(query, each)) is not None}

    def page(connection: Connection, after: tuple[Any, ...] | None) -> list[Record]:
        return books.page(connection, filters, after=after, limit=PAGE)

    first = await read(gateway, page, None)  # an error is answered, before the response begins
    lines = csv_lines(COLUMNS[name], _rows(gateway, page, books, first), zone, account["currency"])
    headers = {"Content-Disposition": f'attachment; filename="{name}-{account_id}.csv"'}
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _rows(
    gateway: Gateway,
    page: Callable[[Connection, tuple[Any, ...] | None], list[Record]],
    books: Keyset,
    rows: list[Record],
) -> Iterator[list[Record]]:
    """The pages of the books. Each begins after the last row of the page before."""
    while rows:
        yield rows
        if len(rows) < PAGE:
            return
        after = tuple(rows[-1][column] for column in books.key)
        with gateway.context.engine.begin() as connection:
            rows = page(connection, after)


def csv_lines(columns: tuple[str, ...], pages: Iterator[list[Record]], zone: ZoneInfo, currency: str) -> Iterator[str]:
    """The head, and the lines of each page."""
    yield ",".join((*columns, "account_currency")) + "\r\n"
    for rows in pages:
        text = StringIO()
        csv.writer(text).writerows([*(_cell(row[each], zone) for each in columns), currency] for row in rows)
        yield text.getvalue()


def _cell(value: Any, zone: ZoneInfo) -> str:
    """A cell that no spreadsheet runs: a text that begins like a formula gets an apostrophe. A number is a number."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.astimezone(zone).isoformat()
    text = str(value)
    return f"'{text}" if not isinstance(value, int) and text.lstrip(" ").startswith(FORMULAS) else text


COLUMNS = {
    "trades": (
        "completed_at",
        "order_id",
        "generation",
        "symbol",
        "side",
        "qty",
        "avg_price",
        "currency",
        "fees",
        "realized_pl",
        "strategy_id",
        "strategy",
        "submitted_at",
        "first_fill_at",
    ),
    "ledger": (
        "at",
        "id",
        "generation",
        "kind",
        "reference",
        "symbol",
        "qty",
        "cash",
        "cost",
        "fee",
        "interest",
        "realized",
        "dividend",
        "capital",
    ),
}
TRADES = Keyset(
    """
    SELECT t.completed_at, t.order_id, t.generation, t.symbol, t.side, t.qty, t.avg_price, t.currency, t.fees,
           t.realized_pl, t.strategy_id, s.name AS strategy, t.submitted_at, t.first_fill_at
    FROM orders.trades_v1 t LEFT JOIN strategy.strategies_v1 s ON s.id = t.strategy_id
    """,
    ("completed_at", "order_id"),
    {
        "account_id": "t.account_id = :account_id",
        "generation": "t.generation = :generation",
        "begin": "t.completed_at >= :begin",
        "end": "t.completed_at < :end",
    },
    table="t.",
)
LEDGER = Keyset(
    f"SELECT {', '.join(COLUMNS['ledger'])} FROM orders.ledger_v2",
    ("id",),
    {
        "account_id": "account_id = :account_id",
        "generation": "generation = :generation",
        "begin": "at >= :begin",
        "end": "at < :end",
    },
)
endpoints = (
    Endpoint("GET", "/api/account/trades.csv", get_trades_csv, READ, media="text/csv", refusals=(404,)),
    Endpoint("GET", "/api/account/ledger.csv", get_ledger_csv, READ, media="text/csv", refusals=(404,)),
    Endpoint("GET", "/api/accounts/{account_id}/trades.csv", get_trades_csv_of, ADMIN, media="text/csv"),
    Endpoint("GET", "/api/accounts/{account_id}/ledger.csv", get_ledger_csv_of, ADMIN, media="text/csv"),
)
