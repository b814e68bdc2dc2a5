"""Splits and dividends, from a hand that enters them to positions, lots, open orders and cash."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from services.marketdata.actors import enter_corporate_action
from services.marketdata.usecases import corporate_actions
from services.orders.actors import apply_corporate_action
from shared.contracts.accounts import ResetAccount
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied, EnterCorporateAction
from shared.contracts.prices import PricesUpdated
from tests.component.paper_exchange import MARGIN, Exchange
from tests.component.watching import outbox
from tests.support import broken_invariants, price, rows


def enter(
    exchange: Exchange,
    kind: str,
    figure: str,
    *,
    symbol: str = "AAPL",
    terms: Mapping[str, Any] | None = None,
    **later: float,
) -> EnterCorporateAction:
    """Enter an action that takes effect now, or so much later. Returns the command."""
    given: dict[str, Any] = {
        "effective_at": exchange.clock.move(seconds=1) + timedelta(**later),
        "ratio" if kind == "split" else "amount": Decimal(figure),
        **(terms or {}),
    }
    command = EnterCorporateAction(action_id=uuid4(), symbol=symbol, kind=ActionKind(kind), **given)
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


BRACKET: dict[str, Any] = {
    "order_class": "bracket",
    "take_profit": {"limit_price": "20"},
    "stop_loss": {"stop_price": "5"},
}
SHORT_BRACKET: dict[str, Any] = {
    "order_class": "bracket",
    "take_profit": {"limit_price": "5"},
    "stop_loss": {"stop_price": "20"},
}


def partly_filled(exchange: Exchange, side: str = "buy", qty: str = "10", filled: str = "3") -> tuple[UUID, UUID]:
    """An account and its bracket's entry at 10, of which so many shares were filled."""
    account = exchange.open(fills={"participation": "1"}, **(MARGIN if side == "sell" else {}))
    exchange.price("AAPL 10/10 10")
    exits = BRACKET if side == "buy" else SHORT_BRACKET
    entry = exchange.submit(account, f"{side} {qty} AAPL limit", limit_price="10", **exits)
    exchange.price("AAPL 10/10 10", **{"ask_size" if side == "buy" else "bid_size": filled})
    return account, entry


def promised(exchange: Exchange, account: UUID) -> Decimal:
    """The shares that open orders hold."""
    statement = "SELECT COALESCE(sum(held_for_orders), 0) AS held FROM orders.orders WHERE account_id = :account"
    return Decimal(rows(exchange.orders.engine, statement, account=account)[0].held)


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize(
    ("ratio", "filled", "held", "open_"),
    [("0.1", "3", "0.3", False), ("0.333333333", "9", "3", False), ("0.5", "3", "1.5", True), ("2", "3", "6", True)],
)
def test_exits_of_a_partly_filled_entry_hold_what_it_bought(
    exchange: Exchange, side: str, ratio: str, filled: str, held: str, open_: bool
) -> None:
    """Where a reverse split leaves no whole share to the entry, it ends, and its exits get what is there."""
    account, entry = partly_filled(exchange, side, filled=filled)
    split(exchange, ratio)
    assert abs(exchange.held(account)) == promised(exchange, account) == Decimal(held)
    assert exchange.status(entry) == ("partially_filled" if open_ else "canceled")
    legs = exchange.legs(entry).values()
    if not open_:
        assert {leg.qty - leg.filled_qty for leg in legs} == {Decimal(held)}
        assert {leg.status for leg in legs} == {"accepted"}
    exchange.cancel(account, entry)
    assert {leg.qty for leg in exchange.legs(entry).values()} == {Decimal(held)}
    reached = Decimal(20 if side == "buy" else 5) / Decimal("0.333333333" if ratio == "0.333333333" else ratio)
    beyond = reached + 1 if side == "buy" else reached - 1
    exchange.price(f"AAPL {beyond}/{beyond} {reached}", split_count=1, bid_size="900", ask_size="900")
    assert exchange.held(account) == 0


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize(
    ("ratio", "before", "after", "held", "left"),
    [("2", "0", "3", "3", 17), ("2", "2", "3", "7", 13), ("0.5", "2", "3", "4", 1), ("0.1", "2", "3", "3.2", 0)],
)
def test_a_split_that_is_entered_late_leaves_shares_of_new_prices_alone(
    exchange: Exchange, side: str, ratio: str, before: str, after: str, held: str, left: int
) -> None:
    """Part of the entry was filled before the split took effect, and part after it, before somebody entered it."""
    account, entry = partly_filled(exchange, side, filled=before)
    effective_at = exchange.clock.move(seconds=1)
    exchange.price("AAPL 10/10 10", **{"ask_size" if side == "buy" else "bid_size": after})
    split(exchange, ratio, terms={"effective_at": effective_at})
    assert abs(exchange.held(account)) == promised(exchange, account) == Decimal(held)
    order = exchange.order(entry)
    assert (order.qty - order.filled_qty if order.is_open else 0) == left


