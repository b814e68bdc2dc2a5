"""``/api/account/reports`` and ``/api/account/report``: the periods of an account, and a report as JSON or a page."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from services.gateway.http.auth import ADMIN, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Query
from services.gateway.reports import queries
from services.gateway.reports.schemas import Report, ReportQuery, ReportsPage, ReportsQuery
from shared.contracts.written import Printable
from shared.pages import POLICY
from shared.reports.page import report_page

HTML = "text/html"


class AcceptHeaders(Query):
    """The media types that the client takes."""

    accept: Annotated[Printable, Field(max_length=2000)] = Field(default="*/*", alias="Accept")

    @property
    def is_html(self) -> bool:
        """True if HTML is named before JSON, as browsers do."""
        named = [each.partition(";")[0].strip().lower() for each in self.accept.split(",")]
        wanted = [each for each in named if each in {HTML, "application/json"}]
        return wanted[:1] == [HTML]


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
    """Get the report of the key's account in a day, week, month or any time, as JSON or as one HTML page.

    Its figures are those of `/api/account/performance` in the same time. The page has charts, needs nothing from
    elsewhere, and prints.

    Raises Invalid for a time in which there is no report.
    """
    return await _report(gateway, principal.account_id, query, headers)


async def get_report_of(
    gateway: Gateway, account_id: UUID, query: ReportQuery, headers: AcceptHeaders
) -> Annotated[Response, Report]:
    """Get the report of an account in a day, week, month or any time, as JSON or as one HTML page.

    Raises NotFound for an unknown account, and Invalid for a time in which there is no report.
    """
    return await _report(gateway, account_id, query, headers)


async def _periods(gateway: Gateway, account_id: UUID, query: ReportsQuery) -> ReportsPage:
    listed = queries.periods(account_id, gateway.context.clock())
    return await page_of(gateway, listed, query, ReportsPage, ("day", "period"))


async def _report(gateway: Gateway, account_id: UUID, query: ReportQuery, headers: AcceptHeaders) -> Response:
    found = await read(gateway, queries.report, account_id, query, gateway.context.clock())
    if found is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    is_html = headers.is_html if query.format is None else query.format == "html"
    return await run_in_threadpool(_response, found, is_html=is_html)


def _response(found: Any, *, is_html: bool) -> Response:
    report = Report.model_validate(found)
    if not is_html:
        return Response(
            report.model_dump_json(by_alias=True), media_type="application/json", headers={"Vary": "Accept"}
        )
    page = report_page(report.model_dump(mode="json", by_alias=True))
    return Response(page, media_type=HTML, headers={"Vary": "Accept", "Content-Security-Policy": POLICY})


endpoints = (
    Endpoint("GET", "/api/account/reports", get_reports, READ),
    Endpoint("GET", "/api/account/report", get_report, READ, other_media=(HTML,), refusals=(404,)),
    Endpoint("GET", "/api/accounts/{account_id}/reports", get_reports_of, ADMIN),
    Endpoint("GET", "/api/accounts/{account_id}/report", get_report_of, ADMIN, other_media=(HTML,)),
)
