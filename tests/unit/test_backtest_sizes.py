"""Sizes, costs and reversals of a backtest, as in live trading."""

from decimal import Decimal

import pytest

from services.strategy.backtest.outcome import outcome
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Backtest
from services.strategy.strategies.view import Bar
from tests.unit.test_backtest_limits import ABOVE, BELOW, MINUTE, NOON, minutes, traded


def test_the_size_follows_from_the_average_true_range_also_where_the_strategy_has_none() -> None:
    """A range of 2 a bar, of which one is to be worth 1 % of 100,000: 500 shares."""
    bars = [Bar(NOON + n * MINUTE, *map(Decimal, (101, 102, 100, 101, 9))) for n in range(30)]
    terms = {"sizing": {"kind": "volatility", "value": "0.01"}}

    result = traded("rules", {"long": {"entry": ABOVE}}, [Series("AAPL", bars, MINUTE)], **terms)

    assert result.decided[0].sized.cuts[0] == "The size follows from the average true range, which is not known."
    assert [(int(fill.qty), fill.quote.bar_start) for fill in result.exchange.fills] == [(500, NOON + 15 * MINUTE)]


def test_round_trips_count_after_fees_and_costs_are_told() -> None:
    """Bought at 102 and sold at 99 by ten shares, each fill with a fee of 1 and half a per cent of slippage."""
    costs = {"commission": {"kind": "per_share", "rate": "0.1"}, "slippage": {"kind": "fixed", "rate": "50"}}
    rules = {"long": {"entry": ABOVE, "exit": BELOW}}

    found = outcome(traded("rules", rules, [minutes("AAPL", 101, 102, 99, 98)], settings={"fills": costs}))

    (trip,), figures = found["round_trips"], found["figures"]
    slips = [Decimal(fill["slippage"]) * 10 for fill in found["fills"]]
    assert (trip["fees"], figures["fees"], Decimal(figures["slippage"])) == ("2", "2", round(sum(slips), 2))
    assert slips[0] > 0
    assert figures["trades"]["expectancy"] == float(Decimal(trip["profit"]) - 2)
    assert Decimal(figures["profit"]) == Decimal(trip["profit"]) - 2
    assert figures["time_in_market"] == pytest.approx(2 / 4)
    assert figures["exposure"] == pytest.approx(float(Decimal(trip["cost"])) / 100_000 * 2 / 3, rel=1e-3)


def test_fractions_are_cut_to_whole_shares_where_the_entry_has_a_stop() -> None:
    """Fractions take no exits, and a position without the stop that was asked for is not what was asked for."""
    rules = {"long": {"entry": ABOVE}, "stop_loss": "5"}
    fractional = {"kind": "notional", "value": "250", "fractional": True}

    found = traded("rules", rules, [minutes("AAPL", 101, 101, 101)], sizing=fractional)
    dear = traded("rules", rules, [minutes("AAPL", 301, 301, 301)], sizing=fractional)

    cut = "Cut to whole shares, because fractions take no stop loss and no take profit."
    assert found.decided[0].sized.cuts == (cut,)
    assert [(order.qty, str(order.leg)) for order in found.exchange.orders.values()] == [
        (Decimal(2), "None"),
        (Decimal(2), "stop_loss"),
    ]
    assert dear.decided[0].sized.cuts == (cut, "Nothing is left to order.")
    assert dear.exchange.fills == []


#: The averages of two and three bars cross at the fifth, the eighth and the eleventh bar.
TURNS = (100, 100, 99, 98, 104, 106, 105, 95, 93, 94, 105, 107)
BOTH_SIDES = {"fast": 2, "slow": 3, "short": True}


def fills(result: Backtest) -> list[tuple[str, int]]:
    return [(fill.order.side.value, int(fill.qty)) for fill in result.exchange.fills]


def test_an_account_without_short_sales_still_gets_out_of_what_it_holds() -> None:
    series = [minutes("AAPL", *TURNS)]

    both = traded("sma_crossover", BOTH_SIDES, series, settings={"multiplier": 2, "shorting": True})
    long_only = traded("sma_crossover", BOTH_SIDES, series)

    assert fills(both) == [("buy", 10), ("sell", 20), ("buy", 20)]
    assert fills(long_only) == [("buy", 10), ("sell", 10), ("buy", 10)]
    assert long_only.exchange.refusals == []
    assert long_only.decided[1].sized.cuts == ("The account's settings do not allow short sales.",)


def test_a_reversal_counts_as_an_entry_and_only_closes_after_too_many() -> None:
    margin = {"multiplier": 2, "shorting": True}

    once = traded("sma_crossover", BOTH_SIDES, [minutes("AAPL", *TURNS)], settings=margin,
                  protections={"max_trades_per_day": 1})  # fmt: skip
    twice = traded("sma_crossover", BOTH_SIDES, [minutes("AAPL", *TURNS)], settings=margin,
                   protections={"max_trades_per_day": 2})  # fmt: skip

    assert fills(once) == [("buy", 10), ("sell", 10)]
    assert once.decided[1].sized.cuts == ("max_trades_per_day: the strategy has entered 1 times today.",)
    assert fills(twice) == [("buy", 10), ("sell", 20), ("buy", 10)]
