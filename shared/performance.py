"""Performance of an account, a strategy or a backtest: the figures that live trading and backtests share.

Pure functions on equity, cash flows and round trips. Ratios are floats, since they are statistics and no money. The
definitions are those of the CFA Institute's GIPS and of empyrical, against which they are tested.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import pairwise
from math import nan, sqrt

YEAR = timedelta(days=365.25)
#: Trading days in a year.
DAYS = 252
#: The bounds within which a money-weighted return is looked for, and its precision.
LEAST_RATE, MOST_RATE, PRECISION = -0.999999, 1e6, 1e-12
#: The error of a product of floats. A growth that is so close below its highest has reached it again.
ERROR = 1e-12
AT_PEAK = 1 - ERROR
#: Values of the equity with their times, in order.
Points = Sequence[tuple[datetime, Decimal]]


@dataclass(frozen=True, slots=True)
class Flow:
    """Money that came in, or went out where it is negative."""

    at: datetime
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Trade:
    """A round trip: what it earned after costs, and when it was open."""

    profit: Decimal
    opened_at: datetime
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall from a high, as a fraction of it: negative, or 0. ``recovered_at`` is None while it lasts."""

    depth: float = 0.0
    peak_at: datetime | None = None
    trough_at: datetime | None = None
    recovered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Returns and ratios are fractions, NaN where they are not defined. Volatility and ratios are those of a year."""

    total_return: float
    annual_return: float
    volatility: float
    sharpe: float
    sortino: float
    calmar: float
    max_drawdown: float
    #: The longest time from a high to the next one, in days.
    longest_drawdown_days: float
    money_weighted_return: float
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class TradeFigures:
    """Of round trips. Ratios are NaN where they are not defined, such as a profit factor without any loss."""

    number: int
    win_rate: float
    profit_factor: float
    #: The mean profit of a round trip.
    expectancy: float
    average_win: float
    average_loss: float
    longest_losing_streak: int
    average_days: float


def period_returns(equity: Points, flows: Iterable[Flow] = (), marks: Points = ()) -> list[float]:
    """The time-weighted return of each period between two values of the equity.

    ``marks`` are values between them, from just before and just after a flow. A period is linked from the times between
    its marks, so that a flow changes no return (GIPS: revalue the portfolio at a large flow). Within such a time a flow
    counts at the end. A time that began without equity has no return, which is 0 here. A loss of more than all is -1:
    the growth of the summaries is 0 then.
    """
    if not equity:
        return []
    inside = {at: value for at, value in marks if equity[0][0] < at < equity[-1][0]}
    every = sorted({**inside, **dict(equity)}.items()) if inside else equity
    returns, growth, ends = [], 1.0, {at for at, _ in equity}
    for at, each in _returns(every, sorted(flows, key=lambda flow: flow.at)):
        growth *= 1 + each
        if at in ends:
            returns.append(each if not inside else growth - 1)
            growth = 1.0
    return returns


def _returns(equity: Points, flows: Sequence[Flow]) -> Iterator[tuple[datetime, float]]:
    """The return of each time between two values, with its end."""
    place = 0
    while place < len(flows) and flows[place].at <= equity[0][0]:
        place += 1
    for (_, before), (at, after) in pairwise(equity):
        came = Decimal(0)
        while place < len(flows) and flows[place].at <= at:
            came += flows[place].amount
            place += 1
        yield at, max(float((after - came) / before) - 1, -1.0) if before > 0 else 0.0


def figures(
    equity: Points,
    flows: Iterable[Flow] = (),
    *,
    marks: Points = (),
    periods: float = DAYS,
    risk_free: float = 0.0,
    benchmark: Sequence[float] | None = None,
) -> Figures:
    """The figures of the equity, of which ``periods`` values come in a year.

    ``marks`` are those of ``period_returns``. ``risk_free`` is the return of a period without risk, and ``benchmark``
    has the returns of the same periods.
    """
    flows = list(flows)
    returns = period_returns(equity, flows, marks)
    growth = grown(returns)
    fall = deepest_drawdown(equity, returns)
    annual = _annual(growth, len(returns), periods)
    alpha, beta = alpha_beta(returns, benchmark, periods=periods, risk_free=risk_free)
    return Figures(
        total_return=growth - 1 if returns else nan,
        annual_return=annual,
        volatility=deviation(returns) * sqrt(periods),
        sharpe=sharpe(returns, periods=periods, risk_free=risk_free),
        sortino=sortino(returns, periods=periods, required=risk_free),
        calmar=annual / -fall.depth if fall.depth < 0 else nan,
        max_drawdown=fall.depth,
        longest_drawdown_days=longest_drawdown(equity, returns).total_seconds() / 86_400,
        money_weighted_return=money_weighted_return(equity, flows),
        alpha=alpha,
        beta=beta,
    )


def grown(returns: Iterable[float]) -> float:
    """The growth of 1 over these returns."""
    growth = 1.0
    for each in returns:
        growth *= 1 + each
    return growth


def sharpe(returns: Sequence[float], *, periods: float = DAYS, risk_free: float = 0.0) -> float:
    """The mean excess return over its deviation, of a year (W. Sharpe, 1994)."""
    excess = [each - risk_free for each in returns]
    spread = deviation(excess)
    return mean(excess) / spread * sqrt(periods) if spread > 0 else nan


def sortino(returns: Sequence[float], *, periods: float = DAYS, required: float = 0.0) -> float:
    """The mean excess return over the deviation of the returns below the required one (F. Sortino, 1991)."""
    excess = [each - required for each in returns]
    downside = sqrt(sum(min(each, 0.0) ** 2 for each in excess) / len(excess)) if excess else 0.0
    return mean(excess) * periods / (downside * sqrt(periods)) if downside > 0 else nan


def deepest_drawdown(equity: Points, returns: Sequence[float]) -> Drawdown:
    """The deepest fall of the growth of 1. Deposits and withdrawals are neither falls nor rises."""
    growth = peak = 1.0
    peak_at = trough_peak_at = trough_at = recovered_at = None
    deepest = 0.0
    for (at, _), each in zip(equity[1:], returns, strict=True):
        growth *= 1 + each
        if growth >= peak * AT_PEAK:
            if trough_at is not None and recovered_at is None and trough_peak_at == peak_at:
                recovered_at = at
            peak, peak_at = max(peak, growth), at
        elif growth / peak - 1 < deepest - ERROR:
            deepest, trough_at, recovered_at = growth / peak - 1, at, None
            trough_peak_at = peak_at = peak_at or equity[0][0]
    return Drawdown(deepest, trough_peak_at, trough_at, recovered_at)


def drawdowns(returns: Iterable[float]) -> list[float]:
    """The distance of the growth of 1 below its highest after each return: a negative fraction, or 0."""
    growth = peak = 1.0
    falls = []
    for each in returns:
        growth *= 1 + each
        peak = max(peak, growth)
        falls.append(growth / peak - 1 if growth < peak * AT_PEAK else 0.0)
    return falls


def monthly_returns(
    equity: Points, flows: Iterable[Flow], zone: tzinfo, marks: Points = ()
) -> list[tuple[date, float]]:
    """The time-weighted return of each month, by the zone's dates, with the month's first day. Months are in order."""
    growth: dict[date, float] = {}
    for (at, _), each in zip(equity[1:], period_returns(equity, flows, marks), strict=True):
        month = at.astimezone(zone).date().replace(day=1)
        growth[month] = growth.get(month, 1.0) * (1 + each)
    return [(month, grown - 1) for month, grown in growth.items()]


def longest_drawdown(equity: Points, returns: Sequence[float]) -> timedelta:
    """The longest time from a high of the growth to the next one, or to the end."""
    if not equity:
        return timedelta(0)
    growth = peak = 1.0
    peak_at, longest, below = equity[0][0], timedelta(0), False
    for (at, _), each in zip(equity[1:], returns, strict=True):
        growth *= 1 + each
        is_below = growth < peak * AT_PEAK
        if is_below or below:
            longest = max(longest, at - peak_at)
        below = is_below
        if not below:
            peak, peak_at = max(peak, growth), at
    return longest


def money_weighted_return(equity: Points, flows: Iterable[Flow]) -> float:
    """The yearly rate at which the first equity and all flows grow to the last equity (the internal rate of return)."""
    if len(equity) < 2 or equity[-1][0] <= equity[0][0]:
        return nan
    begin, end = equity[0][0], equity[-1][0]
    paid = [(end - begin, float(equity[0][1]))]
    paid += [(end - flow.at, float(flow.amount)) for flow in flows if begin < flow.at <= end]
    wanted = float(equity[-1][1])

    def missing(rate: float) -> float:
        return sum(amount * float((1 + rate) ** (left / YEAR)) for left, amount in paid) - wanted

    low, high = LEAST_RATE, MOST_RATE
    if missing(low) * missing(high) > 0:
        return nan
    while high - low > PRECISION * max(1.0, abs(low)):
        middle = (low + high) / 2
        if missing(low) * missing(middle) <= 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def alpha_beta(
    returns: Sequence[float], benchmark: Sequence[float] | None, *, periods: float = DAYS, risk_free: float = 0.0
) -> tuple[float, float]:
    """Jensen's alpha of a year and beta, by least squares. NaN without a benchmark or where it does not move."""
    if benchmark is None or len(benchmark) != len(returns) or len(returns) < 2:
        return nan, nan
    own, market = [each - risk_free for each in returns], [each - risk_free for each in benchmark]
    own_mean, market_mean = mean(own), mean(market)
    spread = sum((each - market_mean) ** 2 for each in market)
    if not spread:
        return nan, nan
    beta = sum((a - own_mean) * (b - market_mean) for a, b in zip(own, market, strict=True)) / spread
    return (1 + own_mean - beta * market_mean) ** periods - 1, beta


