"""Accounts that reach a risk limit: halted once, with a named reason, until somebody resumes them."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from services.gateway.alerts import account_halts
from services.orders import actors as orders_actors
from services.strategy import actors as strategy_actors
from services.strategy.persistence import strategies
from services.strategy.strategies.protections import Watch
from services.valuation import actors as valuation_actors
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.account_risk import (
    AccountHalted,
    AccountRiskLimits,
    ResumeAccount,
    RiskLimitReached,
    SetRiskLimits,
)
from shared.contracts.accounts import ResetAccount
from shared.contracts.base import Message
from shared.contracts.orders import OrderClass, OrderType, StopLoss
from tests.component.strategy_scenario import STRATEGY
from tests.component.test_account_snapshots import history, run
from tests.component.trading_history import TradingHistory
from tests.component.watching import context_of, outbox, statements
from tests.support import order, rows, value

__all__ = ["history"]


def set_limits(history: TradingHistory, account: UUID, **limits: str) -> None:
    command = SetRiskLimits(account_id=account, limits=AccountRiskLimits.model_validate(limits))
    with history.valuation.unit_of_work() as uow:
        valuation_actors.set_risk_limits(command, uow)


def holder(history: TradingHistory, **limits: str) -> UUID:
    """An account of 10,000, of which 8,000 are in 80 shares."""
    account = history.open("10000")
    history.buy(account, "80", "100", "23 12:00")
    set_limits(history, account, **limits)
    measured(history, "100", 1)
    return account


def measured(history: TradingHistory, last: str, minute: int) -> list[RiskLimitReached]:
    """Price AAPL, take the snapshot of that minute, and return the events that it adds."""
    before = len(reached(history))
    history.price(last, f"23 12:{minute:02}")
    run(history, "snapshot_accounts", f"23 12:{minute:02}")
    return reached(history)[before:]


def reached(history: TradingHistory) -> list[RiskLimitReached]:
    sent = [each.body for each in outbox(history.valuation) if each.name == "RiskLimitReached.v1"]
    return [RiskLimitReached.model_validate(body) for body in sent]


def handle(context: ServiceContext, handler: Any, message: Message) -> None:
    with context.unit_of_work() as uow:
        handler(message, uow)


def halt(history: TradingHistory, event: RiskLimitReached) -> None:
    handle(history.orders, orders_actors.halt_account, event)


def resume(history: TradingHistory, account: UUID, halt_id: UUID) -> None:
    command = ResumeAccount(account_id=account, halt_id=halt_id, resumed_by="OPERATOR1")
    handle(history.orders, orders_actors.resume_account, command)


def is_halted(history: TradingHistory, account: UUID) -> bool:
    sql = "SELECT halted_at IS NOT NULL FROM orders.accounts_v1 WHERE id = :a"
    return bool(value(history.orders.engine, sql, a=account))


def submitted(history: TradingHistory, account: UUID, side: str, qty: int | None, **terms: Any) -> Any:
    shares = None if qty is None else Decimal(qty)
    placed = order(account, side=side, qty=shares, submitted_at=history.clock.now, **terms)
    handle(history.orders, orders_actors.submit_order, placed)
    (found,) = rows(history.orders.engine, "SELECT * FROM orders.orders WHERE id = :id", id=placed.order_id)
    return found


def test_a_drawdown_halts_the_account_and_only_orders_that_close_are_accepted(history: TradingHistory) -> None:
    """The refusal has a reason of its own, the figure, and since when the account is halted."""
    account = holder(history, max_drawdown="0.1")
    assert measured(history, "90", 2) == []
    (event,) = measured(history, "85", 3)
    halt(history, event)
    refused = submitted(history, account, "buy", 1)
    assert (refused.status, refused.reject_reason) == ("rejected", "account_halted")
    assert "halted since 2026-11-23 12:03:00 UTC: the drawdown is 12.00%" in refused.reject_message
    assert submitted(history, account, "sell", 5).status == "accepted"
    (row,) = rows(history.orders.engine, "SELECT * FROM orders.account_halts_v1 WHERE account_id = :a", a=account)
    assert (row.kind, row.value, row.limit_value, row.ended_at) == ("drawdown", Decimal("0.12"), Decimal("0.1"), None)


def test_a_halt_cancels_the_open_orders_that_open_a_position_and_leaves_the_exits(history: TradingHistory) -> None:
    """An entry waits for its price, one has a stop loss, one is for money, and two orders close shares."""
    account = holder(history, max_drawdown="0.1")
    limit: dict[str, Any] = {"type": OrderType.LIMIT, "limit_price": Decimal(50)}
    entry = submitted(history, account, "buy", 5, **limit)
    bracket = submitted(
        history, account, "buy", 4, **limit, order_class=OrderClass.OTO, stop_loss=StopLoss(stop_price=Decimal(40))
    )
    money = submitted(history, account, "buy", None, notional=Decimal(100))
    exit_ = submitted(history, account, "sell", 30, type=OrderType.STOP, stop_price=Decimal(60))
    close = submitted(history, account, "sell", 50, type=OrderType.LIMIT, limit_price=Decimal(150))
    assert [each.status for each in (entry, bracket, money, exit_, close)] == ["accepted"] * 5
    (event,) = measured(history, "85", 2)
    for _ in range(2):
        halt(history, event)
    known = {each.id: each for each in rows(history.orders.engine, "SELECT * FROM orders.orders WHERE is_open")}
    assert set(known) >= {exit_.id, close.id}
    assert not set(known) & {entry.id, bracket.id, money.id}
    ended = "SELECT cancel_reason FROM orders.orders WHERE id = ANY(:ids)"
    found = rows(history.orders.engine, ended, ids=[entry.id, bracket.id, money.id])
    assert {each.cancel_reason for each in found} == {"risk_limit"}
    assert not [each for each in known.values() if each.order_group == bracket.id]
    reserved = "SELECT reserved FROM orders.accounts WHERE id = :a"
    assert value(history.orders.engine, reserved, a=account) == 0
    told = [each.body for each in outbox(history.orders) if each.name == "OrderCanceled.v1"]
    assert len(told) == 4  # the stop loss of the bracket, too


def test_a_halt_is_asked_for_once_and_a_resume_sets_a_new_mark(history: TradingHistory) -> None:
    """While it stands nothing is published. After the resume the same drawdown does not count, a further one does."""
    account = holder(history, max_drawdown="0.1")
    (event,) = measured(history, "85", 2)
    halt(history, event)
    assert measured(history, "84", 3) == []
    resume(history, account, event.halt_id)
    assert (is_halted(history, account), measured(history, "84", 4), measured(history, "80", 5)) == (False, [], [])
    (again,) = measured(history, "70", 6)
    assert again.value == Decimal("0.128440")  # of the 8,720 at the resume
    halt(history, again)
    assert is_halted(history, account)


def test_messages_that_come_twice_late_or_for_an_earlier_generation_halt_nothing(history: TradingHistory) -> None:
    """A second event of the same drawdown, which was under way while the account was halted and resumed."""
    account = holder(history, max_drawdown="0.1")
    (event,) = measured(history, "85", 2)
    (second,) = measured(history, "84", 3)
    halt(history, event)
    halt(history, second)
    assert value(history.orders.engine, "SELECT count(*) FROM orders.account_halts") == 1
    resume(history, account, second.halt_id)
    assert is_halted(history, account)
    resume(history, account, event.halt_id)
    for late in (event, second, event):
        halt(history, late)
    assert not is_halted(history, account)
    events = [each.name for each in outbox(history.orders) if each.name.startswith(("AccountHalted", "AccountResumed"))]
    assert events == ["AccountHalted.v1", "AccountResumed.v1"]


def test_a_reset_ends_the_halt_and_drops_what_was_measured_before(history: TradingHistory) -> None:
    account = holder(history, max_drawdown="0.1")
    (event,) = measured(history, "85", 2)
    (late,) = measured(history, "84", 3)
    halt(history, event)
    command = ResetAccount(account_id=account, reset_id=uuid4(), cash=Decimal(5000))
    handle(history.orders, orders_actors.reset_account, command)
    halt(history, late.model_copy(update={"after": event.halt_id}))
    assert not is_halted(history, account)
    (row,) = rows(history.orders.engine, "SELECT * FROM orders.account_halts_v1")
    assert row.ended_by == "reset"
    assert measured(history, "80", 4) == []


def test_each_kind_of_limit_halts_and_a_large_position_may_stay_after_a_resume(history: TradingHistory) -> None:
    """The position halts again once it is a tenth larger than at the resume."""
    loser, large = holder(history, max_daily_loss="0.05"), history.open("10000")
    both = measured(history, "93", 2)
    assert [(each.account_id, each.kind, each.value) for each in both] == [(loser, "daily_loss", Decimal("0.056"))]
    halt(history, both[0])
    set_limits(history, large, max_concentration="0.5", max_gross_exposure="2")
    history.buy(large, "60", "100", "23 12:03")
    (event,) = measured(history, "100", 3)
    assert (event.account_id, event.kind, event.message) == (
        large,
        "concentration",
        "the largest position (AAPL) is 60.00% and reached the limit of 50.00%",
    )
    halt(history, event)
    resume(history, large, event.halt_id)
    assert (measured(history, "100", 4), measured(history, "105", 5)) == ([], [])
    history.buy(large, "10", "105", "23 12:06")
    (again,) = measured(history, "105", 6)
    assert (again.account_id, again.kind) == (large, "concentration")


def test_strategies_of_a_halted_account_are_paused_with_a_decision(
    history: TradingHistory, urls: dict[str, str]
) -> None:
    """Those of other accounts run on. An event about a halt that is over pauses nothing."""
    account, other = holder(history, max_drawdown="0.1"), history.open("10000")
    (event,) = measured(history, "85", 2)
    halt(history, event)
    (sent,) = [each for each in outbox(history.orders) if each.name == "AccountHalted.v1"]
    halted = AccountHalted.model_validate(sent.body)
    with context_of("strategy", urls, history.clock) as context:
        ids = {}
        with context.engine.begin() as connection:
            for owner in (account, other):
                row = strategies.StrategyRow(**{**vars(STRATEGY), "id": uuid4(), "account_id": owner, "watch": Watch()})
                strategies.add(connection, row, history.clock.now)
                ids[owner] = row.id
        for _ in range(2):
            handle(context, strategy_actors.pause_strategies, halted)
        states = {row.id: row for row in rows(context.engine, "SELECT * FROM strategy.strategies")}
        assert (states[ids[account]].state, states[ids[other]].state) == ("paused", "running")
        assert states[ids[account]].state_reason.startswith("account_halted: the drawdown is 12.00%")
        (decision,) = rows(context.engine, "SELECT * FROM strategy.decisions")
        assert (decision.strategy_id, decision.outcome) == (ids[account], "blocked")
        resume(history, account, event.halt_id)
        with context.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE strategy.strategies SET state = 'running'")
        handle(context, strategy_actors.pause_strategies, halted)
        assert {row.state for row in rows(context.engine, "SELECT state FROM strategy.strategies")} == {"running"}


def test_the_operator_is_told_of_a_halt_until_the_account_is_resumed(history: TradingHistory) -> None:
    account = holder(history, max_drawdown="0.1")
    (event,) = measured(history, "85", 2)
    halt(history, event)
    with history.orders.engine.connect() as connection:
        (alert,) = account_halts.standing(connection)
    assert (alert.kind, alert.subject, alert.severity) == ("account_halted", str(account), "critical")
    assert "the drawdown is 12.00%" in alert.message
    resume(history, account, event.halt_id)
    with history.orders.engine.connect() as connection:
        assert account_halts.standing(connection) == []


def test_measuring_takes_as_many_statements_for_ten_accounts_as_for_one(history: TradingHistory) -> None:
    counts = []
    for number in (1, 9):
        for _ in range(number):
            holder(history, max_drawdown="0.5")
        with statements(history.valuation.engine) as seen:
            run(history, "snapshot_accounts", f"23 13:0{number}")
        counts.append(len(seen))
    assert counts[0] == counts[1]
