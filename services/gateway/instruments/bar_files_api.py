"""``/api/bars/import`` and ``/api/bars/export``: files of bars, CSV and Parquet."""

from collections.abc import Iterator
from io import StringIO
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.gateway.http.auth import OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import BodyTooLarge, Invalid, Malformed
from services.gateway.http.requests import Gateway
from services.gateway.http.schemas import AnyCaseSymbol, DayOrMoment, Query, Word
from services.gateway.instruments import history_queries
from services.gateway.instruments.history_api import check_symbols
from services.gateway.trading import commands
from shared.bar_files import COLUMNS, WrongFile, csv_line, parquet_chunks, read_csv
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.bars import MOST_BARS, Adjustment, BarFields, Interval, StoreBars, WholeBar, WrongBar
from shared.jobs.admin import control

#: The bytes of a file that is sent, about 40,000 bars. Larger files are imported by the command.
MOST_BYTES = 4 * 1024 * 1024
#: Wrong lines that an answer names.
MOST_NAMED = 100


class ImportQuery(Query):
    """Query parameters of an import. ``interval`` and ``provider`` are those of bars without such a column."""

    interval: Interval | None = None
    provider: Annotated[Word, Field(max_length=40)] = "import"
    partial: bool = Field(default=False, description="True to leave wrong lines out. Else one of them refuses all.")


class WrongLine(BaseModel):
    """A line that was left out."""

    line: int
    field: str
    reason: str


class BarsImported(BaseModel):
    """The number of bars that will be stored, and of lines that were left out, of which the first are named."""

    bars: int
    refused: int
    wrong: list[WrongLine]


class ExportQuery(Query):
    """Query parameters of an export. ``from`` is inclusive, ``to`` is exclusive."""

    symbol: AnyCaseSymbol
    interval: Interval
    begin: DayOrMoment = Field(default=history_queries.EARLIEST, alias="from")
    end: DayOrMoment = Field(default=history_queries.LATEST, alias="to")
    adjustment: Adjustment = Adjustment.RAW
    format: Literal["csv", "parquet"] = "csv"


async def post_bar_import(gateway: Gateway, principal: Principal, request: Request, query: ImportQuery) -> BarsImported:
    """Store the bars of a CSV file, which is the body.

    Its columns are `symbol,interval,start,open,high,low,close,volume,provider`. A bar replaces the stored one of the
    same symbol, interval and start. A wrong line refuses the whole file, unless `partial` leaves it out.

    Raises Invalid with the line and the field, Malformed if the body is not CSV, and BodyTooLarge.
    """
    body = await read_csv_body(request)
    good, wrong = await run_in_threadpool(parsed, gateway, body, query)
    if wrong and not query.partial:
        first = wrong[0]
        raise Invalid(f"line {first.line}, {first.reason}", field=first.field)
    if not good:
        raise Invalid("body: has no bars", field="body")
    summary = {"bars": len(good), "refused": len(wrong)}

    def publish(uow: UnitOfWork) -> None:
        for begin in range(0, len(good), MOST_BARS):
            uow.publish(StoreBars(bars=tuple(good[begin : begin + MOST_BARS])))
        control.record_action(uow, principal.key_id, "import_bars", good[0].symbol, None, summary)

    await commands.send(gateway, publish, (), account_id=None)
    return BarsImported(**summary, wrong=wrong[:MOST_NAMED])


async def get_bar_export(gateway: Gateway, query: ExportQuery) -> Annotated[Response, str]:
    """Get the bars of a symbol as a file, the oldest first: CSV, or Parquet.

    Raises Invalid for an unknown symbol.
    """
    await check_symbols(gateway, [query.symbol], field="symbol")
    name = f"{query.symbol.replace('/', '-')}-{query.interval}.{query.format}"
    chunks = csv_chunks(gateway, query) if query.format == "csv" else parquet_chunks(pages(gateway, query))
    media = "text/csv; charset=utf-8" if query.format == "csv" else "application/vnd.apache.parquet"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(chunks, media_type=media, headers=headers)


async def read_csv_body(request: Request) -> str:
    """Read the body as text. Raises BodyTooLarge and Malformed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise BodyTooLarge(f"body: must not be larger than {MOST_BYTES} bytes; import it by command", field="body")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"body: is not CSV in UTF-8: {error.reason} at byte {error.start}", field="body") from None


def parsed(gateway: Gateway, body: str, query: ImportQuery) -> tuple[list[WholeBar], list[WrongLine]]:
    """Parse all lines into bars, and those that are wrong or of unknown symbols. Raises Malformed."""
    now = gateway.context.clock()
    good: list[WholeBar] = []
    wrong: list[WrongLine] = []
    try:
        lines = list(read_csv(StringIO(body, newline=""), now, interval=query.interval, provider=query.provider))
    except WrongFile as error:
        raise Malformed(f"body: {error}", field="body") from None
    symbols = {bar.symbol for _, bar in lines if isinstance(bar, BarFields)}
    with gateway.context.engine.begin() as connection:
        unknown = set(history_queries.unknown_symbols(connection, sorted(symbols)))
    for line, bar in lines:
        refused = bar if isinstance(bar, WrongBar) else None
        if isinstance(bar, BarFields) and bar.symbol in unknown:
            refused = WrongBar("symbol", f"unknown instrument {bar.symbol}")
        if refused is not None:
            wrong.append(WrongLine(line=line, field=refused.field, reason=str(refused)))
        elif isinstance(bar, BarFields):
            good.append(WholeBar(**bar._asdict()))
    return good, wrong


def pages(gateway: Gateway, query: ExportQuery) -> Iterator[list[tuple[object, ...]]]:
    """The bars page by page, in one transaction that sees them as of its begin."""
    with gateway.context.engine.begin() as connection:
        yield from history_queries.bars_to_export(
            connection, query.symbol, query.interval, query.adjustment, query.begin, query.end
        )


def csv_chunks(gateway: Gateway, query: ExportQuery) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for page in pages(gateway, query):
        yield "".join(map(csv_line, page))


endpoints = (
    Endpoint(
        "POST",
        "/api/bars/import",
        post_bar_import,
        OPERATE,
        202,
        refusals=(408, 413),
        most_bytes=MOST_BYTES,
        file="text/csv",
    ),
    Endpoint(
        "GET",
        "/api/bars/export",
        get_bar_export,
        READ,
        media="text/csv",
        other_media=("application/vnd.apache.parquet",),
    ),
)
