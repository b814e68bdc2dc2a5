"""The trading bot on made-up bars and a real PostgreSQL: its decisions, signals and orders, each once."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from embedded.system import System
from services.strategy.strategies import registry
from services.strategy.strategies.decision import Action
from services.strategy.strategies.library.crossover import SmaCrossover
from services.strategy.strategies.strategy import act
from services.strategy.usecases.evaluate import evaluate
from shared.bus.inprocess import wait_until_idle
from shared.contracts.orders import Side
from tests.component.scripted_prices import push
from tests.component.strategy_scenario import NOON, STRATEGY, Scenario
from tests.component.watching import Sent, context_of, outbox
from tests.conftest import FakeClock
from tests.support import account, broken_invariants, eventually, order, rows, send, statuses, value

#: The averages of two and of three bars cross at the last bar.
UP, DOWN, LEVEL = (10, 10, 9, 8, 12), (10, 10, 11, 12, 8), (10, 10, 10, 10)


@pytest.fixture
def scenario(urls: dict[str, str], clock: FakeClock) -> Iterator[Scenario]:
    with (
        context_of("strategy", urls, clock) as strategy,
        context_of("marketdata", urls, clock) as marketdata,
        context_of("orders", urls, clock) as orders,
    ):
        made = Scenario(strategy, marketdata, orders)
        made.add_strategy()
        yield made


def test_it_buys_when_the_fast_average_crosses_above_the_slow_one(scenario: Scenario) -> None:
    """One trade is a decision, a signal row, a SignalGenerated and a SubmitOrder, all for the same bar."""
    scenario.add_bars(UP)
    assert scenario.run() == {"decisions": 1, "signals": 1}
    assert scenario.decided() == ("enter_long", "ordered", 10)
    (signal,) = scenario.signals()
    assert (signal.type, signal.action, signal.price, signal.bar_at) == (
        "enter_long",
        "buy",
        12,
        NOON + timedelta(minutes=4),
    )
    assert (signal.strength, signal.confidence, signal.indicators) == (
        1,
        1,
        {"fast": 10.0, "slow": pytest.approx(29 / 3)},
    )
    said, sent = outbox(scenario.strategy)
    assert said.name == "SignalGenerated.v1"
    assert (said.body["signal_id"], said.body["action"], said.body["reason"]) == (str(signal.id), "buy", signal.reason)
    assert_order(sent, signal, "buy", "10")
    assert scenario.decisions()[0].order_id == UUID(sent.body["order_id"])


def test_an_evaluation_names_the_indicators_that_the_strategy_reads(scenario: Scenario) -> None:
    """Also of a strategy from before they were published."""
    scenario.add_bars(UP)
    statement = "SELECT symbol, interval, name, parameters FROM strategy.indicators_v1 ORDER BY parameters"
    assert rows(scenario.strategy.engine, statement) == []
    scenario.run()
    assert [tuple(row) for row in rows(scenario.strategy.engine, statement)] == [
        ("AAPL", "replay", "sma", {"period": each}) for each in ("2", "3")
    ]


def test_a_decision_has_its_inputs_and_conditions_with_their_values(scenario: Scenario) -> None:
    """Also one to hold: the bar with its time, the position, the equity, and each value that was compared."""
    scenario.add_bars((10, 11, 12, 13))
    scenario.run()
    (decision,) = scenario.decisions()
    assert (decision.outcome, decision.version, decision.reason) == ("held", 1, "The averages did not cross.")
    assert (decision.bar_at, decision.close) == (NOON + timedelta(minutes=3), 13)
    assert (decision.position, decision.equity) == (0, 100_000)
    ((text, holds, values),) = decision.conditions
    assert (text, holds) == ("the averages cross", False)
    assert values == {"fast": "12.5", "slow": "12", "fast before": "11.5", "slow before": "11"}


def assert_order(sent: Sent, signal: Any, side: str, qty: str) -> None:
    """Assert that the command is a market order of the strategy on its account, with the signal's id."""
    assert sent.name == "SubmitOrder.v1"
    assert sent.id == UUID(sent.body["order_id"]) == signal.id
    assert (sent.body["side"], sent.body["qty"], sent.body["type"]) == (side, qty, "market")
    assert sent.body["strategy_id"] == str(STRATEGY.id)
    assert sent.body["account_id"] == str(STRATEGY.account_id)


def test_it_sells_its_own_shares_when_the_fast_average_crosses_below(scenario: Scenario) -> None:
    """It sells all shares that its own orders bought and have not sold yet."""
    scenario.add_bars(DOWN)
    scenario.add_order(30)
    scenario.add_order(5, side=Side.SELL)
    scenario.run()
    assert scenario.decided() == ("exit", "ordered", 25)
    (signal,), (sent,) = scenario.signals(), scenario.submitted()
    assert_order(sent, signal, "sell", "25")


