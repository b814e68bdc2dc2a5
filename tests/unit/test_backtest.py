"""A backtest of the crossover on recorded prices, against a few lines that enumerate its trades."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from services.strategy.backtest.dividends import Dividend
from services.strategy.backtest.run import run
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Backtest, Setup
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.library.crossover import Averages, SmaCrossover
from services.strategy.strategies.sizing import Sizing
from services.strategy.strategies.strategy import Parameters, SymbolStrategy, act
from services.strategy.strategies.view import Bar, SymbolView, View
from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import OrderStatus, Side
from shared.exchange.market_rules import MarketRules
from shared.money import ZERO, cents, cents_down, cents_up
from tests.unit.recorded_series import recorded

FAST, SLOW = 10, 20
QTY = Decimal(10)
DAY = timedelta(days=1)
WITHOUT_COSTS = MarketRules(half_spread=ZERO)


def crossover(*series: Series, **setup: object) -> Backtest:
    strategy = SmaCrossover(Averages(fast=FAST, slow=SLOW))
    given = {"rules": WITHOUT_COSTS, "cash": Decimal(1_000_000), "sizing": Sizing(value=QTY), **setup}
    return run(Setup(strategy=strategy, **given), series)  # type: ignore[arg-type]


def enumerated(series: Series) -> Iterator[tuple[datetime, Side, Decimal]]:
    """The trades at the open after each crossing: buy on one from below, sell on one from above."""
    closes = [bar.close for bar in series.bars]
    above = [
        sum(closes[i + 1 - FAST : i + 1]) * SLOW - sum(closes[i + 1 - SLOW : i + 1]) * FAST
        for i in range(SLOW - 1, len(closes))
    ]
    holding = False
    for i, (before, now) in enumerate(pairwise(above), start=SLOW):
        if i + 1 < len(closes) and (before <= 0 < now if not holding else before >= 0 > now):
            following = series.bars[i + 1]
            yield following.start + DAY, Side.SELL if holding else Side.BUY, following.open
            holding = not holding


@pytest.mark.parametrize("symbol", ["GOOG", "AAPL", "IBM"])
def test_the_crossover_trades_at_the_open_after_each_crossing(symbol: str) -> None:
    series = recorded(symbol)

    result = crossover(series)

    trades = [(fill.quote.quoted_at, fill.order.side, fill.price) for fill in result.exchange.fills]
    assert trades == list(enumerated(series))
    assert len(trades) > 80
    assert {fill.qty for fill in result.exchange.fills} == {QTY}


def test_equity_is_cash_and_positions_at_the_close_of_each_bar() -> None:
    """Cash is paid rounded up and got rounded down, as in live trading."""
    series = recorded("GOOG")

    result = crossover(series)

    cash, qty = Decimal(1_000_000), ZERO
    trades = {at: (side, price) for at, side, price in enumerated(series)}
    for (at, equity), bar in zip(result.equity, series.bars, strict=True):
        side, price = trades.get(at, (None, ZERO))
        if side is Side.BUY:
            cash, qty = cash - cents_up(QTY * price), QTY
        elif side is Side.SELL:
            cash, qty = cash + cents_down(QTY * price), ZERO
        assert equity == cash + cents(qty * bar.close)
    assert all(entry.balances for entry in result.exchange.entries)


def test_the_same_setup_gives_the_same_result() -> None:
    first, second = (crossover(recorded("IBM"), recorded("MSFT")) for _ in range(2))

    assert first.exchange.fills == second.exchange.fills
    assert first.equity == second.equity
    assert {fill.order.symbol for fill in first.exchange.fills} == {"IBM", "MSFT"}


def test_symbols_trade_beside_each_other_as_each_does_alone() -> None:
    """Also where one begins years after the other."""
    both = crossover(recorded("GOOG"), recorded("AAPL")).exchange.fills

    for symbol in ("GOOG", "AAPL"):
        alone = crossover(recorded(symbol)).exchange.fills
        assert [(fill.at, fill.price, fill.qty) for fill in both if fill.order.symbol == symbol] == [
            (fill.at, fill.price, fill.qty) for fill in alone
        ]


def test_costs_are_those_of_the_account() -> None:
    free = crossover(recorded("GOOG"))
    settings = AccountSettings.model_validate(
        {"fills": {"commission": {"kind": "per_share", "rate": "0.01"}, "slippage": {"kind": "fixed", "rate": "5"}}}
    )

    costly = crossover(recorded("GOOG"), settings=settings)

    assert len(costly.exchange.fills) == len(free.exchange.fills)
    assert sum(fill.fee for fill in costly.exchange.fills) == Decimal("0.10") * len(costly.exchange.fills)
    assert costly.equity[-1][1] < free.equity[-1][1]
    for dear, cheap in zip(costly.exchange.fills, free.exchange.fills, strict=True):
        worse = dear.price - cheap.price if dear.order.buys else cheap.price - dear.price
        assert worse == dear.slippage > 0


def test_no_decision_depends_on_later_bars() -> None:
    whole = recorded("GOOG")
    cut = Series("GOOG", whole.bars[:500], DAY)

    short, full = crossover(cut), crossover(whole)

    end = cut.bars[-1].start + DAY
    assert short.decided == [decided for decided in full.decided if decided.at <= end]
    assert {decided.decision.action for decided in short.decided} == {Action.ENTER_LONG, Action.EXIT}


def test_bars_before_the_beginning_only_warm_up() -> None:
    series = recorded("GOOG")
    begin = series.bars[1000].start

    late = crossover(series, begin=begin)

    assert late.decided[0].at > begin
    expected = [decided.at for decided in crossover(series).decided if decided.at > begin]
    assert [decided.at for decided in late.decided] == expected


def test_an_order_that_costs_too_much_is_cut_to_the_buying_power() -> None:
    result = crossover(recorded("GOOG"), cash=Decimal(1000), sizing=Sizing(value=Decimal(1_000)))

    entered = next(decided for decided in result.decided if decided.sized.side is Side.BUY)
    assert entered.sized.cuts == (f"Cut to {entered.sized.qty:f} by the buying power.",)
    assert result.exchange.refusals == []
    assert min(equity for _, equity in result.equity) > 0
    assert all(fill.account_cash >= 0 for fill in result.exchange.fills)


def test_progress_is_reported_and_may_stop_the_run() -> None:
    seen: list[tuple[int, int]] = []

    class Stopped(Exception):
        pass

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 1000:
            raise Stopped

    strategy = SmaCrossover(Averages())
    with pytest.raises(Stopped):
        run(Setup(strategy=strategy), [recorded("GOOG")], progress)
    assert seen == [(0, len(recorded("GOOG").bars)), (1000, len(recorded("GOOG").bars))]


def test_dividends_are_paid_on_the_pay_date_for_shares_held_before_the_ex_date() -> None:
    bought, *_ = crossover(recorded("GOOG")).exchange.fills
    days = [bar.start + DAY for bar in recorded("GOOG").bars if bar.start + DAY >= bought.at][:4]
    ex = timedelta(hours=-9)  # half past nine in New York
    paid = Dividend("GOOG", days[1] + ex, days[3] + ex, Decimal("0.33"))
    early = Dividend("GOOG", days[0] + ex, days[3] + ex, Decimal(1))  # bought on the ex-date

    found = crossover(recorded("GOOG"), dividends=(early, paid))

    (entry,) = [entry for entry in found.exchange.entries if entry.dividend]
    assert (entry.at, entry.cash) == (days[3], Decimal("3.30"))
    plain = dict(crossover(recorded("GOOG")).equity)
    gained = [value - plain[at] for at, value in found.equity if at in days]
    assert gained == [0, 0, 0, Decimal("3.30")]
    assert all(entry.balances for entry in found.exchange.entries)


def test_interest_is_charged_for_each_night_on_money_that_is_owed() -> None:
    settings = AccountSettings.model_validate({"multiplier": 2, "loan_rate": "36.5"})
    sizing = Sizing(kind="equity", value=Decimal("1.5"))

    result = crossover(recorded("GOOG"), settings=settings, sizing=sizing, cash=Decimal(100_000))

    first, *_ = charged = [entry for entry in result.exchange.entries if entry.interest]
    bought = result.exchange.fills[0]
    owed = -bought.account_cash
    assert first.at == min(at for at, _ in result.equity if at > bought.at)
    assert first.interest == cents_up(owed * Decimal("0.365") / 365) * (first.at - bought.at).days
    assert len(charged) > 100
    assert all(entry.balances for entry in charged)


class LowLimit(SymbolStrategy[Parameters]):
    """Bid for half a share at 9 in each bar."""

    kind = "low_limit"
    title = "A limit below the market"
    source = "A test"
    parameters_model = Parameters

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        return act(symbol, Action.ENTER_LONG, "It may become cheap.", limit_price=Decimal(9))


def test_a_day_order_ends_with_its_day() -> None:
    """On intraday bars that is the day of the bar after it, by the market's clock. A limit at 9 trades below it only.

    The hours are 14:30 to 20:30 in UTC, and the day between the third and the fourth bar begins at 5:00.
    """
    hour = timedelta(hours=1)
    starts = [datetime(2026, 11, 23, 18, 30, tzinfo=UTC) + hour * number for number in (0, 1, 2, 20, 21)]
    lows = [10, 10, 10, 8, 8]
    bars = [Bar(start, *map(Decimal, (11, 12, low, 11, 100))) for start, low in zip(starts, lows, strict=True)]
    sizing = Sizing(value=Decimal("0.5"), fractional=True)

    result = run(
        Setup(strategy=LowLimit(Parameters()), sizing=sizing, rules=WITHOUT_COSTS), [Series("IBM", bars, hour)]
    )

    statuses = [(order.accepted_at - hour, order.status) for order in result.exchange.orders.values()]
    assert statuses == [(starts[0], OrderStatus.EXPIRED), (starts[3], OrderStatus.FILLED)]
