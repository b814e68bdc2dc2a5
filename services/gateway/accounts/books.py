"""The books of an account as CSV, for a spreadsheet: the completed orders, and the entries of the ledger.

Rows are read and sent page by page, each page in a transaction of its own, so neither the memory nor a transaction
grows with the file or with a slow client.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from services.gateway.http.errors import NotFound
from services.gateway.http.requests import Gateway, read
from shared.account_market import account_market
from shared.money import plain
from shared.reports import report_queries
from shared.storage.keyset import Keyset, Record

#: The rows of a page.
PAGE = 1000
CSV = "text/csv"
#: A spreadsheet takes a text that begins with one of these for a formula (OWASP: CSV injection).
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True)
class Books:
    """The name of the file, its columns, and its rows, the newest first."""

    name: str
    columns: tuple[str, ...]
    rows: Keyset


async def csv_file(gateway: Gateway, account_id: UUID, books: Books, filters: Mapping[str, Any]) -> Response:
    """The rows that pass the filters, as a file. Times are by the clock of the account's market.

    Raises NotFound for an unknown account.
    """
    account = await read(gateway, report_queries.account, account_id)
    if account is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    zone = ZoneInfo((await read(gateway, account_market, account_id))["timezone"])
    given = {"account_id": account_id, **{name: value for name, value in filters.items() if value is not None}}

    def page(connection: Connection, after: tuple[Any, ...] | None) -> list[Record]:
        return books.rows.page(connection, given, after=after, limit=PAGE)

    first = await read(gateway, page, None)  # an error is answered, before the response begins
    lines = csv_lines(books.columns, _pages(gateway, page, books.rows, first), zone, account["currency"])
    headers = {"Content-Disposition": f'attachment; filename="{books.name}-{account_id}.csv"', "Vary": "Accept"}
    return StreamingResponse(lines, media_type=f"{CSV}; charset=utf-8", headers=headers)


def _pages(
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


_LEDGER_COLUMNS = (
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
)
TRADES = Books(
    "trades",
    (
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
    Keyset(
        """
        SELECT t.completed_at, t.order_id, t.generation, t.symbol, t.side, t.qty, t.avg_price, t.currency, t.fees,
               t.realized_pl, t.strategy_id, s.name AS strategy, t.submitted_at, t.first_fill_at
        FROM orders.trades_v1 t LEFT JOIN strategy.strategies_v1 s ON s.id = t.strategy_id
        """,
        ("completed_at", "order_id"),
        {
            "account_id": "t.account_id = :account_id",
            "generation": "t.generation = :generation",
            "symbol": "t.symbol = :symbol",
            "side": "t.side = :side",
            "strategy": "t.strategy_id = :strategy",
            "begin": "t.completed_at >= :begin",
            "end": "t.completed_at < :end",
        },
        table="t.",
    ),
)
LEDGER = Books(
    "ledger",
    _LEDGER_COLUMNS,
    Keyset(
        f"SELECT {', '.join(_LEDGER_COLUMNS)} FROM orders.ledger_v2",
        ("id",),
        {
            "account_id": "account_id = :account_id",
            "generation": "generation = :generation",
            "symbol": "symbol = :symbol",
            "kind": "kind = :kind",
            "begin": "at >= :begin",
            "end": "at < :end",
        },
    ),
)
