"""The library of strategies on recorded prices: each trades, by its own rule, and none looks ahead."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from random import Random
from typing import Any
from uuid import UUID

import pytest

from services.strategy.backtest.request import WrongRequest, bars_of, strategy_of
from services.strategy.backtest.run import run
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Backtest, Setup
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.needs import bars_needed, indicators_of
from services.strategy.strategies.registry import UnknownStrategy, make_strategy, strategies
from services.strategy.strategies.sizing import Sizing
from services.strategy.strategies.view import Account, Bar, Position, Session, SymbolView, View
from services.strategy.usecases.evaluate import prepare
from shared.contracts.accounts import AccountSettings
from shared.contracts.backtests import BacktestRequest, StrategyChoice
from tests.unit.recorded_series import recorded

DAY = timedelta(days=1)
MARGIN = AccountSettings(multiplier=2, shorting=True)
#: Kind → parameters and symbols with which it trades on the recorded daily prices.
DAILY: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "buy_and_hold": ({}, ("IBM", "MSFT")),
    "dollar_cost_averaging": ({"amount": "5000", "every": "week"}, ("IBM",)),
    "target_allocation": ({"weights": {"IBM": "0.5", "MSFT": "0.3"}, "band": "0.05"}, ("IBM", "MSFT")),
    "momentum_ranking": ({"lookback": 60, "hold": 2}, ("AAPL", "IBM", "MSFT")),
    "sma_crossover": ({}, ("GOOG",)),
    "ema_crossover": ({}, ("GOOG",)),
    "macd": ({}, ("GOOG",)),
    "rsi_reversion": ({}, ("GOOG",)),
    "bollinger_reversion": ({}, ("GOOG",)),
    "donchian_breakout": ({}, ("GOOG",)),
    "pairs": ({"first": "IBM", "second": "MSFT"}, ("IBM", "MSFT")),
    "rules": (
        {
            "long": {
                "entry": {"left": {"indicator": "rsi", "period": 14}, "op": "crosses_above", "right": 30},
                "exit": {"left": {"indicator": "rsi", "period": 14}, "op": ">=", "right": 70},
            }
        },
        ("GOOG",),
    ),
}
INTRADAY = {"vwap_reversion", "opening_range_breakout"}


def traded(kind: str, parameters: dict[str, Any], series: Sequence[Series]) -> Backtest:
    sizing = Sizing(value=Decimal(10), fractional=kind == "dollar_cost_averaging")
    return run(Setup(strategy=make_strategy(kind, parameters), sizing=sizing, settings=MARGIN), series)


def test_every_strategy_is_tried_here() -> None:
    assert {*DAILY, *INTRADAY} == set(strategies())


@pytest.mark.parametrize("kind", strategies())
def test_a_strategy_describes_itself(kind: str) -> None:
    strategy = strategies()[kind]
    schema = strategy.parameters_model.model_json_schema()

    assert strategy.kind == kind
    assert strategy.title
    assert len(strategy.source) > 10
    assert schema["additionalProperties"] is False
    if kind != "rules":
        assert all("description" in field for field in schema["properties"].values())


@pytest.mark.parametrize("kind", DAILY)
def test_it_trades_and_never_looks_ahead(kind: str) -> None:
    parameters, symbols = DAILY[kind]
    whole = [recorded(symbol) for symbol in symbols]
    cut = [Series(each.symbol, [bar for bar in each.bars if bar.start.year < 2007], DAY) for each in whole]

    full, short = traded(kind, parameters, whole), traded(kind, parameters, cut)

    assert short.exchange.fills
    assert short.decided == full.decided[: len(short.decided)]
    assert all(decided.at >= short.equity[-1][0] for decided in full.decided[len(short.decided) :])


def test_rules_can_say_the_same_as_a_strategy() -> None:
    """The rules look for an exit only while they hold, and the strategy always: their orders are the same."""
    series = [recorded("GOOG")]

    by_rules, by_class = (traded(kind, DAILY[kind][0], series) for kind in ("rules", "rsi_reversion"))

    orders = [
        [(fill.at, fill.order.side, fill.qty, fill.price) for fill in each.exchange.fills]
        for each in (by_rules, by_class)
    ]
    assert orders[0] == orders[1]
    assert len(orders[0]) > 10


def test_the_donchian_channel_is_that_of_the_bars_before() -> None:
    series = recorded("GOOG")
    bars, held, expected = series.bars, False, []
    for i in range(20, len(bars) - 1):
        if bars[i].close < min(bar.low for bar in bars[i - 10 : i]):
            expected += [(bars[i + 1].start + DAY, "sell")] if held else []
            held = False
        elif bars[i].close > max(bar.high for bar in bars[i - 20 : i]):
            expected += [] if held else [(bars[i + 1].start + DAY, "buy")]
            held = True

    result = traded("donchian_breakout", {}, [series])

    assert [(fill.at, str(fill.order.side)) for fill in result.exchange.fills] == expected


def test_averaging_buys_once_a_month_for_its_amount() -> None:
    series = recorded("IBM")
    months = [after.start + DAY for before, after in pairwise(series.bars) if before.start.month != after.start.month]

    result = traded("dollar_cost_averaging", {"amount": "100"}, [series])

    assert [decided.at for decided in result.decided] == months
    assert all(90 < fill.amount < 110 for fill in result.exchange.fills)
    assert all(fill.order.buys for fill in result.exchange.fills)


def test_an_allocation_stays_inside_its_band_after_each_order() -> None:
    result = traded("target_allocation", DAILY["target_allocation"][0], [recorded("IBM"), recorded("MSFT")])

    assert {decided.decision.action for decided in result.decided} == {Action.TARGET}
    assert any(decided.sized.side == "sell" for decided in result.decided)
    for decided in result.decided[2:]:
        away = dict(decided.decision.conditions[0].values)
        assert abs(Decimal(str(away["weight"])) - Decimal(str(away["target"]))) > Decimal(str(away["band"]))


def test_a_ranking_buys_with_the_proceeds_of_what_it_sells() -> None:
    """It holds one symbol for all of the equity: the sale has to fill before the purchase can be paid."""
    sizing, strategy = Sizing(value=Decimal(1)), make_strategy("momentum_ranking", {"lookback": 60, "hold": 1})
    series = [recorded(symbol) for symbol in ("AAPL", "IBM", "MSFT")]
    result = run(Setup(strategy=strategy, sizing=sizing, settings=AccountSettings()), series)

    held: dict[str, Decimal] = {}
    invested = []
    fills = list(result.exchange.fills)
    for at, equity in result.equity:
        while fills and fills[0].at <= at:
            held[fills[0].order.symbol] = fills[0].position_qty
            cash = fills.pop(0).account_cash
        if any(held.values()):
            invested.append(1 - cash / equity)
    assert len(result.exchange.round_trips) > 20
    low = [share for share in invested if share < Decimal("0.5")]
    assert len(low) <= len(result.exchange.round_trips)  # the day between a sale and the purchase after it


def flat(start: datetime, price: Decimal) -> Bar:
    return Bar(start, price, price, price, price, Decimal(9))


def test_pairs_compare_bars_of_the_same_time() -> None:
    """The ratio is 2 at all times. A bar that one symbol lacks must not shift all before it."""
    rng = Random(5)
    prices = [Decimal(str(round(100 + rng.uniform(-20, 20), 2))) for _ in range(60)]
    begin = recorded("IBM").bars[0].start
    first = [flat(begin + n * DAY, price) for n, price in enumerate(prices)]
    second = [flat(begin + n * DAY, 2 * price) for n, price in enumerate(prices) if n != 40]

    parameters = {"first": "IBM", "second": "MSFT", "period": 20, "enter": 1}
    result = traded("pairs", parameters, [Series("IBM", first, DAY), Series("MSFT", second, DAY)])

    assert result.decisions == 60 + 60
    assert result.decided == []


def test_pairs_open_both_sides_and_close_them_together() -> None:
    result = traded("pairs", DAILY["pairs"][0], [recorded("IBM"), recorded("MSFT")])

    entries = [decided for decided in result.decided if decided.decision.action is not Action.EXIT]
    for first, second in zip(entries[::2], entries[1::2], strict=True):
        assert first.at == second.at
        assert {first.decision.action, second.decision.action} == {Action.ENTER_LONG, Action.ENTER_SHORT}
        assert {first.decision.symbol, second.decision.symbol} == {"IBM", "MSFT"}
    assert len(entries) > 4


OPEN = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def minutes(*closes: float) -> list[Bar]:
    """One-minute bars from the open, each a cent around its close."""
    cent = Decimal("0.01")
    return [
        Bar(
            OPEN + i * MINUTE,
            Decimal(str(c)),
            Decimal(str(c)) + cent,
            Decimal(str(c)) - cent,
            Decimal(str(c)),
            Decimal(100),
        )
        for i, c in enumerate(closes)
    ]


def looked(kind: str, parameters: dict[str, Any], bars: list[Bar], held: Position | None = None, **at: Any) -> Decision:
    """The decision after the last of the bars."""
    strategy = make_strategy(kind, parameters)
    history = Series("SPY", bars, MINUTE).history(strategy.indicators())
    session = Session(OPEN, OPEN + timedelta(minutes=390))
    symbol = SymbolView("SPY", history, len(bars) - 1, held or Position(), session=session)
    now = at.get("now", bars[-1].start + MINUTE)
    money = Account(Decimal(100_000), Decimal(100_000), Decimal(100_000))
    (decision,) = strategy.decide(View(now, {"SPY": symbol}, money, MINUTE))
    return decision


def test_the_opening_range_is_broken_once_it_is_over() -> None:
    parameters = {"minutes": 3, "exit_before_close": 5}

    assert looked("opening_range_breakout", parameters, minutes(10, 12, 11)).action is Action.HOLD
    assert looked("opening_range_breakout", parameters, minutes(10, 12, 11, 12)).action is Action.HOLD
    broken = looked("opening_range_breakout", parameters, minutes(10, 12, 11, 12.5))
    assert broken.action is Action.ENTER_LONG
    assert broken.stop_loss == Decimal("9.99")
    late = looked("opening_range_breakout", parameters, minutes(10, 12, 11, 12), now=OPEN + timedelta(minutes=385))
    assert late.action is Action.EXIT


def test_vwap_reversion_enters_below_the_average_and_leaves_at_it() -> None:
    assert looked("vwap_reversion", {"distance": "1"}, minutes(100, 100, 99.5)).action is Action.HOLD
    assert looked("vwap_reversion", {"distance": "1"}, minutes(100, 100, 98)).action is Action.ENTER_LONG
    assert looked("vwap_reversion", {"distance": "1"}, minutes(100, 100, 98, 99.9)).action is Action.EXIT


@pytest.mark.parametrize(
    ("kind", "parameters", "field"),
    [
        ("sma_crossover", {"fast": 20, "slow": 10}, "slow"),
        ("sma_crossover", {"fast": 1}, "fast"),
        ("sma_crossover", {"fats": 5}, "fats"),
        ("rsi_reversion", {"period": "many"}, "period"),
        ("target_allocation", {"weights": {"IBM": "0.6", "MSFT": "0.6"}}, "weights"),
        ("target_allocation", {}, "weights"),
        ("pairs", {"first": "IBM", "second": "IBM"}, "second"),
        ("bollinger_reversion", {"deviations": "NaN"}, "deviations"),
    ],
)
def test_wrong_parameters_are_named(kind: str, parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        make_strategy(kind, parameters)


def test_an_unknown_strategy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownStrategy, match=r"sma_crosover.*sma_crossover"):
        make_strategy("sma_crosover", {})


@pytest.mark.parametrize(
    ("kind", "parameters", "sizing", "least"),
    [
        ("opening_range_breakout", {}, {}, 390),  # minutes from the open to the close of New York
        ("rules", {"long": {"entry": {"left": {"indicator": "sma", "period": 100, "back": 50}, "op": ">", "right": 1}}},
         {}, 150),
        ("buy_and_hold", {}, {"kind": "volatility", "value": "0.01"}, 15),
        ("ema_crossover", {"fast": 10, "slow": 50}, {}, 200),
    ],
)  # fmt: skip
def test_live_trading_and_backtests_read_all_bars_that_a_value_depends_on(
    kind: str, parameters: dict[str, Any], sizing: dict[str, Any], least: int
) -> None:
    strategy, sizes = make_strategy(kind, parameters), Sizing.model_validate(sizing)
    row = StrategyRow(
        id=UUID(int=1), name="s", account_id=UUID(int=2), kind=kind, parameters=parameters, symbols=("IBM",),
        interval="1m", sizing=sizing,
    )  # fmt: skip

    assert prepare(row).count >= least
    request = BacktestRequest.model_validate(
        {"strategy": {"kind": kind, "parameters": parameters}, "symbols": ["IBM"], "interval": "1m",
         "from": OPEN, "to": OPEN + DAY, "settings": {"sizing": sizing}}
    )  # fmt: skip
    assert (
        bars_of(strategy, request) == prepare(row).count == bars_needed(strategy, indicators_of(strategy, sizes), "1m")
    )


@pytest.mark.parametrize("kind", ["sma_crossover", "rules"])
def test_equal_averages_do_not_cross(kind: str) -> None:
    """Sums of floats are rounded, so that equal averages differ in the thirteenth digit. Fractions know better."""
    rng = Random(11)
    cents = list(accumulate((rng.choice((-2, -1, 0, 0, 1, 2)) for _ in range(900)), initial=5371))
    sides = [0, 0]
    for at in range(2, len(cents)):
        ahead = Fraction(sum(cents[at - 1 : at + 1]), 2) - Fraction(sum(cents[at - 2 : at + 1]), 3)
        sides.append((ahead > 0) - (ahead < 0))
    bars = minutes(*(each / 100 for each in cents))
    crossed = {at for at in range(3, len(cents)) if sides[at - 1] <= 0 < sides[at] or sides[at - 1] >= 0 > sides[at]}
    fast, slow = ({"indicator": "sma", "period": period} for period in (2, 3))
    up, down = ({"left": fast, "op": f"crosses_{way}", "right": slow} for way in ("above", "below"))
    parameters = {"fast": 2, "slow": 3} if kind == "sma_crossover" else {"long": {"entry": {"any": [up, down]}}}

    result = run(Setup(strategy=make_strategy(kind, parameters), cash=Decimal(1)), [Series("IBM", bars, MINUTE)])

    assert [each.at for each in result.decided] == [bars[at].start + MINUTE for at in sorted(crossed)]
    assert sides[3:].count(0) > 100


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kind": "pairs", "parameters": {"first": "IBM", "second": "AAPL"}}, "parameters.second: AAPL is not one of"),
        ({"rules": {"long": {"entry": {"all": [{"left": {"price": "clsoe"}, "op": ">", "right": 1}]}}}},
         "rules.long.entry.all.0.left.price: Input should be 'open'"),
        ({"rules": {"long": {"entry": {"ref": "a"}}, "define": {"a": {"not": {"left": 1, "op": "=>", "right": 1}}}}},
         "rules.define.a.not.op: Input should be '<'"),
        ({"rules": {"long": {"entry": {"left": {"indicator": "rsi", "period": 0}, "op": ">", "right": 1}}}},
         "rules.long.entry.left.parameters.period: Input should be greater"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_the_path_that_its_author_wrote(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongRequest) as refused:
        strategy_of(StrategyChoice.model_validate(choice), ["IBM"])
    assert str(refused.value).startswith(message)
