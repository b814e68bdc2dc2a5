"""The events of an account, each with the account's next sequence."""

from typing import Any
from uuid import UUID

from services.orders import metrics
from services.orders.persistence.executions import holdings
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import OfAccount
from shared.contracts.orders import OrderCanceled, OrderFilled, OrderRejected, OrderStatus, PositionChanged
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.lots import Lot
from shared.exchange.matching.book import Book, Canceled, Execution, position_of
from shared.exchange.matching.fills import Fill
from shared.exchange.order import Account, Order
from shared.exchange.refusal import Refusal
from shared.exchange.values import changed


class AccountEvents:
    """Publishes in the transaction. The sequences count up in ``accounts``, which have to be saved afterwards."""

    def __init__(self, uow: UnitOfWork, accounts: dict[UUID, Account]) -> None:
        self._uow = uow
        self._accounts = accounts

    def emit(self, event: type[OfAccount], account_id: UUID, *, trace: str | None = None, **facts: Any) -> None:
        """Publish the event. ``trace`` is the journey that it belongs to, where that is not the present one."""
        account = self._accounts[account_id]
        account = self._accounts[account_id] = changed(account, sequence=account.sequence + 1)
        message = event(account_id=account_id, sequence=account.sequence, at=self._uow.now, **facts)
        self._uow.publish(message, trace=trace)
        metrics.count_event(self._uow, event)

    def execution(self, execution: Execution, book: Book) -> None:
        """Publish what became of each order, and then what each account holds, in the journey of its last fill."""
        traces = {
            (order.account_id, order.symbol): order.trace
            for order, outcome in execution.outcomes
            if isinstance(outcome, Fill)
        }
        for order, outcome in execution.outcomes:
            if isinstance(outcome, Fill):
                self.filled(order, outcome)
            elif isinstance(outcome, Canceled):
                self.canceled(order, outcome.reason)
            else:
                self.rejected(order, outcome)
        for account_id, symbol in holdings(execution.fills):
            lots = book.lots[account_id, symbol]
            self.position(account_id, symbol, lots, trace=traces.get((account_id, symbol)))

    def canceled(self, order: Order, reason: CancelReason | RejectReason) -> None:
        self.emit(OrderCanceled, order.account_id, trace=order.trace, order_id=order.id, reason=reason)

    def rejected(self, order: Order, refusal: Refusal) -> None:
        self.emit(
            OrderRejected,
            order.account_id,
            trace=order.trace,
            order_id=order.id,
            reason=refusal.reason,
            message=refusal.message,
            details=dict(refusal.details),
        )
        metrics.count_rejection(self._uow, refusal.reason)

    def position(self, account_id: UUID, symbol: str, lots: tuple[Lot, ...], *, trace: str | None = None) -> None:
        qty, cost = position_of(lots)
        self.emit(PositionChanged, account_id, trace=trace, symbol=symbol, qty=qty, cost=cost)

    def filled(self, order: Order, fill: Fill) -> None:
        self.emit(
            OrderFilled,
            order.account_id,
            trace=order.trace,
            order_id=order.id,
            fill_id=fill.id,
            symbol=order.symbol,
            side=order.side,
            qty=fill.qty,
            price=fill.price,
            currency=order.currency,
            rate=fill.rate,
            fee=fill.fee,
            price_sequence=fill.quote.sequence,
            order_status=order.status,
            filled_qty=order.filled_qty,
            position_qty=fill.position_qty,
            cash=fill.account_cash,
        )
        filled = order.status is OrderStatus.FILLED
        metrics.count_fill(self._uow, quoted_at=fill.quote.quoted_at, filled=filled)
