"""``/v2/account/portfolio/history``: the equity of the account over time, as Alpaca shows it."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import Field, PlainSerializer, model_validator
from sqlalchemy import Connection, text
from typing_extensions import TypedDict  # pydantic cannot read the standard one before Python 3.12

from services.gateway.http.auth import READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotReady
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Day, Moment, Query
from shared.account_market import account_market
from shared.money import ZERO
from shared.reports import queries
from shared.storage.keyset import Record, records

Timeframe = Literal["1Min", "5Min", "15Min", "1H", "1D"]
_LENGTHS: dict[Timeframe, timedelta] = {
    "1Min": timedelta(minutes=1),
    "5Min": timedelta(minutes=5),
    "15Min": timedelta(minutes=15),
    "1H": timedelta(hours=1),
    "1D": timedelta(days=1),
}
#: Alpaca: a minute's timeframe shows at most a week, and other times of a day at most a month.
_MOST: dict[Timeframe, timedelta] = {
    "1Min": timedelta(days=7),
    "5Min": timedelta(days=30),
    "15Min": timedelta(days=30),
    "1H": timedelta(days=30),
    "1D": timedelta(days=36_600),
}
_UNITS = {"D": timedelta(days=1), "W": timedelta(weeks=1), "M": timedelta(days=30), "A": timedelta(days=365)}
_ALL = timedelta(days=36_500)
#: A number in the response. The system computes with decimal numbers.
Number = Annotated[Decimal, PlainSerializer(float, return_type=float)]


class HistoryQuery(Query):
    """Two of ``period``, ``start`` and ``end`` may be given. ``date_end`` is Alpaca's older name of the end.

    The values are those of the whole day: ``intraday_reporting`` and ``extended_hours`` change nothing.
    """

    period: Annotated[str, Field(max_length=5, pattern=r"^([1-9][0-9]{0,3}[DWMA]|all)$")] | None = None
    timeframe: Timeframe | None = None
    start: Moment | Day | None = None
    end: Moment | Day | None = None
    date_end: Day | None = None
    intraday_reporting: Literal["market_hours", "extended_hours", "continuous"] = "market_hours"
    pnl_reset: Literal["per_day", "no_reset"] = "per_day"
    extended_hours: bool | None = None
    cashflow_types: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z_]+(,[A-Za-z_]+)*$")] | None = None

    @model_validator(mode="after")
    def _names_one_stretch(self) -> Self:
        if None not in (self.period, self.start, self.end or self.date_end):
            raise ValueError("period: give two of period, start and end")
        for name in ("start", "end", "date_end"):
            given = getattr(self, name)
            if given is not None and not 1970 <= given.year <= 2200:
                raise ValueError(f"{name}: must be between 1970 and 2200")
        return self

    def stretch(self, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """The time that is asked for. A day is one of the zone."""
        last = self.end or self.date_end
        end = min(_moment(last, zone, timedelta(days=1)), now) if last else now
        if self.start is not None:
            begin = _moment(self.start, zone, timedelta(0))
            return begin, begin + _length(self.period) if self.period and last is None else end
        return max(end - _length(self.period or "1M"), datetime(1970, 1, 1, tzinfo=UTC)), end


class PortfolioHistory(TypedDict):
    """A value for each timestamp. ``profit_loss`` is without deposits, ``profit_loss_pct`` its part of ``base_value``.

    ``cashflow`` has the deposits (CSD) and withdrawals (CSW) of each timestamp, where they are asked for.
    """

    timestamp: list[int]
    equity: list[Number]
    profit_loss: list[Number]
    profit_loss_pct: list[Number]
    base_value: Number
    base_value_asof: str | None
    timeframe: str
    cashflow: dict[str, list[Number]]


class _Value(NamedTuple):
    at: datetime
    equity: Decimal
    net_deposits: Decimal


async def get_portfolio_history(gateway: Gateway, principal: Principal, query: HistoryQuery) -> PortfolioHistory:
    """Get the account's equity and profit over time, since it was reset last.

    Raises NotReady while the account is being opened.
    """
    found = await read(gateway, _history, principal.account_id, query, gateway.context.clock())
    if found is None:
        raise NotReady("the account is being opened; retry in a moment")
    return found


def _history(connection: Connection, account_id: Any, query: HistoryQuery, now: datetime) -> PortfolioHistory | None:
    account = queries.account(connection, account_id)
    if account is None:
        return None
    zone = ZoneInfo(account_market(connection, account_id)["timezone"])
    begin, end = query.stretch(now, zone)
    timeframe = query.timeframe or _suiting(end - begin)
    begin = max(begin, end - _MOST[timeframe])
    terms = {"account_id": account_id, "generation": account["generation"], "begin": begin, "end": end}
    step = {"step": _LENGTHS[timeframe], "zone": zone.key}
    rows = [_Value(**row) for row in records(connection, _VALUES, **terms, **step)]
    transfers = queries.transfers(connection, account_id, account["generation"])
    before = next(iter(records(connection, _BEFORE, **terms)), None)
    base = _Value(**before) if before else _first(rows, transfers, account["equity"], begin)
    resets = query.pnl_reset == "per_day" and timeframe != "1D"
    profits = _profits(base, rows, zone if resets else None)
    asked = {each.upper() for each in (query.cashflow_types or "").split(",")}
    return {
        "timestamp": [int(row.at.timestamp()) for row in rows],
        "equity": [row.equity for row in rows],
        "profit_loss": profits,
        "profit_loss_pct": [round(each / base.equity, 6) if base.equity > 0 else ZERO for each in profits],
        "base_value": base.equity,
        "base_value_asof": base.at.astimezone(zone).date().isoformat() if before else None,
        "timeframe": timeframe,
        "cashflow": {
            kind: _flows(rows, base.at, transfers, sign)
            for kind, sign in (("CSD", 1), ("CSW", -1))
            if asked & {kind, "ALL"}
        },
    }


def _first(rows: Sequence[_Value], transfers: Sequence[Record], equity: Decimal, begin: datetime) -> _Value:
    """The cash with which the generation began, where no value from before the time is known."""
    if transfers:
        return _Value(transfers[0]["at"], transfers[0]["cash"], transfers[0]["cash"])
    return rows[0] if rows else _Value(begin, equity, ZERO)


def _profits(base: _Value, rows: Sequence[_Value], zone: ZoneInfo | None) -> list[Decimal]:
    """The profit of each value since the base, or with a zone since the last value of the day before."""
    profits, since, previous = [], base, base
    for row in rows:
        if zone is not None and row.at.astimezone(zone).date() != previous.at.astimezone(zone).date():
            since = previous
        profits.append(row.equity - row.net_deposits - since.equity + since.net_deposits)
        previous = row
    return profits


def _flows(rows: Sequence[_Value], begin: datetime, transfers: Sequence[Record], sign: int) -> list[Decimal]:
    """The cash that came, or went, since the value before each."""
    flows, before = [], begin
    for row in rows:
        moved = [each["cash"] for each in transfers if before < each["at"] <= row.at and each["cash"] * sign > 0]
        flows.append(sum(moved, ZERO))
        before = row.at
    return flows


def _suiting(length: timedelta) -> Timeframe:
    """Alpaca's default: minutes up to a week, quarters of an hour up to a month, then days."""
    if length < timedelta(days=7):
        return "1Min"
    return "15Min" if length < timedelta(days=30) else "1D"


