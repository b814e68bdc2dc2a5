"""Indicators that running strategies name: computed while they run, and no longer afterwards."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.marketdata.usecases import indicators, name_indicators
from services.marketdata.usecases.name_indicators import follow_strategies
from services.strategy.persistence import strategies
from services.strategy.usecases.evaluate import prepare
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.indicators import AddIndicator, IndicatorName, RemoveIndicator
from shared.contracts.strategy import StrategyState
from tests.component.strategy_scenario import STRATEGY
from tests.component.watching import context_of, marketdata_at, statements
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
        return follow_strategies(uow)


def known(context: ServiceContext) -> list[tuple[Any, ...]]:
    """Symbol, interval, name, parameters, and who names it."""
    statement = """SELECT symbol, interval, name, parameters, by_hand, by_strategies FROM marketdata.indicators_v1
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
    averages = [("1d", "sma", {"period": each}, False, True) for each in ("2", "3")]
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
    assert known(marketdata) == [("IBM", "1d", "rsi", {"period": "14"}, False, True)]


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
    assert [each[4:] for each in known(marketdata)] == [(True, True), (False, True)]
    turn(strategy, row, StrategyState.PAUSED)
    follow(marketdata)
    assert [each[4:] for each in known(marketdata)] == [(True, False)]
    turn(strategy, row, StrategyState.RUNNING)
    follow(marketdata)
    with marketdata.unit_of_work() as uow:
        indicators.remove(uow, remove)
    assert [each[4:] for each in known(marketdata)] == [(False, True)] * 2
    with marketdata.unit_of_work() as uow:
        indicators.add(uow, command)
        indicators.remove(uow, remove)
    turn(strategy, row, StrategyState.STOPPED)
    follow(marketdata)
    assert known(marketdata) == []


def test_a_run_that_changes_nothing_takes_three_statements(
    marketdata: ServiceContext, strategy: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many strategies there are. More indicators than are stored are left out."""
    for _ in range(5):
        add(strategy)
    follow(marketdata)
    with statements(marketdata.engine) as seen:
        assert follow(marketdata) == 0
    assert len([each for each in seen if "strategy.indicators_v1" in each or "marketdata.indicators" in each]) == 3
    monkeypatch.setattr(name_indicators, "MOST_NAMED", 3)
    assert (follow(marketdata), len(known(marketdata))) == (1, 3)
