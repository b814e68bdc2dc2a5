"""The plan of a rebalance: its orders, the weights before and after, and what is left out and why."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from services.strategy.rebalancing.plan import AccountFacts, Listed, Plan, make_plan
from shared.contracts.accounts import AccountSettings
from shared.contracts.rebalancing import Targets

D = Decimal


def account(cash: str = "10000", equity: str | None = None, /, **settings: Any) -> AccountFacts:
    halt = settings.pop("halt_reason", None)
    known = AccountSettings.model_validate(settings)
    return AccountFacts(UUID(int=1), "USD", 1, D(equity or cash), D(cash), D(cash), known, halt)


def listed(symbol: str = "AAPL", qty: str = "0", last: str | None = "100", **facts: Any) -> Listed:
    given: dict[str, Any] = {"bid": last, "ask": last, "rate": "1", "lot_size": "1", **facts}
    numbers = {name: None if given[name] is None else D(given[name]) for name in ("bid", "ask", "rate", "lot_size")}
    return Listed(symbol, D(qty), None if last is None else D(last), **{**given, **numbers})


def plan(targets: dict[str, Any], facts: AccountFacts, *instruments: Listed, scheduled: bool = False) -> Plan:
    known = {each.symbol: each for each in instruments}
    return make_plan(Targets.model_validate(targets), facts, known, scheduled=scheduled)


def orders(found: Plan) -> list[tuple[str, str, Decimal]]:
    return [(each.symbol, each.side.value, each.qty) for each in found.orders]


def left_out(found: Plan) -> dict[str, str]:
    return {each.symbol: each.reason for each in found.left_out}


def test_sells_come_first_and_their_proceeds_pay_for_the_buys() -> None:
    found = plan(
        {"weights": {"AAPL": "0.3", "IBM": "0.5"}},
        account("500", "10000"),
        listed("AAPL", "95"),
        listed("IBM", "0", "50"),
    )
    assert orders(found) == [("AAPL", "sell", D(65)), ("IBM", "buy", D(100))]
    assert {row.symbol: (row.before, row.after) for row in found.weights} == {
        "AAPL": (D("0.95"), D("0.3")),
        "IBM": (D(0), D("0.5")),
    }
    assert (found.cash_before, found.cash_after, found.cost) == (D("0.05"), D("0.2"), D(0))


def test_buys_leave_the_cash_weight_and_what_the_exchange_reserves() -> None:
    """9,000 may be spent, and the exchange reserves 1 % above the ask. Nothing is rounded up."""
    found = plan({"weights": {"AAPL": "0.9"}, "cash": "0.1"}, account(), listed(last="99"))
    assert orders(found) == [("AAPL", "buy", D(90))]
    full = plan({"weights": {"AAPL": "1"}}, account(), listed())
    assert orders(full) == [("AAPL", "buy", D(99))]
    assert full.orders[0].cut == "cut from 100 to 99 by the cash"


def test_quantities_are_rounded_down_to_the_lot_or_to_the_ninth_decimal() -> None:
    lots: dict[str, Any] = {"lot_size": "30", "fractionable": False}
    assert orders(plan({"weights": {"AAPL": "0.5"}}, account(), listed(**lots))) == [("AAPL", "buy", D(30))]
    fractions = plan({"weights": {"AAPL": "0.5"}, "fractional": True}, account(), listed(last="300"))
    assert orders(fractions) == [("AAPL", "buy", D("16.666666666"))]
    small = plan({"weights": {"AAPL": "0.5"}, "fractional": True}, account("100"), listed(**lots))
    assert left_out(small) == {"AAPL": "below_lot"}


@pytest.mark.parametrize(
    ("band", "qty", "trades"),
    [
        ({"kind": "absolute", "value": "0.05"}, "25", False),
        ({"kind": "absolute", "value": "0.05"}, "26", True),
        ({"kind": "relative", "value": "0.05"}, "21", False),
        ({"kind": "relative", "value": "0.05"}, "22", True),
    ],
)
def test_a_weight_within_its_band_is_not_traded(band: dict[str, str], qty: str, trades: bool) -> None:
    found = plan({"weights": {"AAPL": "0.2"}, "band": band}, account("7500", "10000"), listed(qty=qty))
    assert bool(found.orders) is trades
    assert left_out(found) == ({} if trades else {"AAPL": "within_band"})


@pytest.mark.parametrize(
    ("reason", "facts"),
    [
        ("no_price", {"last": None}),
        ("no_rate", {"rate": None}),
        ("stale_price", {"stale": True}),
        ("symbol_halted", {"halted": True}),
        ("not_tradable", {"tradable": False}),
        ("open_order", {"ordered": True}),
        ("split", {"splitting": True}),
    ],
)
def test_a_symbol_that_cannot_be_traded_is_left_out_with_its_reason(reason: str, facts: dict[str, Any]) -> None:
    found = plan({"weights": {"AAPL": "0.5", "IBM": "0.1"}}, account(), listed(**facts), listed("IBM"))
    assert (left_out(found), orders(found)) == ({"AAPL": reason}, [("IBM", "buy", D(10))])


def test_a_closed_market_is_left_out_on_schedule_only() -> None:
    facts = account(), listed(is_open=False)
    assert left_out(plan({"weights": {"AAPL": "0.5"}}, *facts, scheduled=True)) == {"AAPL": "market_closed"}
    assert orders(plan({"weights": {"AAPL": "0.5"}}, *facts)) == [("AAPL", "buy", D(50))]


def test_small_orders_and_positions_without_a_target_are_left_out() -> None:
    facts = account("5000", "10000"), listed("AAPL", "45"), listed("IBM", "5")
    targets = {"weights": {"AAPL": "0.44"}, "min_order": "200"}
    assert left_out(plan(targets, *facts)) == {"AAPL": "below_min_order", "IBM": "no_target"}
    assert orders(plan({**targets, "close_others": True}, *facts)) == [("IBM", "sell", D(5))]


def test_a_halted_account_reduces_and_opens_nothing() -> None:
    facts = account("5000", "10000", halt_reason="the drawdown"), listed("AAPL", "50"), listed("IBM")
    found = plan({"weights": {"AAPL": "0.2", "IBM": "0.3"}}, *facts)
    assert (orders(found), left_out(found)) == ([("AAPL", "sell", D(30))], {"IBM": "account_halted"})


def test_a_short_weight_needs_an_account_that_may_and_shares_that_can_be_lent() -> None:
    targets = {"weights": {"AAPL": "-0.25"}}
    assert left_out(plan(targets, account(), listed())) == {"AAPL": "shorting"}
    margin = account("10000", multiplier=2, shorting=True)
    assert left_out(plan(targets, margin, listed(shortable=False))) == {"AAPL": "not_shortable"}
    assert orders(plan(targets, margin, listed(last="99"))) == [("AAPL", "sell", D(25))]
    held = plan(targets, account("9000", "10000", multiplier=2, shorting=True), listed(qty="10.5", last="100"))
    assert orders(held) == [("AAPL", "sell", D("35.5"))]
    closes = plan(targets, account("9000", "10000"), listed(qty="10", last="100"))
    assert orders(closes) == [("AAPL", "sell", D(10))]
    assert closes.orders[0].cut == "only closes: the account may not sell short"


def test_the_cost_is_commission_spread_and_slippage_against_the_trader() -> None:
    fills = {"commission": {"kind": "per_share", "rate": "0.01"}, "slippage": {"kind": "fixed", "rate": "10"}}
    found = plan({"weights": {"AAPL": "0.5"}}, account("10000", fills=fills), listed(bid="99", ask="101"))
    assert (orders(found), found.cost) == ([("AAPL", "buy", D(50))], D("0.50") + D("50.00") + D("5.05"))
    assert found.cash_after == D("0.497206")  # of the equity after the cost, rounded down


@pytest.mark.parametrize(
    ("targets", "field"),
    [
        ({"weights": {}}, "weights"),
        ({"weights": {"AAPL": "0.7", "IBM": "0.4"}}, ""),
        ({"weights": {"AAPL": "0.7"}, "cash": "0.4"}, ""),
        ({"weights": {"AAPL": "1.1"}}, "weights.AAPL"),
        ({"weights": {"AAPL": "-0.6", "IBM": "-0.6"}}, ""),
        ({"weights": {"aapl": "0.5"}}, "weights.aapl.[key]"),
        ({"weights": {"AAPL": 0.5}}, "weights.AAPL"),
        ({"weights": {"AAPL": "0.5"}, "band": {"kind": "wide", "value": "0.1"}}, "band.kind"),
        ({"weights": {"AAPL": "0.5"}, "band": {"value": "-0.1"}}, "band.value"),
        ({"weights": {"AAPL": "0.5"}, "min_order": "-1"}, "min_order"),
        ({"weights": {"AAPL": "0.5"}, "bands": {}}, "bands"),
    ],
)
def test_wrong_targets_are_refused_with_their_field(targets: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Targets.model_validate(targets)
    assert ".".join(str(part) for part in refused.value.errors()[0]["loc"]) == field


def test_without_equity_nothing_is_traded() -> None:
    assert left_out(plan({"weights": {"AAPL": "0.5"}}, account("0"), listed())) == {"AAPL": "no_equity"}


def test_a_price_in_another_currency_counts_at_its_rate() -> None:
    found = plan({"weights": {"AAPL": "0.5"}}, account(), listed(last="100", rate="1.25"))
    assert orders(found) == [("AAPL", "buy", D(40))]
