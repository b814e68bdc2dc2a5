"""``/v2/account/portfolio/history``: the equity of the account over time, as Alpaca shows it."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Self
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import Field, PlainSerializer, model_validator
from sqlalchemy import Connection, text
from typing_extensions import TypedDict  # pydantic cannot read the standard one before Python 3.12

from services.gateway.http.auth import READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotReady
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

    ``intraday_reporting`` chooses the hours of values within a day: those of regular trading, those with the trading
    before and after it (``extended_hours`` is Alpaca's older name), or all. A value of ``1D`` is that of a trading day.
    """

    period: Annotated[str, Field(max_length=5, pattern=r"^([1-9][0-9]{0,3}[DWMA]|all)$")] | None = None
    timeframe: Timeframe | None = None
    start: Moment | Day | None = None
    end: Moment | Day | None = None
    date_end: Day | None = None
    intraday_reporting: Literal["market_hours", "extended_hours", "continuous"] | None = None
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

    @property
    def phases(self) -> list[str] | None:
        """The phases of a day that are shown, None for all of them."""
        hours = self.intraday_reporting or ("extended_hours" if self.extended_hours else "market_hours")
        if hours == "continuous":
            return None
        return ["regular"] if hours == "market_hours" else ["pre_market", "regular", "after_hours"]

    def stretch(self, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """The time that is asked for. A day is one of the zone."""
        last = self.end or self.date_end
        end = min(_moment(last, zone, timedelta(days=1)), now) if last else now
        if self.start is not None:
            begin = _moment(self.start, zone, timedelta(0))
            return begin, begin + _length(self.period) if self.period and last is None else end
        return max(end - _length(self.period or "1M"), datetime(1970, 1, 1, tzinfo=UTC)), end


class PortfolioHistory(TypedDict):
    """A value for each timestamp, which is the begin of its step.

    ``profit_loss`` is without deposits, ``profit_loss_pct`` its part of ``base_value``. ``cashflow`` has the deposits
    (CSD) and withdrawals (CSW) of each timestamp, where they are asked for.
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
    """The last value of the step that began at ``start``."""

    start: datetime
    at: datetime
    equity: Decimal
    net_deposits: Decimal


async def get_portfolio_history(gateway: Gateway, principal: Principal, query: HistoryQuery) -> PortfolioHistory:
    """Get the account's equity and profit over time, since it was reset last.

    Raises NotReady while the account is being opened.
    """
    found = await read(gateway, history_of, principal.account_id, query, gateway.context.clock())
    if found is None:
        raise NotReady("the account is being opened; retry in a moment")
    return found


def history_of(connection: Connection, account_id: UUID, query: HistoryQuery, now: datetime) -> PortfolioHistory | None:
    """Return the response, or None for an unknown account. Raises Invalid for a time that ends before it begins."""
    account = queries.account(connection, account_id)
    if account is None:
        return None
    market = account_market(connection, account_id)
    zone = ZoneInfo(market["timezone"])
    begin, end = query.stretch(now, zone)
    if begin >= end:
        raise Invalid("start: must be before end, and not in the future", field="start")
    timeframe = query.timeframe or _suiting(end - begin)
    begin = max(begin, end - _MOST[timeframe])
    terms = {"account_id": account_id, "generation": account["generation"], "begin": begin, "end": end}
    rows = [_Value(**row) for row in _rows(connection, terms, market, timeframe, query.phases)]
    transfers = queries.transfers(connection, account_id, account["generation"])
    before = next(iter(records(connection, _BEFORE, **terms)), None)
    base = _Value(**before) if before else _first(rows, transfers, account["equity"], begin)
    resets = query.pnl_reset == "per_day" and timeframe != "1D"
    profits = _profits(base, rows, zone if resets else None)
    asked = {each.upper() for each in (query.cashflow_types or "").split(",")}
    return {
        "timestamp": [int(row.start.timestamp()) for row in rows],
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


def _rows(
    connection: Connection, terms: Mapping[str, Any], market: Record, timeframe: Timeframe, phases: list[str] | None
) -> list[Record]:
    """The last value of each step: each trading day, or a part of it within the phases."""
    market_terms = {"market": market["code"], "zone": market["timezone"]}
    if timeframe == "1D":
        return records(connection, _DAYS, **terms, **market_terms, always_open=market["always_open"])
    midnight = (
        terms["begin"].astimezone(ZoneInfo(market["timezone"])).replace(hour=0, minute=0, second=0, microsecond=0)
    )
    given = {"step": _LENGTHS[timeframe], "origin": midnight, "phases": phases, "market": market["code"]}
    shown = phases is None or market["always_open"]
    return records(connection, _STEPS, **terms, **given, shown=shown)


def _first(rows: Sequence[_Value], transfers: Sequence[Record], equity: Decimal, begin: datetime) -> _Value:
    """The cash with which the generation began, where no value from before the time is known."""
    if transfers:
        return _Value(begin, transfers[0]["at"], transfers[0]["cash"], transfers[0]["cash"])
    return rows[0] if rows else _Value(begin, begin, equity, ZERO)


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


#: Days on which a market with trading days does not trade have no value.
_DAYS = text("""
SELECT CAST(day AS timestamp) AT TIME ZONE :zone AS start, at, equity, net_deposits FROM (
  SELECT DISTINCT ON (day) local.day, s.at, s.equity, COALESCE(s.net_deposits, 0) AS net_deposits
  FROM valuation.account_summaries_v1 s
  CROSS JOIN LATERAL (SELECT CAST(s.at AT TIME ZONE :zone AS date) AS day) local
  WHERE s.account_id = :account_id AND s.generation = :generation AND s.at > :begin AND s.at <= :end
    AND (:always_open OR NOT EXISTS (
           SELECT FROM marketdata.trading_days_v1 d WHERE d.market = :market AND d.day < CAST(:end AS date))
         OR EXISTS (SELECT FROM marketdata.trading_days_v1 d WHERE d.market = :market AND d.day = local.day))
  ORDER BY local.day, s.at DESC
) last ORDER BY at
""")
#: Steps begin at the zone's midnight.
_STEPS = text("""
SELECT start, at, equity, net_deposits FROM (
  SELECT DISTINCT ON (start) date_bin(:step, s.at, :origin) AS start, s.at, s.equity,
         COALESCE(s.net_deposits, 0) AS net_deposits
  FROM valuation.account_summaries_v1 s
  WHERE s.account_id = :account_id AND s.generation = :generation AND s.at > :begin AND s.at <= :end
    AND (:shown OR NOT EXISTS (
           SELECT FROM marketdata.trading_days_v1 d WHERE d.market = :market AND d.day < CAST(:end AS date))
         OR EXISTS (
           SELECT FROM marketdata.sessions_v2 p
           WHERE p.market = :market AND p.phase = ANY(CAST(:phases AS text[]))
             AND p.open_at <= s.at AND p.close_at > s.at))
  ORDER BY start, s.at DESC
) last ORDER BY at
""")
_BEFORE = text("""
SELECT s.at AS start, s.at, s.equity, COALESCE(s.net_deposits, 0) AS net_deposits FROM valuation.account_summaries_v1 s
WHERE s.account_id = :account_id AND s.generation = :generation AND s.at <= :begin ORDER BY s.at DESC LIMIT 1
""")
endpoints = (Endpoint("GET", "/v2/account/portfolio/history", get_portfolio_history, READ),)