def test_it_cancels_the_exits_of_its_bracket_before_it_sells(scenario: Scenario) -> None:
    """They hold the shares, so that its order would be refused."""
    scenario.add_bars(DOWN)
    scenario.add_order(10)
    leg = scenario.add_order(10, side=Side.SELL, filled=False, leg="stop_loss")
    scenario.run()
    assert [sent.name for sent in outbox(scenario.strategy)] == [
        "SignalGenerated.v1",
        "CancelOrder.v1",
        "SubmitOrder.v1",
    ]
    assert outbox(scenario.strategy)[1].body["order_id"] == str(leg)


def test_stops_of_rules_become_a_bracket(scenario: Scenario) -> None:
    """The entry takes its exits with it: two percent below the close, and four above it."""
    above = {"left": {"price": "close"}, "op": ">", "right": 9}
    scenario.add_strategy(
        id=uuid4(),
        name="rules",
        kind="rules",
        symbols=("IBM",),
        parameters={"long": {"entry": above}, "stop_loss": "2", "take_profit": "4"},
    )
    scenario.add_bars((10,), symbol="IBM")
    scenario.run()
    (sent,) = scenario.submitted()
    assert (sent.body["order_class"], sent.body["time_in_force"]) == ("bracket", "gtc")
    assert Decimal(sent.body["stop_loss"]["stop_price"]) == Decimal("9.8")
    assert Decimal(sent.body["take_profit"]["limit_price"]) == Decimal("10.4")


@pytest.mark.parametrize(
    ("closes", "bought", "outcome", "reason"),
    [
        ((), 0, "held", "The averages do not have enough bars yet."),
        (UP[:3], 0, "held", "The averages do not have enough bars yet."),
        (LEVEL, 0, "held", "The averages did not cross."),
        (UP, 10, "cut", "The fast average crossed above the slow one."),
        (DOWN, 0, "cut", "The fast average crossed below the slow one."),
    ],
)
def test_it_sends_nothing_otherwise_and_gives_the_reason(
    scenario: Scenario, closes: Sequence[int], bought: int, outcome: str, reason: str
) -> None:
    scenario.add_bars(closes)
    if bought:
        scenario.add_order(bought)
    assert scenario.run() == {"decisions": 1, "signals": 0}
    (decision,) = scenario.decisions()
    assert (decision.outcome, decision.reason) == (outcome, reason)
    assert bool(decision.cuts) == (outcome == "cut")
    assert outbox(scenario.strategy) == []


@pytest.mark.parametrize(("closes", "side"), [(UP, Side.BUY), (DOWN, Side.SELL)])
def test_it_waits_for_its_open_order(scenario: Scenario, closes: Sequence[int], side: Side) -> None:
    """An open order counts like shares that it holds."""
    scenario.add_bars(closes)
    if side is Side.SELL:
        scenario.add_order(10)
    scenario.add_order(10, side=side, filled=False)
    scenario.run()
    (decision,) = scenario.decisions()
    assert (decision.outcome, len(decision.cuts)) == ("cut", 1)
    assert "is open" in decision.cuts[0]


def test_it_reads_the_bars_of_its_own_interval_and_symbol(scenario: Scenario) -> None:
    """Crossing bars of another interval and of another symbol do not make it buy."""
    scenario.add_bars(LEVEL)
    scenario.add_bars(UP, interval="1m")
    scenario.add_bars(UP, symbol="IBM")
    scenario.run()
    assert scenario.decided()[0] == "hold"


def test_it_does_not_see_the_bar_that_is_not_over(scenario: Scenario, clock: FakeClock) -> None:
    """The minute that begins at the crossing is decided on once it is over."""
    minutes = scenario.add_strategy(id=uuid4(), name="minutes", interval="1m", symbols=("IBM",))
    scenario.add_bars(UP, symbol="IBM", interval="1m")
    last = NOON + timedelta(minutes=4)
    clock.now = last + timedelta(seconds=59)
    scenario.run()
    clock.now = last + timedelta(seconds=60)
    scenario.run()
    decided = [(each.bar_at, each.outcome) for each in scenario.decisions() if each.strategy_id == minutes.id]
    assert decided == [(last - timedelta(minutes=1), "held"), (last, "ordered")]


