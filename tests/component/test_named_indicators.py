"""Indicators that running strategies and watchlists name: computed while they do, and no longer afterwards."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.marketdata.usecases import indicators, name_indicators
from services.marketdata.usecases.name_indicators import follow_named
from services.strategy.persistence import strategies
from services.strategy.usecases.evaluate import prepare
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.indicators import AddIndicator, IndicatorName, RemoveIndicator
from shared.contracts.strategy import StrategyState
from tests.component.strategy_scenario import STRATEGY
from tests.component.watching import context_of, marketdata_at, statements
from tests.component.watchlist_rows import DAILY_AVERAGE, watch
from tests.conftest import FakeClock
from tests.support import rows

NOW = datetime(2026, 3, 16, 15, tzinfo=UTC)
ABOVE = {"left": {"indicator": "rsi", "period": 14}, "op": "<", "right": 30}


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with marketdata_at(NOW, urls, clock) as context:
        yield context


@pytest.fixture
def strategy(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with context_of("strategy", urls, clock) as context:
        yield context


@pytest.fixture
def gateway(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with context_of("gateway", urls, clock) as context:
        yield context


def add(context: ServiceContext, **changes: Any) -> strategies.StrategyRow:
    """A running strategy, with the indicators that it reads."""
    given = {"id": uuid4(), "name": f"{uuid4()}", "interval": "1d", "symbols": ("AAPL", "IBM"), **changes}
    row = prepare(replace(STRATEGY, **given)).row
    with context.engine.begin() as connection:
        assert strategies.add(connection, row, NOW)
    return row


def turn(context: ServiceContext, row: strategies.StrategyRow, state: StrategyState) -> None:
    with context.engine.begin() as connection:
        strategies.save(connection, row, replace(row, state=state), NOW)


def follow(context: ServiceContext) -> int:
    with context.unit_of_work() as uow:
        return follow_named(uow)


def known(context: ServiceContext) -> list[tuple[Any, ...]]:
    """Symbol, interval, name, parameters, and who names it: an operator, strategies, watchlists."""
    statement = """SELECT symbol, interval, name, parameters, by_hand, by_strategies, by_watchlists
                   FROM marketdata.indicators_v1
                   ORDER BY symbol, name, parameters"""
    return [tuple(row) for row in rows(context.engine, statement)]


def test_the_indicators_of_running_strategies_are_added_once_and_removed_with_the_last(
    marketdata: ServiceContext, strategy: ServiceContext
) -> None:
    """Two strategies may read the same. One that is paused, or trades the replay's own bars, names none."""
    one, other = add(strategy), add(strategy, symbols=("AAPL",))
    add(strategy, interval="replay")
    add(strategy, symbols=("MSFT",), state=StrategyState.PAUSED)
    assert follow(marketdata) == 4
    averages = [("1d", "sma", {"period": each}, False, True, False) for each in ("2", "3")]
    assert known(marketdata) == [(symbol, *each) for symbol in ("AAPL", "IBM") for each in averages]
    turn(strategy, one, StrategyState.PAUSED)
    assert follow(marketdata) == 2
    assert known(marketdata) == [("AAPL", *each) for each in averages]
    turn(strategy, other, StrategyState.STOPPED)
    assert (follow(marketdata), known(marketdata)) == (2, [])


def test_rules_name_theirs(marketdata: ServiceContext, strategy: ServiceContext) -> None:
    """With all parameters, also those that the rules leave to their defaults."""
    add(strategy, kind="rules", parameters={"long": {"entry": ABOVE}}, symbols=("IBM",))
    follow(marketdata)
    assert known(marketdata) == [("IBM", "1d", "rsi", {"period": "14"}, False, True, False)]