def _length(period: str) -> timedelta:
    found = re.fullmatch(r"([0-9]+)([DWMA])", period)
    return min(int(found[1]) * _UNITS[found[2]], _ALL) if found else _ALL


def _moment(given: Any, zone: ZoneInfo, more: timedelta) -> datetime:
    """A time as it is, and a day as its midnight in the zone, ``more`` later."""
    if isinstance(given, datetime):
        return given
    return datetime(given.year, given.month, given.day, tzinfo=zone) + more


#: The last value of each step, in steps that begin at the zone's midnight.
_VALUES = text("""
SELECT at, equity, net_deposits FROM (
  SELECT DISTINCT ON (bin) date_bin(:step, s.at AT TIME ZONE :zone, '2000-01-01') AS bin, s.at, s.equity,
         COALESCE(s.net_deposits, 0) AS net_deposits
  FROM valuation.account_summaries_v1 s
  WHERE s.account_id = :account_id AND s.generation = :generation AND s.at > :begin AND s.at <= :end
  ORDER BY bin, s.at DESC
) last ORDER BY at
""")
_BEFORE = text("""
SELECT s.at, s.equity, COALESCE(s.net_deposits, 0) AS net_deposits FROM valuation.account_summaries_v1 s
WHERE s.account_id = :account_id AND s.generation = :generation AND s.at <= :begin ORDER BY s.at DESC LIMIT 1
""")
endpoints = (Endpoint("GET", "/v2/account/portfolio/history", get_portfolio_history, READ),)
