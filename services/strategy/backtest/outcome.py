"""The outcome of a backtest as JSON takes it: figures, fills, round trips and equity, each within a bound."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID

from services.strategy.backtest.exchange import BacktestExchange
from services.strategy.backtest.setup import Backtest
from shared.exchange.matching.book import RoundTrip
from shared.exchange.matching.fills import Fill
from shared.money import ZERO, cents, plain
from shared.performance import (
    DAYS,
    Trade,
    deepest_drawdown,
    exposure,
    figures,
    longest_drawdown,
    period_returns,
    trade_figures,
)

#: Points of the equity, and rows of each list, that an outcome has at most.
MOST_POINTS, MOST_ROWS = 2000, 10_000
DAYS_WITHOUT_WEEKEND = 365
_SATURDAY = 5
Equity = Sequence[tuple[datetime, Decimal]]


def outcome(result: Backtest, begin: datetime | None = None) -> dict[str, Any]:
    """The outcome from ``begin`` on. Lists that are longer than their bound keep their first rows, and say so."""
    exchange = result.exchange
    equity = [each for each in result.equity if begin is None or each[0] > begin]
    acted = [each for each in result.decided if each.order_id is not None]
    refused = [each for each in acted if each.refusal is not None]
    return {
        "bars": result.bars,
        "decisions": result.decisions,
        "orders": len(acted),
        "refused": len(refused),
        "figures": figures_of(result, equity),
        "fills": [fill_row(fill) for fill in exchange.fills[:MOST_ROWS]],
        "fills_total": len(exchange.fills),
        "round_trips": round_trip_rows(exchange.round_trips[:MOST_ROWS], exchange.fills),
        "round_trips_total": len(exchange.round_trips),
        "refusals": [
            {"at": each.at.isoformat(), "symbol": each.decision.symbol, "message": each.refusal}
            for each in refused[:MOST_ROWS]
        ],
        "halted": None if result.halted is None else {"at": result.halted[0].isoformat(), "reason": result.halted[1]},
        "failed": len(result.failures),
        "failures": [{"at": at.isoformat(), "message": error} for at, error in result.failures[:MOST_ROWS]],
        "margin_calls": [{"at": at.isoformat(), "what": what} for at, what in result.margin_calls[:MOST_ROWS]],
        "equity": [{"at": at.isoformat(), "equity": plain(value)} for at, value in thinned(equity)],
    }


def figures_of(result: Backtest, equity: Equity) -> dict[str, Any]:
    """The figures by name. Ratios are of daily returns, and None where they are not defined."""
    exchange, daily = result.exchange, end_of_days(equity)
    periods = DAYS_WITHOUT_WEEKEND if any(at.weekday() >= _SATURDAY for at, _ in daily) else DAYS
    returns = period_returns(equity)
    entries = {fill.id: fill for fill in exchange.fills}
    trades = trade_figures([trade_of(each, entries) for each in exchange.round_trips])
    average = sum((value for _, value in equity), ZERO) / len(equity) if equity else ZERO
    bought = sum((fill.amount for fill in exchange.fills if fill.order.buys), ZERO)
    sold = sum((fill.amount for fill in exchange.fills if not fill.order.buys), ZERO)
    found: dict[str, Any] = asdict(figures(daily, periods=periods))
    found |= {
        "begin_equity": plain(exchange.cash),
        "end_equity": plain(equity[-1][1] if equity else exchange.cash),
        "profit": plain((equity[-1][1] if equity else exchange.cash) - exchange.cash),
        "max_drawdown": deepest_drawdown(equity, returns).depth,
        "longest_drawdown_days": longest_drawdown(equity, returns) / timedelta(days=1),
        "exposure": exposure_of(exchange, equity),
        "time_in_market": time_in_market(exchange.fills, equity),
        "turnover": float(min(bought, sold) / average) if average > 0 else None,
        "slippage": plain(cents(sum((fill.slippage * fill.qty * fill.rate for fill in exchange.fills), ZERO))),
        "fees": plain(sum((fill.fee for fill in exchange.fills), ZERO)),
        "dividends": plain(sum((entry.dividend for entry in exchange.entries), ZERO)),
        "interest": plain(sum((entry.interest for entry in exchange.entries), ZERO)),
        "trades": {name: _defined(value) for name, value in asdict(trades).items()},
    }
    del found["alpha"], found["beta"], found["money_weighted_return"]
    return {name: _defined(value) for name, value in found.items()}


def end_of_days(equity: Equity) -> list[tuple[datetime, Decimal]]:
    """The last equity of each day. A daily bar that ends at midnight counts for the day before it."""
    last = {(at - timedelta(microseconds=1)).date(): (at, value) for at, value in equity}
    return list(last.values())


def exposure_of(exchange: BacktestExchange, equity: Equity) -> float | None:
    """The mean cost of the positions as a share of the mean equity, as that of a strategy in live trading."""
    if not equity:
        return None
    end, positions = equity[-1][0], []
    for each in exchange.round_trips:
        closed = each.closed
        entered = closed.cost if closed.lot.qty > 0 else closed.proceeds
        positions.append((closed.lot.opened_at, each.exit.at, entered))
    positions += [(lot.opened_at, end, lot.cost) for lots in exchange.lots.values() for lot in lots]
    found = exposure(positions, equity[0][0], end, [value for _, value in equity])
    return None if found is None else float(found)


def time_in_market(fills: Sequence[Fill], equity: Equity) -> float | None:
    """The part of the moments at which a position was open."""
    held: dict[str, Decimal] = {}
    place = moments = 0
    for at, _ in equity:
        while place < len(fills) and fills[place].at <= at:
            held[fills[place].order.symbol] = fills[place].position_qty
            place += 1
        moments += any(held.values())
    return moments / len(equity) if equity else None


def trade_of(trip: RoundTrip, entries: Mapping[UUID, Fill]) -> Trade:
    """The round trip with its profit after fees."""
    return Trade(trip.closed.realized - fees_of(trip, entries), trip.closed.lot.opened_at, trip.exit.at)


def fees_of(trip: RoundTrip, entries: Mapping[UUID, Fill]) -> Decimal:
    """The round trip's part of the fees of its two fills."""
    fills = [trip.exit, *([entry] if (entry := entries.get(trip.closed.lot.fill_id)) is not None else [])]
    return sum((fill.fee * min(trip.closed.qty / fill.qty, Decimal(1)) for fill in fills if fill.fee), ZERO)


