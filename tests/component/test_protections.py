"""The protections of a strategy: those that keep it from entering, and those that pause it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.marketdata.service import prepare
from services.strategy.usecases.control_strategies import control
from shared.contracts.orders import Side
from shared.contracts.strategy import Control, ControlStrategy
from tests.component.strategy_scenario import STRATEGY, Scenario
from tests.component.watching import context_of
from tests.conftest import FakeClock

ALWAYS = {"long": {"entry": {"left": {"price": "close"}, "op": ">", "right": 1}}}


@pytest.fixture
def scenario(urls: dict[str, str], clock: FakeClock) -> Iterator[Scenario]:
    """A strategy by rules that always wants to enter its three symbols."""
    with (
        context_of("strategy", urls, clock) as strategy,
        context_of("marketdata", urls, clock) as marketdata,
        context_of("orders", urls, clock) as orders,
    ):
        yield Scenario(strategy, marketdata, orders)


def protected(scenario: Scenario, **protections: Any) -> None:
    scenario.add_strategy(kind="rules", parameters=ALWAYS, symbols=("AAPL", "IBM", "MSFT"), protections=protections)
    for symbol in ("AAPL", "IBM", "MSFT"):
        scenario.add_bars((10,), symbol=symbol)


def outcomes(scenario: Scenario) -> list[tuple[str, str]]:
    return [(each.symbol, each.outcome) for each in scenario.decisions()]


@pytest.mark.parametrize("name", ["max_open_positions", "max_trades_per_day"])
def test_it_enters_no_more_than_it_may(scenario: Scenario, name: str, clock: FakeClock) -> None:
    """The third entry is blocked, with the reason in the decision. It stays so at the next bar."""
    protected(scenario, **{name: 2})
    scenario.run()
    assert outcomes(scenario) == [("AAPL", "ordered"), ("IBM", "ordered"), ("MSFT", "blocked")]
    assert scenario.decisions()[2].cuts[0].startswith(f"{name}: ")
    scenario.add_bars((11,), symbol="MSFT")
    clock.move(minutes=1)
    scenario.run()
    assert outcomes(scenario)[-1] == ("MSFT", "blocked")


def test_a_sale_by_target_is_no_entry(scenario: Scenario, clock: FakeClock) -> None:
    """The first bar brings AAPL down to its weight. IBM is entered later the same day, though one entry is allowed."""
    weights = {"weights": {"AAPL": "0.1", "IBM": "0.1"}, "band": "0.01"}
    terms: dict[str, Any] = {"kind": "target_allocation", "symbols": ("AAPL", "IBM"), "parameters": weights}
    scenario.add_strategy(**terms, protections={"max_trades_per_day": 1})
    scenario.add_order(5_000)
    scenario.add_bars((10,))
    scenario.run()
    assert [(each.symbol, each.side, each.outcome) for each in scenario.decisions() if each.side] == [
        ("AAPL", "sell", "ordered")
    ]
    scenario.add_bars((10,), symbol="IBM")
    clock.move(minutes=1)
    scenario.run()
    assert ("IBM", "ordered") in outcomes(scenario)


def test_trades_of_yesterday_do_not_count(scenario: Scenario, clock: FakeClock) -> None:
    protected(scenario, max_trades_per_day=2)
    scenario.run()
    clock.move(days=1)
    scenario.add_bars((11,), symbol="MSFT")
    scenario.run()
    assert [outcome for symbol, outcome in outcomes(scenario) if symbol == "MSFT"] == ["blocked", "ordered"]


def test_a_symbol_cools_down_after_a_position_was_closed(scenario: Scenario, clock: FakeClock) -> None:
    """Other symbols are entered meanwhile."""
    protected(scenario, cool_down_minutes=30)
    scenario.add_round_trip(5, at=clock.now - timedelta(minutes=29), symbol="IBM")
    scenario.run()
    assert outcomes(scenario) == [("AAPL", "ordered"), ("IBM", "blocked"), ("MSFT", "ordered")]
    clock.move(minutes=1)
    scenario.run()
    assert ("IBM", "ordered") in outcomes(scenario)


def test_an_exit_is_always_allowed(scenario: Scenario) -> None:
    """The strategy may not enter any more, but leaves its position."""
    leave = {"left": {"price": "close"}, "op": ">", "right": 1}
    rules = {"long": {"entry": leave, "exit": leave}}
    scenario.add_strategy(kind="rules", parameters=rules, protections={"max_trades_per_day": 1})
    scenario.add_order(10)
    scenario.add_bars((10,))
    scenario.run()
    assert scenario.decided() == ("exit", "ordered", 10)


@pytest.mark.parametrize(
    ("protections", "profits", "reason"),
    [
        ({"max_loss_streak": 2}, (5, -1, -1), "max_loss_streak: the last 2 round trips lost."),
        ({"max_drawdown": "0.02"}, (-2_000,), "max_drawdown: the profit is 2000.00 below its peak."),
        ({"max_daily_loss": "0.01"}, (-600, -400), "max_daily_loss: 1000.00 were lost today."),
    ],
)
def test_losses_pause_it(
    scenario: Scenario, clock: FakeClock, protections: dict[str, Any], profits: tuple[int, ...], reason: str
) -> None:
    """The last loss does it. A decision says so, and the strategy sends nothing more until it is resumed."""
    protected(scenario, **protections)
    scenario.run()
    sent = len(scenario.submitted())
    for number, profit in enumerate(profits):
        assert scenario.state().state == "running"
        scenario.add_round_trip(profit, at=clock.move(minutes=1))
        scenario.run()
        assert (scenario.state().state == "paused") == (number == len(profits) - 1)
    assert scenario.state().state_reason == reason
    assert scenario.decisions()[-1].reason == f"The strategy was paused: {reason}"
    scenario.add_bars((12,))
    assert scenario.run() == {"decisions": 0, "signals": 0}
    assert len(scenario.submitted()) == sent


def test_losses_of_others_and_from_before_do_not_count(scenario: Scenario, clock: FakeClock) -> None:
    """Nor does a drawdown that is smaller than the limit."""
    scenario.add_round_trip(-50_000, at=clock.now - timedelta(minutes=1))
    protected(scenario, max_drawdown="0.5", max_loss_streak=1)
    scenario.add_round_trip(-90_000, at=clock.now, by=uuid4())
    scenario.run()
    assert scenario.state().state == "running"


def test_a_new_generation_of_the_account_begins_anew(scenario: Scenario, clock: FakeClock) -> None:
    """Losses from before a reset do not pause it."""
    protected(scenario, max_drawdown="0.02")
    scenario.run()
    scenario.add_round_trip(-5_000, at=clock.move(minutes=1))
    with scenario.orders.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE orders.accounts SET generation = 2, generation_at = %s", (clock.now,))
    scenario.run()
    after = scenario.state()
    assert (after.state, after.generation, after.peak_profit) == ("running", 2, 0)


def test_a_halt_may_close_the_positions(scenario: Scenario, clock: FakeClock) -> None:
    """Its orders are canceled first, then its shares are sold."""
    protected(scenario, max_loss_streak=1, flatten=True)
    scenario.add_order(10)
    resting = scenario.add_order(5, filled=False)
    scenario.add_round_trip(-1, at=clock.now)
    scenario.run()
    (sent,) = scenario.submitted()
    assert (sent.body["side"], sent.body["qty"], sent.body["type"]) == ("sell", "10", "market")
    assert scenario.canceled() == [str(resting)]
    assert scenario.state().state == "paused"
    assert STRATEGY.id == scenario.state().id


def test_a_halt_cancels_the_entries_and_leaves_the_exits(scenario: Scenario, clock: FakeClock) -> None:
    """It holds ten shares, and a buy, a sale of them and a stop loss are open."""
    protected(scenario, max_loss_streak=1)
    scenario.add_order(10)
    entry = scenario.add_order(5, filled=False)
    scenario.add_order(5, side=Side.SELL, filled=False)
    scenario.add_order(5, side=Side.SELL, filled=False, leg="stop_loss")
    scenario.add_round_trip(-1, at=clock.now)
    scenario.run()
    assert scenario.state().state == "paused"
    assert scenario.canceled() == [str(entry)]


def test_a_large_position_pauses_it_and_may_stay_after_a_resume(scenario: Scenario, clock: FakeClock) -> None:
    """9,000 of 109,000. It is paused again once the position has grown by a tenth."""
    prepare(scenario.marketdata)
    protected(scenario, max_concentration="0.08")
    with scenario.marketdata.engine.begin() as connection:
        connection.exec_driver_sql(PRICE, {"last": 90, "at": clock.now})
    scenario.run()
    clock.move(minutes=1)
    scenario.add_order(100)
    scenario.run()
    paused = scenario.state()
    assert (paused.state, paused.state_reason[:24]) == ("paused", "max_concentration: AAPL ")
    resume(scenario)
    for last, state in ((90, "running"), (95, "running"), (120, "paused")):
        clock.move(minutes=1)
        with scenario.marketdata.engine.begin() as connection:
            connection.exec_driver_sql(PRICE, {"last": last, "at": clock.now})
        scenario.run()
        assert scenario.state().state == state, last


def test_it_is_paused_while_its_account_is_halted(scenario: Scenario, clock: FakeClock) -> None:
    """It is, with a decision that says so, also where no message told of the halt. It cannot be resumed."""
    protected(scenario)
    with scenario.orders.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE orders.accounts SET halt_id = gen_random_uuid(), halted_at = %s, halt_reason = 'the drawdown'",
            (clock.now,),
        )
    scenario.run()
    assert outcomes(scenario) == [("*", "blocked")]
    assert scenario.state().state_reason == "account_halted: the drawdown"
    resume(scenario)
    assert scenario.state().state == "paused"


PRICE = """
UPDATE marketdata.instruments SET last_price = %(last)s, bid = %(last)s, ask = %(last)s, quoted_at = %(at)s,
  sequence = sequence + 1, provider = 'test' WHERE symbol = 'AAPL'
"""


def resume(scenario: Scenario) -> None:
    command = ControlStrategy(request_id=uuid4(), strategy_id=STRATEGY.id, action=Control.RESUME)
    with scenario.strategy.unit_of_work() as uow:
        control(uow, command)
