"""``/api/account/reports`` and ``/api/account/report``: the periods of an account, and a report as JSON or a page."""

from typing import Annotated
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from services.gateway.accounts.books import TRADES, csv_file
from services.gateway.http.auth import ADMIN, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.formats import MEDIA, AcceptHeaders, chosen_format
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.reports import queries
from services.gateway.reports.schemas import Report, ReportQuery, ReportsPage, ReportsQuery
from shared.pages import POLICY
from shared.reports.page import report_page
from shared.reports.periods import INSTANT

_REFUSALS = (404, 406)
_OTHER = (MEDIA["html"], MEDIA["csv"])


async def get_reports(gateway: Gateway, principal: Principal, query: ReportsQuery) -> ReportsPage:
    """List the days, weeks and months of the key's account generation, the latest first, each with its report's time.

    The one under way is among them.
    """
    return await _periods(gateway, principal.account_id, query)


async def get_reports_of(gateway: Gateway, account_id: UUID, query: ReportsQuery) -> ReportsPage:
    """List the days, weeks and months of an account generation, the latest first."""
    return await _periods(gateway, account_id, query)


async def get_report(
    gateway: Gateway, principal: Principal, query: ReportQuery, headers: AcceptHeaders
) -> Annotated[Response, Report]:
    """Get the report of the key's account in a day, week, month or any time, as JSON, as one HTML page or as CSV.

    Its figures are those of `/api/account/performance` in the same time. The page has charts, needs nothing from
    elsewhere, and prints. The CSV has the orders that were completed in the time.

    Raises Invalid for a time in which there is no report, and NotAcceptable for another media type.
    """
    return await _report(gateway, principal.account_id, query, headers)


async def get_report_of(
    gateway: Gateway, account_id: UUID, query: ReportQuery, headers: AcceptHeaders
) -> Annotated[Response, Report]:
    """Get the report of an account in a day, week, month or any time, as JSON, as one HTML page or as CSV.

    Raises NotFound for an unknown account, Invalid for a time in which there is no report, and NotAcceptable for
    another media type.
    """
    return await _report(gateway, account_id, query, headers)


async def _periods(gateway: Gateway, account_id: UUID, query: ReportsQuery) -> ReportsPage:
    listed = queries.periods(account_id, gateway.context.clock())
    return await page_of(gateway, listed, query, ReportsPage, ("day", "period"))


async def _report(gateway: Gateway, account_id: UUID, query: ReportQuery, headers: AcceptHeaders) -> Response:
    chosen = chosen_format(query.format, headers, "json", "html", "csv")
    found = await read(gateway, queries.report, account_id, query, gateway.context.clock())
    if found is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    report = await run_in_threadpool(Report.model_validate, found)
    if chosen == "csv":
        filters = {"begin": report.begin, "end": report.end + INSTANT, "generation": report.generation}
        return await csv_file(gateway, account_id, TRADES, filters)
    return await run_in_threadpool(_response, report, is_html=chosen == "html")


def _response(report: Report, *, is_html: bool) -> Response:
    if not is_html:
        return Response(
            report.model_dump_json(by_alias=True), media_type="application/json", headers={"Vary": "Accept"}
        )
    page = report_page(report.model_dump(mode="json", by_alias=True))
    return Response(page, media_type=MEDIA["html"], headers={"Vary": "Accept", "Content-Security-Policy": POLICY})


endpoints = (
    Endpoint("GET", "/api/account/reports", get_reports, READ),
    Endpoint("GET", "/api/account/report", get_report, READ, other_media=_OTHER, refusals=_REFUSALS),
    Endpoint("GET", "/api/accounts/{account_id}/reports", get_reports_of, ADMIN),
    Endpoint("GET", "/api/accounts/{account_id}/report", get_report_of, ADMIN, other_media=_OTHER, refusals=_REFUSALS),
)
