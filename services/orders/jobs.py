"""The jobs of orders."""

from services.orders import store
from services.orders.filling import expire_orders, fill_open_orders
from shared.jobs.declaration import Jobs
from shared.jobs.jobrun import Counts, JobRun
from shared.jobs.maintenance import prune

jobs = Jobs("orders")


@jobs.job(
    "process_orders",
    schedule="5s",
    market_hours_only=True,
    priority="critical",
    time_limit="30s",
    description="Fill open orders that a price event missed, and expire day orders whose session is over.",
)
def process_orders(run: JobRun) -> Counts:
    with run.unit.transaction() as tx:
        expired = expire_orders(tx)
    with run.unit.transaction() as tx:
        filled = fill_open_orders(tx, store.prices_with_open_orders(tx.connection))
    return {"orders_filled": filled, "orders_expired": expired}


@jobs.job(
    "maintain_orders",
    schedule="10 4 * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Remove old rows of the bus and of the job engine.",
)
def maintain_orders(run: JobRun) -> Counts:
    return prune(run)
