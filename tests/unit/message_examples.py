"""One example of every message."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from shared.contracts.base import Message
from shared.contracts.jobs import RunJob
from shared.contracts.operations import DiscardDeadLetters, RequeueDeadLetters
from shared.contracts.orders import (
    CancelOrder,
    CancelRejected,
    OpenAccount,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderStatus,
    OrderType,
    Side,
    SubmitOrder,
    TimeInForce,
)
from shared.contracts.prices import PricesUpdated
from shared.contracts.strategy import Action, SignalGenerated
from shared.contracts.valuation import AccountsValued, AccountValue
from tests.unit.trading_examples import quote

ACCOUNT = UUID(int=1)
ORDER = UUID(int=2)
STRATEGY = UUID(int=3)
AT = datetime(2026, 11, 23, 15, 0, 0, 123456, tzinfo=UTC)

_of_account: dict[str, Any] = {"account_id": ACCOUNT, "sequence": 7, "at": AT}
_of_order: dict[str, Any] = {**_of_account, "order_id": ORDER}
_refused = {**_of_order, "reason": "not_tradable", "message": "symbol FB is not tradable"}

_ALL: tuple[Message, ...] = (
    PricesUpdated(prices=(quote("AAPL 99.90/100.10 100.000000001"), quote("BRK.B 500000"))),
    OpenAccount(account_id=ACCOUNT, name="Demo", cash=Decimal("100000.00")),
    SubmitOrder(
        account_id=ACCOUNT,
        order_id=ORDER,
        client_order_id="mine-1",
        symbol="AAPL",
        side=Side.BUY,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        qty=Decimal("0.000000001"),
        limit_price=Decimal("99.5"),
        stop_price=Decimal(98),
        submitted_at=AT,
        strategy_id=STRATEGY,
    ),
    CancelOrder(account_id=ACCOUNT, order_id=ORDER, requested_at=AT),
    OrderAccepted(**_of_order),
    OrderRejected(**_refused),
    OrderFilled(
        **_of_order,
        fill_id=UUID(int=4),
        symbol="AAPL",
        side=Side.SELL,
        qty=Decimal("1.5"),
        price=Decimal("100.10"),
        fee=Decimal(0),
        price_sequence=9,
        order_status=OrderStatus.PARTIALLY_FILLED,
        filled_qty=Decimal("1.5"),
        position_qty=Decimal("8.5"),
        cash=Decimal("1E+5"),
    ),
    OrderCanceled(**_of_order),
    CancelRejected(**_refused),
    OrderExpired(**_of_order),
    AccountsValued(
        values=(
            AccountValue(
                account_id=ACCOUNT,
                cash=Decimal("0.10"),
                market_value=Decimal("12.5"),
                equity=Decimal("12.60"),
                unrealized_pl=Decimal("-3.75"),
            ),
        ),
        at=AT,
    ),
    SignalGenerated(
        signal_id=UUID(int=5),
        strategy_id=STRATEGY,
        account_id=ACCOUNT,
        symbol="AAPL",
        action=Action.BUY,
        price=Decimal("100.10"),
        bar_at=AT,
        reason="fast average 101 above slow 100",
    ),
    RunJob(to="orders", run_id=UUID(int=6), job="process_orders", parameters={"symbols": ["AAPL"], "limit": 5}),
    RequeueDeadLetters(to="orders", letters=(1, 2), who="operator"),
    DiscardDeadLetters(to="orders", letters=(3,), who="operator"),
)
EXAMPLES: dict[type[Message], Message] = {type(message): message for message in _ALL}