def test_exits_at_work_are_of_new_shares_where_the_entry_filled_late(exchange: Exchange) -> None:
    """The exits were accepted before the split took effect. What they sell was bought later."""
    account, entry = partly_filled(exchange, filled="0")
    effective_at = exchange.clock.move(seconds=1)
    exchange.price("AAPL 10/10 10", ask_size="100")
    exchange.price("AAPL 20/20 20", bid_size="4")
    split(exchange, "2", terms={"effective_at": effective_at})
    assert exchange.held(account) == promised(exchange, account) == 6
    assert {leg.qty - leg.filled_qty for leg in exchange.legs(entry).values()} == {6}


def test_a_sale_of_more_than_a_late_reverse_split_leaves_is_reduced(exchange: Exchange) -> None:
    """It was accepted after the split took effect, and before anybody knew of it. Later orders give way."""
    account = exchange.open()
    exchange.submit(account, "buy 25 AAPL market")
    exchange.price("AAPL 10/10 10")
    effective_at = exchange.clock.move(seconds=1)
    first, second = (exchange.submit(account, f"sell {qty} AAPL limit", limit_price="20") for qty in (2, 20))
    split(exchange, "0.1", terms={"effective_at": effective_at})
    assert (exchange.order(first).qty, exchange.reason(second)) == (2, "split")
    assert promised(exchange, account) == 2


def test_prices_after_a_split_lie_on_the_tick(exchange: Exchange) -> None:
    """Three for one: a third of 100 is rounded away from the market, and its trigger price with it."""
    account = exchange.open()
    exchange.price("AAPL 110/110 110")
    order = exchange.submit(account, "buy 10 AAPL limit", limit_price="100")
    split(exchange, "3")
    assert (exchange.order(order).limit_price, exchange.order(order).trigger_price) == (Decimal("33.33"),) * 2


@pytest.mark.parametrize(("text", "shares", "cash"), [("buy", 33, "-989.67"), ("sell", -33, "989.66")])
def test_a_fraction_of_a_whole_share_is_paid_in_cash_where_the_issuer_does_so(
    exchange: Exchange, text: str, shares: int, cash: str
) -> None:
    """A third of a share at 31 is 10.333, rounded against its holder. The third makes a round trip in the books."""
    account = exchange.open(**MARGIN)
    exchange.price("AAPL 10/10 10")
    exchange.submit(account, f"{text} 100 AAPL market")
    exchange.price("AAPL 10/10 10")
    with exchange.marketdata.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET last_price = 10.333333333 WHERE symbol = 'AAPL'")
    split(exchange, "0.333333333", terms={"cash_in_lieu": True})
    assert (exchange.held(account), exchange.account(account).cash - 100000) == (shares, Decimal(cash))
    (body,) = [body for name, body in exchange.said(account) if name == "CashInLieuPaid"]
    assert (body["qty"], body["amount"]) == (("0.333333333", "10.33") if shares > 0 else ("-0.333333333", "-10.34"))
    (trip,) = rows(exchange.orders.engine, "SELECT qty, cost, proceeds FROM orders.round_trips")
    paid = (Decimal("10.00"), Decimal("10.33")) if shares > 0 else (Decimal("10.34"), Decimal("10.00"))
    assert (trip.qty, trip.cost, trip.proceeds) == (Decimal("0.333333333"), *paid)


def owed(exchange: Exchange, account: UUID) -> list[Any]:
    """(shares, cash) of each dividend of the account."""
    found = rows(exchange.orders.engine, "SELECT qty, cash FROM orders.dividends_v1 WHERE account_id = :a", a=account)
    return [(row.qty, row.cash) for row in found]