def thinned(equity: Equity, most: int = MOST_POINTS) -> list[tuple[datetime, Decimal]]:
    """At most so many points: of each group of neighbours its lowest and its highest, so that no extreme is lost."""
    if len(equity) <= most:
        return list(equity)
    kept = {0, len(equity) - 1}
    groups = (most - 2) // 2
    for group in range(groups):
        places = range(len(equity) * group // groups, len(equity) * (group + 1) // groups)
        kept |= {min(places, key=lambda place: equity[place][1]), max(places, key=lambda place: equity[place][1])}
    return [equity[place] for place in sorted(kept)]


def fill_row(fill: Fill) -> dict[str, Any]:
    """A fill as JSON takes it. ``at`` is the market's time, on bars the end of the one that starts at ``bar``."""
    return {
        "at": fill.at.isoformat(),
        "bar": _bar(fill),
        "symbol": fill.order.symbol,
        "side": str(fill.order.side),
        "qty": plain(fill.qty),
        "price": plain(fill.price),
        "amount": plain(fill.amount),
        "fee": plain(fill.fee),
        "slippage": plain(fill.slippage),
        "position_qty": plain(fill.position_qty),
        "cash": plain(fill.account_cash),
    }


def round_trip_rows(trips: Sequence[RoundTrip], fills: Sequence[Fill]) -> list[dict[str, Any]]:
    """Round trips as JSON takes them. ``entry_bar`` and ``exit_bar`` are the starts of the bars of their fills."""
    entries = {fill.id: fill for fill in fills}
    return [_round_trip_row(trip, entries) for trip in trips]


def _round_trip_row(trip: RoundTrip, entries: Mapping[UUID, Fill]) -> dict[str, Any]:
    closed, entry = trip.closed, entries.get(trip.closed.lot.fill_id)
    return {
        "symbol": trip.exit.order.symbol,
        "side": "long" if closed.lot.qty > 0 else "short",
        "qty": plain(closed.qty),
        "opened_at": closed.lot.opened_at.isoformat(),
        "closed_at": trip.exit.at.isoformat(),
        "entry_bar": _bar(entry) if entry is not None else None,
        "exit_bar": _bar(trip.exit),
        "entry_price": plain(entry.price) if entry is not None else None,
        "exit_price": plain(trip.exit.price),
        "cost": plain(closed.cost),
        "proceeds": plain(closed.proceeds),
        "profit": plain(closed.realized),
        "fees": plain(fees_of(trip, entries)),
        "return": float(closed.realized / closed.cost) if closed.cost else None,
    }


def _bar(fill: Fill) -> str | None:
    start = fill.quote.bar_start
    return None if start is None else start.isoformat()


def _defined(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value