def test_every_strategy_decides_on_each_of_its_symbols(scenario: Scenario) -> None:
    """Two more strategies on two symbols each make five decisions in a run. A stopped strategy makes none."""
    for name in ("second", "third", "stopped"):
        state = "stopped" if name == "stopped" else "running"
        scenario.add_strategy(id=uuid4(), name=name, symbols=("AAPL", "IBM"), state=state)
    scenario.add_bars(UP)
    assert scenario.run() == {"decisions": 5, "signals": 3}
    assert len({(decision.strategy_id, decision.symbol) for decision in scenario.decisions()}) == 5
    assert all(decision.reason for decision in scenario.decisions())
    assert len({sent.body["strategy_id"] for sent in scenario.submitted()}) == 3


def test_a_bar_is_traded_on_once(scenario: Scenario) -> None:
    """A second run logs another decision, but sends no second order."""
    scenario.add_bars(UP)
    assert [scenario.run()["signals"] for _ in range(2)] == [1, 0]
    assert (len(scenario.decisions()), len(scenario.signals()), len(scenario.submitted())) == (2, 1, 1)


def test_another_version_trades_no_second_time_on_a_bar(scenario: Scenario) -> None:
    """The order's id follows from strategy, bar and symbol, whatever the version."""
    scenario.add_bars(UP)
    scenario.run()
    with scenario.strategy.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE strategy.strategies SET version = 2")
    with scenario.strategy.engine.begin() as connection:  # as if its order had never been accepted
        connection.exec_driver_sql("UPDATE strategy.decisions SET order_id = NULL")
    scenario.run()
    assert [(each.version, each.outcome) for each in scenario.decisions()] == [(1, "ordered"), (2, "repeated")]
    assert len(scenario.submitted()) == 1


def test_a_repeated_run_adds_nothing(scenario: Scenario) -> None:
    """It adds no decision, no signal and no message."""
    scenario.add_strategy(id=uuid4(), name="second", symbols=("IBM", "MSFT"))
    scenario.add_bars(UP)
    scenario.add_bars(DOWN, symbol="IBM")
    run_id = uuid4()
    scenario.run(run_id)
    before = (scenario.decisions(), scenario.signals(), outbox(scenario.strategy))
    scenario.run(run_id)
    assert (scenario.decisions(), scenario.signals(), outbox(scenario.strategy)) == before


def test_it_never_orders_beyond_its_position_size(scenario: Scenario) -> None:
    """An order larger than the position limit is reduced to it, and the decision says so."""
    small = {"kind": "qty", "value": "10", "max_position_qty": "4"}
    scenario.add_strategy(id=uuid4(), name="small", symbols=("IBM",), sizing=small)
    scenario.add_bars(UP, symbol="IBM")
    scenario.run()
    assert [sent.body["qty"] for sent in scenario.submitted()] == ["4"]
    assert [each.cuts for each in scenario.decisions() if each.symbol == "IBM"] == [["Cut to 4 by max_position_qty."]]


def test_its_position_limit_holds_while_orders_is_down(scenario: Scenario) -> None:
    """Its first order is not in the books of orders yet, and the next crossing must not send a second one."""
    scenario.add_bars(UP)
    scenario.run()
    scenario.add_bars((9, 8, 14))
    scenario.run()
    assert [each.outcome for each in scenario.decisions()] == ["ordered", "cut"]
    assert len(scenario.submitted()) == 1


@pytest.mark.parametrize(("own", "decided"), [(0, ("exit", "cut", 0)), (4, ("exit", "ordered", 4))])
def test_it_does_not_sell_shares_bought_manually(scenario: Scenario, own: int, decided: tuple[str, str, int]) -> None:
    """Ten shares that somebody else bought on its account stay there."""
    scenario.add_bars(DOWN)
    scenario.add_order(10, by=None)
    if own:
        scenario.add_order(own)
    scenario.run()
    assert scenario.decided() == decided


def test_it_sells_no_more_than_the_account_still_holds(scenario: Scenario) -> None:
    """It bought ten shares, and somebody sold seven of them."""
    scenario.add_bars(DOWN)
    scenario.add_order(10)
    scenario.add_order(7, by=None, side=Side.SELL)
    scenario.run()
    assert scenario.decided() == ("exit", "ordered", 3)


class Raises(SmaCrossover):
    kind = "raises"

    def decide(self, view: Any) -> Any:  # noqa: ARG002
        raise RuntimeError("out of ideas")


class Hangs(SmaCrossover):
    kind = "hangs"

    def decide(self, view: Any) -> Any:  # noqa: ARG002
        while True:
            pass


class Babbles(SmaCrossover):
    kind = "babbles"

    def decide(self, view: Any) -> Any:  # noqa: ARG002
        return ["buy everything"]


class Shouts(SmaCrossover):
    kind = "shouts"

    def decide_symbol(self, view: Any, symbol: Any) -> Any:  # noqa: ARG002
        return act(symbol, Action.ENTER_LONG, "It is certain.", strength=Decimal(2))


