"""Counts and times of orders, for Prometheus. Each is counted once, when the transaction has committed."""

from datetime import datetime
from functools import partial

from prometheus_client import Counter, Histogram

from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import OfAccount
from shared.contracts.orders import OrderAccepted, OrderCanceled, OrderExpired, OrderReplaced

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ORDERS = Counter("paperprofit_orders", "What became of orders. A filled one was filled to its end", ["event"])
REJECTED = Counter("paperprofit_orders_rejected", "Orders that were rejected", ["reason"])
DECISION = Histogram(
    "paperprofit_order_decision_seconds", "Time from a submit to its acceptance or rejection", buckets=_SECONDS
)
FILL = Histogram("paperprofit_order_fill_seconds", "Time from a price to a fill at it", buckets=_SECONDS)

_EVENTS: dict[type[OfAccount], str] = {
    OrderAccepted: "accepted",
    OrderCanceled: "canceled",
    OrderExpired: "expired",
    OrderReplaced: "replaced",
}


def count_event(uow: UnitOfWork, event: type[OfAccount]) -> None:
    """Count what became of an order, if the event tells of that alone."""
    if event in _EVENTS:
        uow.after_commit.append(ORDERS.labels(_EVENTS[event]).inc)


def count_rejection(uow: UnitOfWork, reason: str) -> None:
    uow.after_commit += [ORDERS.labels("rejected").inc, REJECTED.labels(reason).inc]


def count_fill(uow: UnitOfWork, *, quoted_at: datetime, filled: bool) -> None:
    """Count a fill, and the time that it took since its price."""
    uow.after_commit += [
        ORDERS.labels("filled" if filled else "partially_filled").inc,
        partial(FILL.observe, max(0.0, (uow.now - quoted_at).total_seconds())),
    ]


def count_decision(uow: UnitOfWork, submitted_at: datetime) -> None:
    """Count a submitted order, and the time until it was decided on."""
    uow.after_commit += [
        ORDERS.labels("submitted").inc,
        partial(DECISION.observe, max(0.0, (uow.now - submitted_at).total_seconds())),
    ]
