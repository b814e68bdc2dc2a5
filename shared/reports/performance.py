"""The figures of an account, a strategy or a symbol, from the rows of their time."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from shared.account_market import account_market
from shared.money import ZERO, cents
from shared.performance import (
    DAYS,
    Flow,
    Points,
    Trade,
    benchmark_returns,
    deepest_drawdown,
    figures,
    grown,
    period_returns,
    trade_figures,
)
from shared.reports import queries
from shared.reports.periods import trading_days
from shared.storage.keyset import Record

#: A market that never closes has a value on each day of a year.
DAYS_ALWAYS_OPEN = 365
BASIS_POINTS = 10_000
#: A benchmark's close of an earlier day stands for the first point.
_BEFORE = timedelta(days=10)


@dataclass(frozen=True)
class Asked:
    """The stretch that is asked for. ``end`` is None up to now, ``begin`` since the generation began."""

    account_id: UUID
    begin: datetime | None
    end: datetime | None
    generation: int | None
    benchmark: str | None
    by: str


@dataclass(frozen=True)
class Stretch:
    """An account generation in a time, as it was read: daily equity, the deposits among it, and its trading.

    ``trips`` are round trips, and ``traded`` and ``profits`` have the fills and the open profit of each group.
    """

    asked: Asked
    account: Record
    market: Record
    generation: int
    begin: datetime
    end: datetime
    equity: Sequence[tuple[datetime, Decimal]]
    #: All deposits of the generation.
    transfers: Sequence[Flow]
    #: The equity just before and just after each deposit of the time.
    marks: Points
    trips: Sequence[Record]
    traded: Mapping[str, Record]
    profits: Mapping[str, Decimal | None]
    exposure: Any

    @property
    def flows(self) -> list[Flow]:
        """The deposits between the first and the last value, which are no returns."""
        inside = self.equity
        return [flow for flow in self.transfers if inside and inside[0][0] < flow.at <= inside[-1][0]]

    @property
    def terms(self) -> dict[str, Any]:
        return {
            "account_id": self.asked.account_id,
            "generation": self.generation,
            "begin": self.begin,
            "end": self.end,
        }


def performance(connection: Connection, asked: Asked, now: datetime) -> dict[str, Any] | None:
    """Return the answer's fields, or None for an unknown account."""
    stretch = read_stretch(connection, asked, now)
    return None if stretch is None else performance_of(connection, stretch)


def read_stretch(connection: Connection, asked: Asked, now: datetime) -> Stretch | None:
    """Read the rows of the time, or None for an unknown account."""
    account = queries.account(connection, asked.account_id)
    if account is None:
        return None
    generation = asked.generation or account["generation"]
    flows = [Flow(row["at"], row["cash"]) for row in queries.transfers(connection, asked.account_id, generation)]
    end = min(asked.end or now, now)
    is_present = generation == account["generation"]
    if not is_present:
        end = min([end, *(row["at"] for row in queries.transfers(connection, asked.account_id, generation + 1)[:1])])
    begin = max(asked.begin or flows[0].at, flows[0].at) if flows else asked.begin or end
    given = {"account_id": asked.account_id, "generation": generation, "begin": begin, "end": end}
    market = account_market(connection, asked.account_id)
    equity = equity_of(connection, given, market, flows)
    if end == now and is_present and (not equity or equity[-1][0] < now):
        equity = [*_before_today(connection, equity, market, now), (now, account["equity"])]
    return Stretch(
        asked=asked,
        account=account,
        market=market,
        generation=generation,
        begin=begin,
        end=end,
        equity=equity,
        transfers=flows,
        marks=queries.marks(connection, **given),
        trips=queries.round_trips(connection, asked.by, **given),
        traded={row["group"]: row for row in queries.fills(connection, asked.by, **given)},
        profits=open_profits(connection, asked.by, asked.account_id) if is_present else {},
        exposure=queries.exposure(connection, **given),
    )


def open_profits(connection: Connection, by: str, account_id: UUID) -> dict[str, Decimal | None]:
    """Return the unrealized profit of each group."""
    return {row["group"]: row["unrealized"] for row in queries.open_profit(connection, by, account_id)}


def _before_today(
    connection: Connection, equity: Sequence[tuple[datetime, Decimal]], market: Record, now: datetime
) -> Sequence[tuple[datetime, Decimal]]:
    """The points without that of the present trading day, whose value is the present one. The first point stays.

    A day on which the market does not trade belongs to the trading day before it.
    """
    if len(equity) < 2:
        return equity
    zone = ZoneInfo(market["timezone"])
    last, today = (at.astimezone(zone).date() for at in (equity[-1][0], now))
    days = trading_days(connection, market, last, today)
    is_same_day = last == today or days == [last]
    return equity[:-1] if is_same_day else equity