def test_a_dividend_is_owed_from_the_ex_date_and_paid_on_the_pay_date(exchange: Exchange) -> None:
    """To who held the shares at the ex-date, long or short, though they were sold since. Once."""
    long, short, late = exchange.open(), exchange.open(**MARGIN), exchange.open()
    exchange.price("AAPL 100/100 100")
    exchange.submit(long, "buy 15 AAPL market")
    exchange.submit(short, "sell 10 AAPL market")
    exchange.price("AAPL 100/100 100")
    pay_at = exchange.clock.now + timedelta(days=14)
    enter(exchange, "dividend", "0.255", terms={"pay_at": pay_at})
    apply(exchange, applied(exchange)[-1])
    exchange.submit(late, "buy 20 AAPL market")
    exchange.submit(long, "sell 15 AAPL market")
    exchange.price("AAPL 99/99 99", split_count=1)
    before = [exchange.account(each).cash for each in (long, short, late)]
    assert (exchange.pay_dividends(), owed(exchange, long), owed(exchange, late)) == ((0, 0), [(15, None)], [])
    exchange.clock.now = pay_at
    assert (exchange.pay_dividends(), exchange.pay_dividends()) == ((2, 0), (0, 0))
    paid = [exchange.account(each).cash - was for each, was in zip((long, short, late), before, strict=True)]
    assert paid == [Decimal("3.82"), Decimal("-2.55"), 0]
    assert (owed(exchange, long), owed(exchange, short)) == ([(15, paid[0])], [(-10, paid[1])])


def test_a_dividend_that_is_entered_late_is_for_who_held_at_the_ex_date(exchange: Exchange) -> None:
    """Shares that were sold since count, and shares that were bought since do not."""
    account, whole = exchange.open(), exchange.open()
    for each in (account, whole):
        exchange.submit(each, "buy 10 AAPL market")
    exchange.price("AAPL 100/100 100")
    ex_at: datetime = exchange.clock.move(seconds=1)
    exchange.submit(account, "sell 4 AAPL market")
    exchange.submit(whole, "sell 10 AAPL market")
    exchange.price("AAPL 95/95 95")
    exchange.submit(account, "buy 7 AAPL market")
    exchange.price("AAPL 95/95 95")
    enter(exchange, "dividend", "5", terms={"effective_at": ex_at})
    apply(exchange, applied(exchange)[-1])
    assert (owed(exchange, account), owed(exchange, whole)) == ([(10, 50)], [(10, 50)])


def test_an_account_that_was_reset_gets_no_dividend_of_before(exchange: Exchange) -> None:
    """What was owed to it is gone, as its shares are."""
    account = exchange.open()
    exchange.submit(account, "buy 10 AAPL market")
    exchange.price("AAPL 100/100 100")
    enter(exchange, "dividend", "5", terms={"pay_at": exchange.clock.now + timedelta(days=1)})
    apply(exchange, applied(exchange)[-1])
    exchange.handle(ResetAccount(account_id=account, reset_id=uuid4(), cash=Decimal(1000)))
    exchange.clock.move(days=1)
    assert (exchange.pay_dividends(), exchange.account(account).cash) == ((0, 0), 1000)


def test_an_ex_price_before_the_dividend_fills_nothing(exchange: Exchange) -> None:
    """The sweep reads it from marketdata's view, while the message about the dividend is on its way."""
    account = exchange.open()
    exchange.submit(account, "buy 10 AAPL market")
    exchange.price("AAPL 100/100 100")
    stop = exchange.submit(account, "sell 10 AAPL stop", stop_price="97")
    limit = exchange.submit(account, "buy 10 AAPL limit", limit_price="97")
    enter(exchange, "dividend", "5")
    exchange.price("AAPL 95/95 95", split_count=1)
    exchange.sweep()
    apply(exchange, applied(exchange)[-1])
    assert (exchange.order(stop).stop_price, exchange.order(limit).limit_price) == (92, 92)
    said = {body["order_id"] for name, body in exchange.said(account) if name == "OrderAdjusted"}
    assert said == {str(stop), str(limit)}
    exchange.price("AAPL 95/95 95", split_count=1)
    exchange.sweep()
    assert (exchange.status(stop), exchange.status(limit)) == ("accepted", "accepted")
    exchange.price("AAPL 92/92 92", split_count=1)
    assert (exchange.status(stop), exchange.status(limit)) == ("filled", "filled")