def trade_figures(trades: Sequence[Trade]) -> TradeFigures:
    """The figures of round trips. A round trip without profit and loss is no win."""
    wins = [float(trade.profit) for trade in trades if trade.profit > 0]
    losses = [float(trade.profit) for trade in trades if trade.profit < 0]
    streak = longest = 0
    for trade in sorted(trades, key=lambda each: each.closed_at):
        streak = streak + 1 if trade.profit < 0 else 0
        longest = max(longest, streak)
    days = [(trade.closed_at - trade.opened_at).total_seconds() / 86_400 for trade in trades]
    return TradeFigures(
        number=len(trades),
        win_rate=len(wins) / len(trades) if trades else nan,
        profit_factor=sum(wins) / -sum(losses) if losses else nan,
        expectancy=mean([float(trade.profit) for trade in trades]),
        average_win=mean(wins),
        average_loss=mean(losses),
        longest_losing_streak=longest,
        average_days=mean(days),
    )


def exposure(
    positions: Iterable[tuple[datetime, datetime, Decimal]], begin: datetime, end: datetime, equity: Sequence[Decimal]
) -> Decimal | None:
    """The mean cost of the positions as a share of the mean equity, by time. None without time or equity.

    ``positions`` have the beginning, the end and the cost of each.
    """
    seconds = Decimal((end - begin).total_seconds())
    whole = sum(equity, Decimal(0)) / len(equity) if equity else Decimal(0)
    if seconds <= 0 or whole <= 0:
        return None
    bound = Decimal(0)
    for opened_at, closed_at, cost in positions:
        lasted = (min(closed_at, end) - max(opened_at, begin)).total_seconds()
        bound += abs(cost) * Decimal(max(lasted, 0))
    return bound / seconds / whole


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample."""
    if len(values) < 2:
        return nan
    middle = mean(values)
    return sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1))


def _annual(growth: float, number: int, periods: float) -> float:
    return growth ** (periods / number) - 1 if number and growth > 0 else nan


def benchmark_returns(moments: Sequence[datetime], closes: Sequence[tuple[datetime, Decimal]]) -> list[float] | None:
    """The benchmark's return between each two moments, from the last close before each. None if one is missing.

    ``closes`` are in the order of the starts of their bars. A daily bar counts from its start, since its account's
    value is that of the same day.
    """
    starts = [start for start, _ in closes]
    places = [bisect_right(starts, moment) - 1 for moment in moments]
    if not places or min(places) < 0:
        return None
    prices = [closes[place][1] for place in places]
    return [float(after / before) - 1 if before > 0 else 0.0 for before, after in pairwise(prices)]