def performance_of(connection: Connection, stretch: Stretch) -> dict[str, Any]:
    """Return the figures of the stretch, as ``/api/account/performance`` answers with them."""
    asked, equity, inside = stretch.asked, stretch.equity, stretch.flows
    return {
        **stretch.terms,
        "currency": stretch.account["currency"],
        "by": asked.by,
        "benchmark": asked.benchmark,
        "begin_equity": equity[0][1] if equity else None,
        "end_equity": equity[-1][1] if equity else None,
        "net_deposits": sum((flow.amount for flow in inside), ZERO),
        "figures": {
            **_returns(connection, stretch),
            **_of_trades([_trade(row) for row in stretch.trips]),
            **_of_fills(stretch.traded.values(), [value for _, value in equity]),
            "exposure": _number(stretch.exposure),
            "unrealized_pl": _sum(stretch.profits.values()),
        },
        "groups": groups_of(stretch.trips, stretch.traded, stretch.profits),
    }


def groups_of(
    trips: Sequence[Record], traded: Mapping[str, Record], profits: Mapping[str, Decimal | None]
) -> list[dict[str, Any]]:
    """Return the trading of each group, such as a symbol or a strategy."""
    trades: dict[str, list[Trade]] = defaultdict(list)
    for row in trips:
        trades[row["group"]].append(_trade(row))
    return [
        {
            "group": group,
            **_of_trades(trades.get(group, [])),
            **_of_fills([traded[group]] if group in traded else [], []),
            "unrealized_pl": cents(profits.get(group) or ZERO),
        }
        for group in sorted({*trades, *traded, *profits})
    ]


def _trade(row: Record) -> Trade:
    return Trade(row["profit"], row["opened_at"], row["closed_at"])


def equity_of(
    connection: Connection, stretch: Mapping[str, Any], market: Record, flows: Sequence[Flow]
) -> list[tuple[datetime, Decimal]]:
    """The points of the stretch. The first one is the cash with which the generation began, if it began in it."""
    terms = {"market": market["code"], "zone": market["timezone"], "always_open": market["always_open"]}
    found = [(row["at"], row["equity"]) for row in queries.points(connection, **stretch, **terms)]
    begins = bool(flows) and stretch["begin"] == flows[0].at
    if begins and (not found or found[0][0] > flows[0].at):
        return [(flows[0].at, flows[0].amount), *found]
    return found


def _returns(connection: Connection, stretch: Stretch) -> dict[str, Any]:
    """Figures of the equity. A figure that is not defined is None."""
    asked, equity, flows = stretch.asked, stretch.equity, stretch.flows
    returns = period_returns(equity, flows, stretch.marks)
    fall = deepest_drawdown(equity, returns)
    others = None
    if asked.benchmark is not None and len(equity) > 1:
        closes = queries.closes(connection, asked.benchmark, equity[0][0] - _BEFORE, equity[-1][0])
        others = benchmark_returns([at for at, _ in equity], [(row["start"], row["close"]) for row in closes])
    periods = DAYS_ALWAYS_OPEN if stretch.market["always_open"] else DAYS
    found = asdict(figures(equity, flows, marks=stretch.marks, periods=periods, benchmark=others))
    return {
        **{name: _number(value) for name, value in found.items() if name != "total_return"},
        "time_weighted_return": _number(found["total_return"]),
        "benchmark_return": None if others is None else _number(grown(others) - 1),
        "periods": len(returns),
        "peak_at": fall.peak_at,
        "trough_at": fall.trough_at,
        "recovered_at": fall.recovered_at,
    }


def _of_trades(trades: Sequence[Trade]) -> dict[str, Any]:
    found = asdict(trade_figures(trades))
    profit = _sum(trade.profit for trade in trades)
    return {
        "trades": found.pop("number"),
        "realized_pl": profit,
        **{name: _number(each) for name, each in found.items()},
    }


def _of_fills(traded: Iterable[Record], equity: Sequence[Decimal]) -> dict[str, Any]:
    """Costs of the fills. ``turnover`` is the lesser of purchases and sales by the mean equity (SEC Form N-1A)."""
    rows = list(traded)
    bought, sold = _sum(row["bought"] for row in rows), _sum(row["sold"] for row in rows)
    slippage, amount = sum((row["slippage"] for row in rows), ZERO), bought + sold
    mean = sum(equity, ZERO) / len(equity) if equity else ZERO
    return {
        "bought": bought,
        "sold": sold,
        "fees": _sum(row["fees"] for row in rows),
        "slippage": cents(slippage),
        "slippage_bps": _number(slippage / amount * BASIS_POINTS) if amount else None,
        "turnover": _number(min(bought, sold) / mean) if mean > 0 else None,
    }


def _sum(amounts: Iterable[Decimal | None]) -> Decimal:
    return cents(sum((each or ZERO for each in amounts), ZERO))


def _number(value: Any) -> float | None:
    """A ratio as JSON can hold it: None for what is not defined."""
    return None if value is None or not isfinite(value) else float(value)
