"""The shares that a strategy counts as its own: splits, resets, and other orders on the same account and symbol."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.strategy.persistence import holdings
from shared.contracts.accounts import ResetAccount
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied
from tests.component.paper_exchange import Exchange
from tests.component.strategy_scenario import STRATEGY
from tests.component.watching import context_of

#: The shares of AAPL that the strategy with this id holds on the account.
Held = Callable[[UUID, UUID], Any]
FIRST, SECOND = uuid4(), uuid4()


@pytest.fixture
def held(urls: dict[str, str], exchange: Exchange) -> Iterator[Held]:
    def read(account: UUID, strategy_id: UUID) -> Any:
        strategy = replace(STRATEGY, id=strategy_id, account_id=account)
        with context.engine.begin() as connection:
            found = holdings.held(connection, [strategy])
        return found[strategy_id, "AAPL"].qty if found else 0

    with context_of("strategy", urls, exchange.clock) as context:
        yield read


def trade(exchange: Exchange, account: UUID, side: str, qty: int, by: UUID | None) -> None:
    order_id = exchange.submit(account, f"{side} {qty} AAPL market", strategy_id=by)
    exchange.price("AAPL 99.99/100.01 100")
    assert exchange.status(order_id) == "filled"


def test_a_split_changes_what_it_holds(exchange: Exchange, held: Held) -> None:
    """Eighty shares are 320 after four for one, and all of them may be sold."""
    account = exchange.open()
    trade(exchange, account, "buy", 80, FIRST)
    exchange.handle(
        CorporateActionApplied(
            action_id=uuid4(),
            symbol="AAPL",
            kind=ActionKind.SPLIT,
            ratio=Decimal(4),
            effective_at=exchange.clock.move(seconds=1),
            split_count=1,
        )
    )
    assert held(account, FIRST) == 320


def test_a_reset_leaves_it_nothing(exchange: Exchange, held: Held) -> None:
    """Shares that a person bought after the reset are not those that it bought before."""
    account = exchange.open()
    trade(exchange, account, "buy", 10, FIRST)
    assert held(account, FIRST) == 10
    exchange.handle(ResetAccount(account_id=account, reset_id=uuid4(), cash=Decimal(50_000)))
    trade(exchange, account, "buy", 10, None)
    assert held(account, FIRST) == 0
    trade(exchange, account, "buy", 3, FIRST)
    assert held(account, FIRST) == 3


def test_a_person_s_sale_closes_the_oldest_lots(exchange: Exchange, held: Held) -> None:
    """Those of the strategy came first, so it holds less than it bought. What the person bought later is no part."""
    account = exchange.open()
    trade(exchange, account, "buy", 10, FIRST)
    trade(exchange, account, "buy", 10, None)
    trade(exchange, account, "sell", 4, None)
    assert held(account, FIRST) == 6
    trade(exchange, account, "sell", 8, None)
    assert held(account, FIRST) == 0


def test_its_own_sale_closes_its_own_lots(exchange: Exchange, held: Held) -> None:
    """It would otherwise hold its shares still, and sell those of the person next."""
    account = exchange.open()
    trade(exchange, account, "buy", 10, None)
    trade(exchange, account, "buy", 4, FIRST)
    trade(exchange, account, "sell", 4, FIRST)
    assert (held(account, FIRST), exchange.held(account)) == (0, 10)


def test_two_strategies_on_one_symbol_hold_their_own_shares(exchange: Exchange, held: Held) -> None:
    """The sale of the second leaves those of the first, which came before."""
    account = exchange.open()
    trade(exchange, account, "buy", 10, FIRST)
    trade(exchange, account, "buy", 7, SECOND)
    trade(exchange, account, "sell", 5, SECOND)
    assert (held(account, FIRST), held(account, SECOND)) == (10, 2)
    trade(exchange, account, "sell", 10, FIRST)
    assert (held(account, FIRST), held(account, SECOND)) == (0, 2)


def test_an_open_order_is_no_holding(exchange: Exchange, held: Held) -> None:
    """Nor are shares of the strategy on another account."""
    account = exchange.open()
    exchange.submit(account, "buy 10 AAPL limit", limit_price="50", strategy_id=FIRST)
    trade(exchange, exchange.open(), "buy", 5, FIRST)
    assert held(account, FIRST) == 0
