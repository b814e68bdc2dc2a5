"""The jobs of orders."""

from services.orders import store
from services.orders.filling import expire_orders, fill_open_orders
from shared.jobs.declaration import Counts, JobRun, Jobs

jobs = Jobs("orders")


@jobs.job(
    "process_orders",
    every="5s",
    market_hours_only=True,
    description="Fill open orders that a price event missed, and expire day orders whose session is over.",
)
def process_orders(run: JobRun) -> Counts:
    with run.unit.transaction() as tx:
        expired = expire_orders(tx)
    with run.unit.transaction() as tx:
        filled = fill_open_orders(tx, store.prices_with_open_orders(tx.connection))
    return {"orders_filled": filled, "orders_expired": expired}
