"""Splits and dividends, from a hand that enters them to positions, lots, open orders and cash."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from services.marketdata.actors import enter_corporate_action
from services.marketdata.usecases import corporate_actions
from services.orders.actors import apply_corporate_action
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied, EnterCorporateAction
from shared.contracts.prices import PricesUpdated
from tests.component.paper_exchange import MARGIN, Exchange
from tests.component.watching import outbox
from tests.support import broken_invariants, price, rows


def enter(exchange: Exchange, kind: str, figure: str, *, symbol: str = "AAPL", **later: float) -> EnterCorporateAction:
    """Enter an action that takes effect now, or so much later. Returns the command."""
    command = EnterCorporateAction(
        action_id=uuid4(),
        symbol=symbol,
        kind=ActionKind(kind),
        effective_at=exchange.clock.move(seconds=1) + timedelta(**later),
        **{"ratio" if kind == "split" else "amount": Decimal(figure)},
    )
    with exchange.marketdata.unit_of_work() as uow:
        enter_corporate_action(command, uow)
    return command


def applied(exchange: Exchange) -> list[CorporateActionApplied]:
    """The messages of marketdata about actions, in their order."""
    found = [sent.body for sent in outbox(exchange.marketdata) if sent.name == "CorporateActionApplied.v1"]
    return [CorporateActionApplied.model_validate(body) for body in found]


def apply(exchange: Exchange, event: CorporateActionApplied) -> None:
    exchange.clock.move(seconds=1)
    with exchange.orders.unit_of_work() as uow:
        apply_corporate_action(event, uow)
    assert broken_invariants(exchange.orders.engine) == {}


def split(exchange: Exchange, ratio: str, **fields: Any) -> None:
    enter(exchange, "split", ratio, **fields)
    apply(exchange, applied(exchange)[-1])


def test_shares_of_a_price_from_before_a_split_are_split_however_late_it_comes(exchange: Exchange) -> None:
    """The price waits in the queue until after the split took effect. The message about that comes behind it."""
    account = exchange.open()
    exchange.submit(account)
    before = price("AAPL", "100", at=exchange.clock.move(seconds=1), sequence=7)
    enter(exchange, "split", "4")
    exchange.handle(PricesUpdated(prices=(before,), at=before.quoted_at))
    assert exchange.held(account) == 10
    apply(exchange, applied(exchange)[-1])
    assert exchange.held(account) == 40


def test_a_split_changes_how_many_shares_there_are_and_not_what_they_cost(exchange: Exchange) -> None:
    """Four for one, on two lots. Sold afterwards, the profit is what it would have been."""
    account = exchange.open()
    for last in ("100", "120"):
        exchange.submit(account)
        exchange.price(f"AAPL {last}/{last} {last}")
    split(exchange, "4")
    assert exchange.held(account) == 80
    lots = rows(exchange.orders.engine, "SELECT qty, cost FROM orders.lots ORDER BY opened_at")
    assert [(row.qty, row.cost) for row in lots] == [(40, 1000), (40, 1200)]
    exchange.submit(account, "sell 60 AAPL market")
    exchange.price("AAPL 30/30 30", split_count=1)
    trades = rows(exchange.orders.engine, "SELECT qty, realized_pl FROM orders.round_trips ORDER BY opened_at")
    assert [(row.qty, row.realized_pl) for row in trades] == [(40, 200), (20, 0)]
    assert ("PositionChanged", "80") in [(name, str(body.get("qty"))) for name, body in exchange.said(account)]


def test_a_split_adjusts_open_orders(exchange: Exchange) -> None:
    """Their open quantity and their prices change. The cash that they reserve stays as it is."""
    account = exchange.open(fills={"participation": "1"})
    exchange.price("AAPL 100/100 100")
    buying = exchange.submit(account, "buy 10 AAPL limit", limit_price="90")
    trailing = exchange.submit(account, "buy 1 AAPL trailing_stop", trail_price="20")
    exchange.price("AAPL 90/90 90", ask_size="4")
    reserved = exchange.account(account).reserved
    split(exchange, "2")
    after = exchange.order(buying)
    assert (after.qty, after.filled_qty, after.limit_price, after.trigger_price) == (16, 4, 45, 45)
    moved = exchange.order(trailing)
    assert (moved.hwm, moved.trail_price, moved.trigger_price) == (45, 10, 55)
    assert exchange.account(account).reserved == reserved
    said = {body["order_id"]: body for name, body in exchange.said(account) if name == "OrderAdjusted"}
    assert (said[str(buying)]["qty"], said[str(buying)]["limit_price"]) == ("16", "45")
    assert set(said) == {str(buying), str(trailing)}
    exchange.price("AAPL 44/44 44", ask_size="100", split_count=1)
    assert exchange.held(account) == 20


def test_a_reverse_split_ends_what_is_less_than_a_share(exchange: Exchange) -> None:
    """One for ten: of twenty-five two are left, of five none. Short positions shrink as well."""
    account = exchange.open(**MARGIN)
    exchange.price("AAPL 10/10 10")
    exchange.submit(account, "sell 55 AAPL market")
    exchange.price("AAPL 10/10 10")
    kept, ended = (exchange.submit(account, f"buy {qty} AAPL limit", limit_price="5") for qty in (25, 5))
    split(exchange, "0.1")
    assert exchange.held(account) == Decimal("-5.5")
    assert (exchange.order(kept).qty, exchange.order(kept).limit_price) == (2, 50)
    assert (exchange.status(ended), exchange.reason(ended)) == ("canceled", "split")


def test_a_bracket_survives_a_split(exchange: Exchange) -> None:
    """Its exits are of the new shares, and promise them once."""
    account = exchange.open()
    exits: dict[str, Any] = {"take_profit": {"limit_price": "120"}, "stop_loss": {"stop_price": "80"}}
    entry = exchange.submit(account, order_class="bracket", **exits)
    exchange.price("AAPL 100/100 100")
    split(exchange, "4")
    legs = exchange.legs(entry)
    assert [(leg.qty, leg.limit_price or leg.stop_price, leg.held_for_orders) for leg in legs.values()] in (
        [(40, 30, 40), (40, 20, 0)],
        [(40, 20, 0), (40, 30, 40)],
    )
    exchange.price("AAPL 31/31 31", split_count=1)
    assert exchange.held(account) == 0


def test_a_dividend_is_cash_for_who_holds_and_a_debt_for_who_is_short(exchange: Exchange) -> None:
    """Once, also where the event comes twice. The ledger says what it is."""
    long, short = exchange.open(), exchange.open(**MARGIN)
    exchange.price("AAPL 100/100 100")
    exchange.submit(long, "buy 15 AAPL market")
    exchange.submit(short, "sell 10 AAPL market")
    exchange.price("AAPL 100/100 100")
    before = [exchange.account(each).cash for each in (long, short)]
    enter(exchange, "dividend", "0.255")
    apply(exchange, applied(exchange)[-1])
    paid = [exchange.account(each).cash - was for each, was in zip((long, short), before, strict=True)]
    assert paid == [Decimal("3.82"), Decimal("-2.55")]
    entries = rows(exchange.orders.engine, "SELECT dividend FROM orders.ledger WHERE kind = 'dividend' ORDER BY 1")
    assert [row.dividend for row in entries] == [Decimal("-2.55"), Decimal("3.82")]
    name, body = exchange.said(long)[-1]
    assert (name, body["amount"], body["qty"]) == ("DividendPaid", "3.82", "15")


def test_a_price_after_a_split_that_is_not_applied_yet_fills_nothing(exchange: Exchange) -> None:
    """A stop at 90 is not reached by 50, which is 100 of the old shares. After the split it is another stop."""
    account = exchange.open()
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    stop = exchange.submit(account, "sell 10 AAPL stop", stop_price="90")
    enter(exchange, "split", "2")
    exchange.price("AAPL 50/50 50", split_count=1)
    assert exchange.status(stop) == "accepted"
    apply(exchange, applied(exchange)[-1])
    exchange.price("AAPL 50/50 50", split_count=1)
    assert (exchange.status(stop), exchange.order(stop).stop_price) == ("accepted", 45)
    exchange.price("AAPL 45/45 45", split_count=1)
    assert (exchange.status(stop), exchange.held(account)) == ("filled", 0)


def test_what_is_bought_after_it_took_effect_is_not_split(exchange: Exchange) -> None:
    """The event is late: an order that came meanwhile is of new shares already."""
    account = exchange.open()
    enter(exchange, "split", "2")
    late = exchange.submit(account, "buy 10 AAPL limit", limit_price="50")
    apply(exchange, applied(exchange)[-1])
    assert (exchange.order(late).qty, exchange.order(late).limit_price) == (10, 50)


def test_an_action_waits_for_its_time_and_is_applied_once(exchange: Exchange) -> None:
    """Entered twice, and looked for by two. The current price is one of new shares from then on."""
    exchange.price("AAPL 100/102 101")
    command = enter(exchange, "split", "2", minutes=5)
    with exchange.marketdata.unit_of_work() as uow:
        enter_corporate_action(command, uow)
    assert applied(exchange) == []
    exchange.clock.move(minutes=5)
    for _ in range(2):
        with exchange.marketdata.unit_of_work() as uow:
            corporate_actions.apply_due(uow)
    (event,) = applied(exchange)
    assert (event.action_id, event.split_count, event.ratio) == (command.action_id, 1, Decimal(2))
    (row,) = rows(exchange.orders.engine, "SELECT * FROM marketdata.instruments_v1 WHERE symbol = 'AAPL'")
    assert (row.last, row.bid, row.ask, row.split_count) == (Decimal("50.5"), 50, 51, 1)


def test_an_unknown_symbol_has_no_action(exchange: Exchange) -> None:
    """The command becomes a dead letter with the reason."""
    with pytest.raises(IntegrityError):
        enter(exchange, "dividend", "1", symbol="NOPE")


def test_a_price_of_another_symbol_does_not_wait(exchange: Exchange) -> None:
    """Only the symbol that was split is left out of a batch."""
    account = exchange.open()
    first, second = exchange.submit(account), exchange.submit(account, "buy 1 IBM market")
    at = exchange.clock.move(seconds=1)
    split_one = price("AAPL", "50", at=at).model_copy(update={"split_count": 1})
    exchange.handle(PricesUpdated(prices=(price("AAPL", "100", at=at - timedelta(milliseconds=1)),)))
    exchange.handle(PricesUpdated(prices=(split_one, price("IBM", "50", at=at))))
    assert (exchange.status(second), UUID(int=0) != first) == ("filled", True)
