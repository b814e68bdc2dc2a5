"""Margin calls of a backtest: the same rule as the job ``check_margins`` has, checked at the end of each bar."""

from datetime import datetime, timedelta
from uuid import uuid5

from services.strategy.backtest.exchange import BacktestExchange
from shared.contracts.orders import OrderStatus
from shared.exchange.acceptance.liquidation import liquidation
from shared.money import ZERO


class MarginCalls:
    """The open call of the account, if any, and what happened: ``called``, ``met`` and ``liquidated`` with times."""

    def __init__(self, exchange: BacktestExchange) -> None:
        self._exchange = exchange
        self._due_at: datetime | None = None
        self.happened: list[tuple[datetime, str]] = []

    @property
    def is_open(self) -> bool:
        return self._due_at is not None

    def check(self, now: datetime) -> bool:
        """Call the account, end its call, or close its positions where the call is overdue. True if orders changed."""
        exchange = self._exchange
        account = exchange.account
        required = account.maintenance_margin
        if account.equity >= required or not required:
            if self._due_at is not None:
                self.happened.append((now, "met"))
            self._due_at, exchange.overdue_call = None, False
            return False
        if self._due_at is None:
            self._due_at = now + timedelta(hours=exchange.settings.margin_grace)
            self.happened.append((now, "called"))
            return False
        if self._due_at > now:
            return False
        exchange.overdue_call = True
        return self._liquidate(now)

    def _liquidate(self, now: datetime) -> bool:
        """Cancel all other orders, and close every position that no liquidation closes yet."""
        exchange = self._exchange
        orders = [order for each in exchange.open_orders.values() for order in each.values()]
        others = [order for order in orders if not order.liquidation]
        if others:
            exchange.end(others, OrderStatus.CANCELED, now)
        closing = {order.symbol: order.held_for_orders for order in orders if order.liquidation}
        left = {symbol: qty for symbol, qty in exchange.held.items() if abs(qty) > closing.get(symbol, ZERO)}
        for symbol, qty in left.items():
            free = abs(qty) - closing.get(symbol, ZERO)
            order_id = uuid5(exchange.seed, f"margin call {symbol} {now.isoformat()}")
            currency = exchange.currencies.get(symbol, exchange.currency)
            exchange.keep(liquidation(exchange.account, symbol, free if qty > 0 else -free, currency, order_id, now))
        if left:
            self.happened.append((now, "liquidated"))
        return bool(left or others)
