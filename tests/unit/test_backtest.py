"""A backtest of the crossover on recorded prices, against a few lines that enumerate its trades."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from services.strategy.backtest.run import Backtest, Setup, run
from services.strategy.backtest.series import Series
from services.strategy.strategies.decision import Action
from services.strategy.strategies.library.crossover import Averages, SmaCrossover
from services.strategy.strategies.sizing import Sizing
from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import Side
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