class Mumbles(SmaCrossover):
    kind = "mumbles"

    def decide_symbol(self, view: Any, symbol: Any) -> Any:  # noqa: ARG002
        return act(symbol, Action.ENTER_LONG, "\0")


@pytest.mark.parametrize(
    ("plug_in", "error"),
    [
        (Raises, "RuntimeError: out of ideas"),
        (Hangs, "did not end within 0.2"),
        (Babbles, "is no decision"),
        (Shouts, "strength and confidence must be between 0 and 1"),
        (Mumbles, "must not contain NUL"),
    ],
)
def test_a_strategy_that_fails_is_paused_and_the_others_go_on(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, plug_in: type[SmaCrossover], error: str
) -> None:
    """Each failure is a decision that says so. After three the strategy is paused, which says why."""
    monkeypatch.setattr(registry, "strategies", lambda: {"sma_crossover": SmaCrossover, plug_in.kind: plug_in})
    bad = scenario.add_strategy(id=uuid4(), name="a-bad-one", kind=plug_in.kind)
    scenario.add_bars(UP)
    for _ in range(4):
        evaluate(scenario.strategy, uuid4(), lambda _: True, seconds=0.2)
    failed = [each for each in scenario.decisions() if each.strategy_id == bad.id]
    assert [(each.outcome, each.symbol) for each in failed] == [("failed", "*")] * 3
    assert all(error in each.reason for each in failed)
    after = scenario.state(bad.id)
    assert (after.state, after.failures) == ("paused", 3)
    assert error in after.state_reason
    others = [each.outcome for each in scenario.decisions() if each.strategy_id == STRATEGY.id]
    assert others == ["ordered", "repeated", "repeated", "repeated"]


def test_the_number_of_statements_does_not_depend_on_that_of_strategies(scenario: Scenario) -> None:
    """Twenty more strategies on three symbols read and write in as many statements as one."""
    statements: list[str] = []
    event.listen(scenario.strategy.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    for symbol in ("AAPL", "IBM", "MSFT"):
        scenario.add_bars(UP, symbol=symbol)
    scenario.run()
    alone = len(statements)
    for number in range(20):
        scenario.add_strategy(id=uuid4(), name=f"s{number}", symbols=("AAPL", "IBM", "MSFT"))
    statements.clear()
    assert scenario.run()["decisions"] == 61
    assert len(statements) == alone


def test_a_strategy_with_a_schedule_decides_by_it(scenario: Scenario, clock: FakeClock) -> None:
    """trading_bot leaves it out, and its own job takes it once for each slot."""
    own = scenario.add_strategy(id=uuid4(), name="scheduled", symbols=("IBM",), schedule="1m")
    clock.now = clock.now.replace(second=30)
    scenario.run(job="trading_bot_schedules")
    for seconds in (10, 20, 40, 20):
        clock.move(seconds=seconds)
        scenario.run(job="trading_bot_schedules")
    scenario.run()
    assert sum(each.strategy_id == own.id for each in scenario.decisions()) == 3
    assert sum(each.strategy_id == STRATEGY.id for each in scenario.decisions()) == 1


def test_its_orders_fill_like_any_other(system: System) -> None:
    """A crossing makes it buy. The next one makes it sell those shares, but not three bought manually."""
    scenario = Scenario(system.contexts["strategy"], system.contexts["marketdata"], system.contexts["orders"])
    engine, by_hand = system.contexts["orders"].engine, order(STRATEGY.account_id, qty=Decimal(3))
    send(system.contexts["gateway"], account(STRATEGY.account_id))
    settled(system)
    send(system.contexts["gateway"], by_hand)
    scenario.add_strategy()
    for closes, action, position in ((UP, "enter_long", 13), ((13, 6), "exit", 3)):
        scenario.add_bars(closes)
        scenario.run()
        settled(system)
        push(system.contexts["marketdata"], {"AAPL": Decimal(closes[-1])})
        settled(system)
        (made,) = [
            each
            for each in scenario.decisions()
            if each.strategy_id == STRATEGY.id and each.action == action and each.order_id
        ]
        assert statuses(engine, STRATEGY.account_id)[made.order_id] == "filled"
        held = value(engine, "SELECT qty FROM orders.positions WHERE account_id = :a", a=STRATEGY.account_id)
        assert held == position
    assert broken_invariants(engine) == {}


def settled(system: System) -> None:
    """Wait until every message has been handled."""

    def drained() -> bool:
        wait_until_idle(system.broker, seconds=10)
        return not any(
            value(context.engine, f"SELECT count(*) FROM {name}.outbox") for name, context in system.contexts.items()
        )

    eventually(drained, what="the outboxes drained")
