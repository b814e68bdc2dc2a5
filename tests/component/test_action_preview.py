"""The preview of a corporate action, held against what the action then does."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.gateway.instruments import preview_queries
from services.gateway.instruments.action_preview import Effect, preview
from services.marketdata.actors import enter_corporate_action
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.corporate_actions import CorporateAction, CorporateActionApplied, EnterCorporateAction
from tests.component.paper_exchange import MARGIN, Exchange
from tests.component.watching import outbox
from tests.support import rows


def previewed(exchange: Exchange, gateway: ServiceContext, **terms: Any) -> tuple[CorporateAction, dict[UUID, Effect]]:
    """The action with effect in a second, and its effects by account."""
    at = exchange.clock.move(seconds=1)
    action = CorporateAction.model_validate({"symbol": "AAPL", "effective_at": at, **terms})
    with gateway.engine.connect() as connection:
        found = preview_queries.holdings(connection, action.symbol, action.effective_at)
    return action, {each.account.id: each for each in preview(action, found, at)}


def applied(exchange: Exchange, action: CorporateAction) -> None:
    """Enter the action, which is due, and let orders hear of it."""
    with exchange.marketdata.unit_of_work() as uow:
        enter_corporate_action(EnterCorporateAction(action_id=uuid4(), **action.model_dump()), uow)
    *_, sent = [each for each in outbox(exchange.marketdata) if each.name == "CorporateActionApplied.v1"]
    exchange.handle(CorporateActionApplied.model_validate(sent.body))


@pytest.fixture
def accounts(exchange: Exchange) -> list[UUID]:
    """One bought 10 AAPL and has orders of several kinds. Another is short of 7. A third only has an order."""
    long, short, only = exchange.open(), exchange.open(**MARGIN), exchange.open()
    exchange.price("AAPL 100/100 100")
    exchange.submit(long)
    exchange.submit(short, "sell 7 AAPL market")
    exchange.price("AAPL 100/100 100")
    exchange.submit(long, "buy 15 AAPL limit", limit_price="90.55")
    exchange.submit(long, "sell 7 AAPL limit", limit_price="120")
    exchange.submit(long, "sell 2 AAPL trailing_stop", trail_price="10")
    exchange.submit(only, "buy 3 AAPL limit", limit_price="50")
    return [long, short, only]


@pytest.mark.parametrize(
    "terms",
    [
        {"kind": "split", "new_shares": 2, "old_shares": 1},
        {"kind": "split", "new_shares": 3, "old_shares": 2, "cash_in_lieu": True},
        {"kind": "split", "new_shares": 1, "old_shares": 4, "cash_in_lieu": True},
        {"kind": "split", "new_shares": 1, "old_shares": 10},
        {"kind": "dividend", "amount": "0.82"},
    ],
    ids=lambda terms: "-".join(str(value) for value in terms.values()),
)
def test_a_preview_says_what_the_action_then_does(
    exchange: Exchange, gateway: ServiceContext, accounts: list[UUID], terms: dict[str, Any]
) -> None:
    """Positions, cash and orders of every account, to the cent. Nothing is written by it."""
    tables = ("accounts", "lots", "orders", "ledger")
    before = [rows(exchange.orders.engine, f"SELECT * FROM orders.{name} ORDER BY 1, 2") for name in tables]
    action, effects = previewed(exchange, gateway, **terms)
    assert [rows(exchange.orders.engine, f"SELECT * FROM orders.{name} ORDER BY 1, 2") for name in tables] == before
    cash = {account: exchange.account(account).cash for account in accounts}
    applied(exchange, action)
    for account in accounts:
        effect = effects.get(account)
        paid = exchange.account(account).cash - cash[account]
        assert paid == (effect.cash if effect else 0)
        assert effect is None or exchange.held(account) == effect.qty_after
    changed = {each.before.id: each.after for effect in effects.values() for each in effect.orders}
    assert changed
    for row in rows(exchange.orders.engine, "SELECT * FROM orders.orders"):
        if row.id not in changed:
            assert row.adjusted_at is None
        elif (after := changed[row.id]) is None:
            assert row.status == "canceled"
        else:
            assert (row.qty, row.limit_price, row.stop_price, row.trail_price, row.hwm) == (
                after.qty,
                after.limit_price,
                after.stop_price,
                after.trail_price,
                after.hwm,
            )


def test_a_preview_of_a_day_that_is_past_counts_who_held_the_shares_then(
    exchange: Exchange, gateway: ServiceContext
) -> None:
    """The shares were sold since. Those that somebody bought since get nothing."""
    seller, buyer = exchange.open(), exchange.open()
    exchange.submit(seller)
    exchange.price("AAPL 100/100 100")
    ex_at = exchange.clock.move(seconds=1)
    exchange.submit(seller, "sell 10 AAPL market")
    exchange.submit(buyer)
    exchange.clock.move(minutes=1)
    exchange.price("AAPL 100/100 100")
    action, effects = previewed(exchange, gateway, kind="dividend", amount="0.5", effective_at=ex_at)
    assert {account: effect.cash for account, effect in effects.items() if effect.cash} == {seller: Decimal(5)}
    assert action.effective_at < exchange.clock.now - timedelta(minutes=1)


def test_a_symbol_that_nobody_holds_concerns_nobody(exchange: Exchange, gateway: ServiceContext) -> None:
    """There is not even an account to show."""
    _, effects = previewed(exchange, gateway, symbol="IBM", kind="split", new_shares=2, old_shares=1)
    assert effects == {}
