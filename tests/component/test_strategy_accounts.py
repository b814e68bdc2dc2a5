"""A strategy beside its account: symbols that it no longer has, an account that is closed, and other currencies."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.strategy.persistence import strategies
from services.strategy.strategies.library.crossover import SmaCrossover
from services.strategy.usecases.control_strategies import control
from shared.contracts.orders import Side
from shared.contracts.strategy import Control, ControlStrategy
from tests.component.strategy_scenario import STRATEGY, Scenario
from tests.component.watching import context_of
from tests.conftest import FakeClock


@pytest.fixture
def scenario(urls: dict[str, str], clock: FakeClock) -> Iterator[Scenario]:
    with (
        context_of("strategy", urls, clock) as strategy,
        context_of("marketdata", urls, clock) as marketdata,
        context_of("orders", urls, clock) as orders,
    ):
        yield Scenario(strategy, marketdata, orders)


def test_flatten_closes_the_symbols_that_the_strategy_had(scenario: Scenario) -> None:
    """A change of its terms took AAPL from it. Its shares and its resting order there are still its own."""
    before = scenario.add_strategy(symbols=("AAPL", "IBM"))
    scenario.add_order(10)
    resting = scenario.add_order(4, filled=False)
    with scenario.strategy.unit_of_work() as uow:
        strategies.save(uow.connection, before, replace(before, symbols=("IBM",)), uow.now)
    with scenario.strategy.unit_of_work() as uow:
        control(uow, ControlStrategy(request_id=uuid4(), strategy_id=STRATEGY.id, action=Control.FLATTEN))
    (sent,) = scenario.submitted()
    assert (sent.body["symbol"], sent.body["side"], sent.body["qty"]) == ("AAPL", "sell", "10")
    assert scenario.canceled() == [str(resting)]


def test_a_closed_account_is_named_and_the_others_go_on(scenario: Scenario) -> None:
    scenario.add_strategy()
    other = scenario.add_strategy(id=uuid4(), name="other", account_id=uuid4())
    scenario.add_bars((10, 10, 9, 8, 12))
    with scenario.orders.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE orders.accounts SET status = 'ACCOUNT_CLOSED' WHERE id = %s", (STRATEGY.account_id,)
        )
    assert scenario.run()["failed"] == 1
    reasons = {each.strategy_id: (each.outcome, each.reason) for each in scenario.decisions()}
    assert reasons[STRATEGY.id] == ("failed", f"The strategy failed: account {STRATEGY.account_id} is not open")
    assert reasons[other.id][0] == "ordered"


def test_the_entry_price_is_in_the_instruments_currency(scenario: Scenario) -> None:
    """Ten shares cost 1,375 dollars, and a euro 1.25: each was 110 euros. At 121 it earns ten percent."""
    rules = {"long": {"entry": {"left": {"position": "profit_percent"}, "op": ">", "right": 5},
                      "exit": {"left": {"position": "profit_percent"}, "op": ">", "right": 5}}}  # fmt: skip
    scenario.add_strategy(kind="rules", parameters=rules)
    with scenario.marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument("EUR/USD", "Euro"), Instrument("AAPL", "Apple", currency="EUR")])
        connection.exec_driver_sql(
            "UPDATE marketdata.instruments SET last_price = 1.25, bid = 1.25, ask = 1.25, quoted_at = now()"
            " WHERE symbol = 'EUR/USD'"
        )
    scenario.add_order(10, side=Side.BUY)
    with scenario.orders.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE orders.lots SET cost = 1375 WHERE account_id = %s", (STRATEGY.account_id,))
    scenario.add_bars((121,))
    scenario.run()
    (decision,) = scenario.decisions()
    ((_, holds, values),) = decision.conditions
    assert holds
    assert Decimal(values["profit_percent"]) == 10
    assert scenario.decided() == ("exit", "ordered", 10)


def allow_shorts(scenario: Scenario) -> None:
    with scenario.orders.engine.begin() as connection:
        connection.exec_driver_sql(
            """UPDATE orders.accounts SET settings = settings || '{"shorting": true, "multiplier": 2}' WHERE id = %s""",
            (STRATEGY.account_id,),
        )


SHORT = {"short": {"entry": {"left": {"price": "close"}, "op": ">", "right": 5}}}


def test_a_short_sale_never_sells_what_others_bought_on_the_account(scenario: Scenario) -> None:
    """Until these are gone it does nothing, and says why."""
    scenario.add_strategy(kind="rules", parameters=SHORT)
    allow_shorts(scenario)
    scenario.add_order(7, by=None)
    scenario.add_bars((121,))
    scenario.run()
    (decision,) = scenario.decisions()
    assert (decision.outcome, scenario.submitted()) == ("cut", [])
    assert decision.cuts == ["The account holds 7 shares that others bought, which a short sale would sell."]
    scenario.add_order(7, by=None, side=Side.SELL)
    scenario.run()
    (sent,) = scenario.submitted()
    assert (sent.body["side"], sent.body["qty"]) == ("sell", "10")


def test_a_reversal_beside_shares_of_others_only_closes_its_own(scenario: Scenario) -> None:
    scenario.add_strategy(parameters={"fast": 2, "slow": 3, "short": True})
    allow_shorts(scenario)
    scenario.add_order(10)
    scenario.add_order(7, by=None)
    scenario.add_bars((10, 10, 11, 12, 8))
    scenario.run()
    (sent,) = scenario.submitted()
    assert (sent.body["side"], sent.body["qty"]) == ("sell", "10")
    assert scenario.decisions()[0].cuts[0].startswith("The account holds 7 shares that others bought")


def test_nothing_is_bought_back_that_others_sold_short(scenario: Scenario) -> None:
    scenario.add_strategy(kind="buy_and_hold", parameters={})
    scenario.add_order(7, by=None, side=Side.SELL)
    scenario.add_bars((121,))
    scenario.run()
    cut = "The account is short of 7 shares that others sold, which a purchase would buy back."
    assert (scenario.decisions()[0].cuts, scenario.submitted()) == ([cut], [])


def test_a_strategy_without_an_average_true_range_is_sized_by_it(scenario: Scenario) -> None:
    """Closes rise by 1, which is the range: one per mille of 100,000 is 100 ranges."""
    terms = {"kind": "volatility", "value": "0.001"}
    entry = {"long": {"entry": {"left": {"price": "close"}, "op": ">", "right": 5}}}
    scenario.add_strategy(kind="rules", parameters=entry, sizing=terms)
    scenario.add_bars(range(10, 60))
    scenario.run()
    (sent,) = scenario.submitted()
    assert sent.body["qty"] == "100"


def test_a_strategy_that_fails_too_often_is_flattened_if_its_protections_say_so(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(*_: object) -> None:
        raise RuntimeError("out of ideas")

    scenario.add_strategy(protections={"max_failures": 2, "flatten": True})
    scenario.add_order(10)
    scenario.add_bars((10, 10, 9, 8, 12))
    monkeypatch.setattr(SmaCrossover, "decide", raising)
    assert scenario.run()["failed"] == 1
    assert scenario.submitted() == []
    scenario.run()
    (sent,) = scenario.submitted()
    assert (sent.body["side"], sent.body["qty"], scenario.state().state) == ("sell", "10", "paused")
    why = "max_failures: the strategy failed 2 times one after another, the last time: RuntimeError: out of ideas"
    assert scenario.state().state_reason == why