def test_an_indicator_that_an_operator_named_outlives_the_strategy_and_the_other_way_round(
    marketdata: ServiceContext, strategy: ServiceContext
) -> None:
    """It is removed with the last of both."""
    command = AddIndicator(
        symbol="AAPL", interval="1d", name=IndicatorName.SMA, parameters={"period": 2}, requested_at=NOW
    )
    remove = RemoveIndicator(symbol="AAPL", indicator_id=command.id)
    with marketdata.unit_of_work() as uow:
        indicators.add(uow, command)
    row = add(strategy, symbols=("AAPL",))
    follow(marketdata)
    assert [each[4:6] for each in known(marketdata)] == [(True, True), (False, True)]
    turn(strategy, row, StrategyState.PAUSED)
    follow(marketdata)
    assert [each[4:6] for each in known(marketdata)] == [(True, False)]
    turn(strategy, row, StrategyState.RUNNING)
    follow(marketdata)
    with marketdata.unit_of_work() as uow:
        indicators.remove(uow, remove)
    assert [each[4:6] for each in known(marketdata)] == [(False, True)] * 2
    with marketdata.unit_of_work() as uow:
        indicators.add(uow, command)
        indicators.remove(uow, remove)
    turn(strategy, row, StrategyState.STOPPED)
    follow(marketdata)
    assert known(marketdata) == []


def test_the_indicators_of_watchlists_are_added_and_removed_with_the_last_that_names_them(
    marketdata: ServiceContext, strategy: ServiceContext, gateway: ServiceContext
) -> None:
    """Operators, strategies and watchlists name the same indicator once. A symbol that is unknown here is left out."""
    command = AddIndicator(
        symbol="IBM", interval="1d", name=IndicatorName.SMA, parameters={"period": 2}, requested_at=NOW
    )
    one = watch(gateway, NOW, "AAPL", "IBM", "GONE", indicators=[DAILY_AVERAGE])
    other = watch(gateway, NOW, "AAPL", indicators=[DAILY_AVERAGE])
    assert (follow(marketdata), follow(marketdata)) == (2, 0)
    average = ("1d", "sma", {"period": "2"})
    assert known(marketdata) == [(symbol, *average, False, False, True) for symbol in ("AAPL", "IBM")]
    row = add(strategy, symbols=("AAPL",))
    with marketdata.unit_of_work() as uow:
        indicators.add(uow, command)
    watch(gateway, NOW, watchlist_id=one)
    follow(marketdata)
    assert [(each[0], *each[4:]) for each in known(marketdata) if each[1:4] == average] == [
        ("AAPL", False, True, True),
        ("IBM", True, False, False),
    ]
    turn(strategy, row, StrategyState.STOPPED)
    follow(marketdata)
    assert known(marketdata)[0] == ("AAPL", *average, False, False, True)
    watch(gateway, NOW, watchlist_id=other)
    follow(marketdata)
    assert known(marketdata) == [("IBM", *average, True, False, False)]


def test_an_operator_s_removal_leaves_what_a_watchlist_names(
    marketdata: ServiceContext, gateway: ServiceContext
) -> None:
    watch(gateway, NOW, "IBM", indicators=[DAILY_AVERAGE])
    command = AddIndicator(
        symbol="IBM", interval="1d", name=IndicatorName.SMA, parameters={"period": 2}, requested_at=NOW
    )
    with marketdata.unit_of_work() as uow:
        indicators.add(uow, command)
    follow(marketdata)
    assert [each[4:] for each in known(marketdata)] == [(True, False, True)]
    with marketdata.unit_of_work() as uow:
        indicators.remove(uow, RemoveIndicator(symbol="IBM", indicator_id=command.id))
    assert [each[4:] for each in known(marketdata)] == [(False, False, True)]


def test_a_run_that_changes_nothing_takes_four_statements(
    marketdata: ServiceContext, strategy: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many strategies there are. More indicators than are stored are left out."""
    for _ in range(5):
        add(strategy)
    follow(marketdata)
    with statements(marketdata.engine) as seen:
        assert follow(marketdata) == 0
    views = ("strategy.indicators_v1", "gateway.watchlist_indicators_v1", "marketdata.indicators")
    assert len([each for each in seen if any(view in each for view in views)]) == 4
    monkeypatch.setattr(name_indicators, "MOST_NAMED", 3)
    assert (follow(marketdata), len(known(marketdata))) == (1, 3)
