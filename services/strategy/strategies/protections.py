"""The limits that keep a strategy from entering, and those that pause it. The same hold live and in a backtest."""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from shared.contracts.markets import DEFAULT_MARKET, MARKETS
from shared.contracts.protections import Protections
from shared.contracts.risk_marks import is_reached, marked
from shared.money import ZERO

__all__ = [
    "NONE",
    "Largest",
    "Protections",
    "Standing",
    "Watch",
    "halt",
    "halt_of_failures",
    "market_day",
    "refusal",
    "watched",
]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """The profit that the protections compare with: since when it counts, its peak, and that as the day began.

    ``concentration`` is the mark of the largest position, None before it is measured.
    """

    since: datetime | None = None
    peak: Decimal | None = None
    day: date | None = None
    day_profit: Decimal | None = None
    concentration: Decimal | None = None


@dataclass(frozen=True)
class Largest:
    """The strategy's largest position as a share of the account's equity."""

    symbol: str | None = None
    share: Decimal = ZERO


NONE = Largest()


@dataclass
class Standing:
    """The strategy's present state, for the protections. ``open`` has the symbols held or ordered."""

    now: datetime
    open: set[str]
    entries: int
    closed_at: dict[str, datetime]

    def entered(self, symbol: str) -> None:
        """Count an order to enter."""
        self.open.add(symbol)
        self.entries += 1


def refusal(protections: Protections, standing: Standing, symbol: str) -> str | None:
    """The reason why the strategy may not enter the symbol now, or None."""
    most, closed = protections.max_trades_per_day, standing.closed_at.get(symbol)
    if most is not None and standing.entries >= most:
        return f"max_trades_per_day: the strategy has entered {standing.entries} times today."
    most = protections.max_open_positions
    if most is not None and symbol not in standing.open and len(standing.open) >= most:
        return f"max_open_positions: {len(standing.open)} positions are open."
    minutes = protections.cool_down_minutes
    if minutes is not None and closed is not None and standing.now - closed < timedelta(minutes=minutes):
        return f"cool_down_minutes: a position was closed less than {minutes} minutes ago."
    return None


def watched(
    watch: Watch, *, profit: Decimal, day: date, largest: Largest = NONE, limit: Decimal | None = None
) -> Watch:
    """The watch with the peak of the profits, the profit as the day began, and the mark of the largest position."""
    if limit is not None:
        watch = replace(watch, concentration=marked(watch.concentration, largest.share, limit))
    if watch.day != day:
        watch = replace(watch, day=day, day_profit=profit)
    return replace(watch, peak=profit if watch.peak is None else max(watch.peak, profit))


def halt(
    protections: Protections,
    watch: Watch,
    *,
    profit: Decimal,
    losses: int,
    equity: Decimal,
    largest: Largest = NONE,
) -> str | None:
    """The reason to pause the strategy, or None. The profit and the equity are in the account's currency."""
    if protections.max_loss_streak is not None and losses >= protections.max_loss_streak:
        return f"max_loss_streak: the last {losses} round trips lost."
    down = (watch.peak or ZERO) - profit
    if protections.max_drawdown is not None and down > 0 and down >= protections.max_drawdown * equity:
        return f"max_drawdown: the profit is {down:.2f} below its peak."
    lost = (watch.day_profit or ZERO) - profit
    if protections.max_daily_loss is not None and lost > 0 and lost >= protections.max_daily_loss * equity:
        return f"max_daily_loss: {lost:.2f} were lost today."
    limit = protections.max_concentration
    if limit is not None and is_reached(largest.share, limit, watch.concentration or ZERO):
        return f"max_concentration: {largest.symbol} is {largest.share:.2%} of the equity."
    return None


def halt_of_failures(protections: Protections, failures: int, error: str) -> str | None:
    """The reason to pause a strategy that failed so often one after another, or None."""
    if failures < protections.max_failures:
        return None
    times = "once" if failures == 1 else f"{failures} times one after another"
    return f"max_failures: the strategy failed {times}, the last time: {error}"


def market_day(code: str, now: datetime) -> tuple[datetime, date]:
    """The begin and the date of the market's present day, by its clock."""
    known = MARKETS.get(code, MARKETS[DEFAULT_MARKET])
    day = now.astimezone(ZoneInfo(known.timezone)).date()
    return known.day_bounds(day)[0], day
