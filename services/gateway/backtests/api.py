"""``/api/backtests``: run strategies over stored bars, and see, compare and cancel the runs."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from services.gateway.backtests import queries
from services.gateway.backtests.schemas import (
    MOST_COMPARED,
    BacktestDetail,
    BacktestPage,
    BacktestQuery,
    BacktestQueued,
    Compared,
    CompareQuery,
    Comparison,
    NewBacktest,
    Progress,
)
from services.gateway.http.auth import OPERATE, READ, TRADE_OR_OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Forbidden, Invalid, NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.instruments.history_api import check_symbols
from services.gateway.operations.job_control import change
from services.gateway.operations.schemas import RunState
from shared.backtest_report import page
from shared.contracts.backtests import BacktestRequest
from shared.contracts.indicators import IndicatorName
from shared.jobs.admin import control
from shared.pages import POLICY
from shared.storage.keyset import Record

JOB = "backtest"
#: The characters of a field that an error names.
MOST_PATH = 200
#: The class of an error at the beginning of its line.
_CLASS = re.compile(r"^[\w.]+: ")


async def post_backtest(gateway: Gateway, principal: Principal, body: NewBacktest) -> BacktestQueued:
    """Run a strategy over stored bars, by a run of the job `backtest`.

    Orders are matched by the exchange of live trading, with the costs, limits and margin in `settings`. Bars before
    `from` warm up the indicators. With `look_ahead` the strategy runs again on truncated bars, and each decision that
    changes is reported.

    Raises Invalid for an unknown strategy, parameter or symbol, and for a time without bars.
    """
    check_indicators(body.strategy.rules)
    await check_bars(gateway, body)
    run_id = await start(gateway, JOB, body, principal)
    return BacktestQueued(id=run_id, run_id=run_id)


async def get_backtests(gateway: Gateway, query: BacktestQuery) -> BacktestPage:
    """List backtests with their figures, the newest first."""
    return await page_of(gateway, _page, query, BacktestPage, ("queued_at", "id"))


async def get_backtest(gateway: Gateway, backtest_id: UUID) -> BacktestDetail:
    """Get a backtest with its state, progress, fills, round trips, equity and figures.

    Raises NotFound where no backtest has this id.
    """
    found = await read(gateway, queries.one, backtest_id, JOB)
    if found is None:
        raise NotFound(f"backtest_id: there is no backtest {backtest_id}", field="backtest_id")
    return BacktestDetail.model_validate({**(found.pop("result") or {}), **shown(found)})


async def get_backtest_report(gateway: Gateway, backtest_id: UUID) -> Annotated[Response, str]:
    """Get the report of a backtest as one HTML page with charts, which needs nothing from elsewhere.

    Raises NotFound where no finished backtest has this id.
    """
    found = await read(gateway, queries.one, backtest_id, JOB)
    if found is None or found["result"] is None:
        raise NotFound(f"backtest_id: there is no finished backtest {backtest_id}", field="backtest_id")
    strategy = found["request"].get("strategy", {}).get("kind") or "rules"
    title = f"{strategy} on {', '.join(found['request'].get('symbols', [])[:5])}"
    made = await run_in_threadpool(page, {**found["result"], "figures": found["figures"]}, title)
    return Response(made, media_type="text/html", headers={"Content-Security-Policy": POLICY})


async def get_comparison(gateway: Gateway, query: CompareQuery) -> Comparison:
    """Compare the figures and the equity of finished backtests.

    Raises NotFound for an id without a result.
    """
    ids = [_id(text) for each in query.ids for text in each.split(",")]
    if len(ids) > MOST_COMPARED:
        raise Invalid(f"ids: at most {MOST_COMPARED} backtests are compared at a time", field="ids")
    found = {each["id"]: each for each in await read(gateway, queries.results, ids)}
    missing = next((each for each in ids if each not in found), None)
    if missing is not None:
        raise NotFound(f"ids: there is no finished backtest {missing}", field="ids")
    items = [Compared.model_validate(found[each]) for each in dict.fromkeys(ids)]
    names = dict.fromkeys(name for each in items for name in each.figures)
    return Comparison(items=items, figures={name: [each.figures.get(name) for each in items] for name in names})


async def post_cancel_backtest(gateway: Gateway, principal: Principal, backtest_id: UUID) -> RunState:
    """Cancel a backtest. A queued one ends at once, a running one within about a second.

    Raises NotFound where no backtest has this id, Conflict where it has ended, and Forbidden for one of another key.
    """
    found = await read(gateway, queries.one, backtest_id, JOB)
    if found is None:
        raise NotFound(f"backtest_id: there is no backtest {backtest_id}", field="backtest_id")
    check_owner(principal, found)
    state = await change(gateway, partial(control.cancel, run_id=backtest_id, who=principal.key_id))
    return RunState(run_id=backtest_id, state=state)


def check_owner(principal: Principal, run: Record) -> None:
    """Raise Forbidden for the run of another key, unless the key may operate."""
    if run["requested_by"] != principal.key_id and not principal.may(OPERATE):
        raise Forbidden("this key can cancel its own runs only: use one with the scope 'operate'")


def check_indicators(rules: Any, path: str = "strategy.rules") -> None:
    """Raise Invalid for an indicator in the rules that there is not."""
    if isinstance(rules, Mapping):
        name = rules.get("indicator")
        if name is not None and name not in set(IndicatorName):
            known = ", ".join(IndicatorName)
            raise Invalid(f"{path}: there is no indicator {str(name)[:40]!r}, choose one of {known}", field=path)
        for key, part in rules.items():
            check_indicators(part, f"{path}.{key}"[:MOST_PATH])
    elif isinstance(rules, list):
        for number, part in enumerate(rules):
            check_indicators(part, f"{path}.{number}"[:MOST_PATH])


async def check_bars(gateway: Gateway, body: BacktestRequest) -> None:
    """Raise Invalid for a symbol that is unknown or has no bars in that time."""
    symbols = list(dict.fromkeys(body.symbols))
    await check_symbols(gateway, symbols, field="symbols")
    found = await read(gateway, queries.symbols_without_bars, symbols, body.interval, body.begin, body.end)
    if found:
        which = f"{', '.join(found[:10])} {'has' if len(found) == 1 else 'have'} no bars of {body.interval}"
        raise Invalid(f"symbols: {which} in that time; POST /api/bars/backfill fetches them", field="symbols")


async def start(gateway: Gateway, job: str, body: BacktestRequest, principal: Principal) -> UUID:
    """Queue a run of the job. Raises Invalid for a parameter that the strategy does not take."""
    parameters = body.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    parameters["symbols"] = list(dict.fromkeys(body.symbols))
    try:
        return await change(gateway, partial(control.trigger, job=job, parameters=parameters, who=principal.key_id))
    except Invalid as error:
        raise Invalid(
            str(error).removeprefix("parameters."), field=(error.field or "").removeprefix("parameters.")
        ) from None


def shown(row: Record) -> Record:
    """The row of a run as its answer shows it."""
    progress = Progress(done=row.pop("done"), total=row.pop("total"), percent=row.pop("percent"))
    error = row["error"]
    finished_at = row["finished_at"] if row["state"] == "finished" else None
    return {
        **row,
        "finished_at": finished_at,
        "error": _CLASS.sub("", error) if error else None,
        "progress": progress,
    }


def _page(*arguments: Any, **given: Any) -> list[Record]:
    return [shown(row) for row in queries.page(JOB)(*arguments, **given)]


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Invalid(f"ids: {text[:40]!r} is not the id of a backtest", field="ids") from None


endpoints = (
    Endpoint("POST", "/api/backtests", post_backtest, TRADE_OR_OPERATE, 202, refusals=(409,)),
    Endpoint("GET", "/api/backtests", get_backtests, READ),
    Endpoint("GET", "/api/backtests/compare", get_comparison, READ),
    Endpoint("GET", "/api/backtests/{backtest_id}", get_backtest, READ),
    Endpoint("GET", "/api/backtests/{backtest_id}/report", get_backtest_report, READ, media="text/html"),
    Endpoint(
        "POST", "/api/backtests/{backtest_id}/cancel", post_cancel_backtest, TRADE_OR_OPERATE, 202, refusals=(409,)
    ),
)
