"""The account's recent past in a backtest, by which its limits on orders and losses are measured as in live trading."""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from shared.contracts.orders import OrderStatus
from shared.exchange.acceptance.pre_trade import Exposure
from shared.exchange.order import Order
from shared.exchange.values import changed

MINUTE = timedelta(minutes=1)


@dataclass
class Record:
    """The equity so far, and the orders that were accepted, the newest last. Both are appended to."""

    equity: list[tuple[datetime, Decimal]] = field(default_factory=list)
    accepted: deque[tuple[datetime, UUID]] = field(default_factory=deque)
    _peak: Decimal | None = None
    _seen: int = 0

    def within(self, exposure: Exposure, orders: Mapping[UUID, Order], now: datetime) -> Exposure:
        """The exposure with the orders of the last minute, the equity as the day (UTC) began, and its peak."""
        while self.accepted and self.accepted[0][0] <= now - MINUTE:
            self.accepted.popleft()
        recent = sum(orders[key].status is not OrderStatus.REJECTED for _, key in self.accepted)
        newest = max((value for _, value in self.equity[self._seen :]), default=self._peak)
        self._seen = len(self.equity)
        self._peak = newest if self._peak is None or newest is None else max(self._peak, newest)
        before = bisect_left(self.equity, datetime.combine(now.date(), time(), now.tzinfo), key=lambda each: each[0])
        day_start = self.equity[before - 1][1] if before else None
        return changed(exposure, recent=recent, recent_of_strategy=recent, day_start=day_start, peak=self._peak)
