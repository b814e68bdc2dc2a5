"""The jobs of marketdata."""

from datetime import timedelta
from functools import cache, partial

from services.marketdata import store
from services.marketdata.prices import take_in
from services.marketdata.providers import Provider, make_provider
from services.marketdata.settings import current
from shared.jobs.declaration import Counts, JobRun, Jobs

jobs = Jobs("marketdata")

POLLED_INTERVAL = "1m"
POLLED_LENGTH = timedelta(minutes=1)


@cache
def configured_provider() -> Provider:
    return make_provider(current().provider, seed=current().seed)


@jobs.job(
    "update_market_data",
    every="1m",
    description="Fetch current prices from the provider, store them with their bars and publish them.",
)
def update_market_data(run: JobRun) -> Counts:
    provider = configured_provider()
    with run.unit.transaction() as tx:
        store.ensure_partitions(tx.connection, tx.now)
    with run.unit.transaction() as tx:
        prices = take_in(
            tx, provider, partial(provider.poll, now=tx.now), interval=POLLED_INTERVAL, length=POLLED_LENGTH
        )
    return {"prices_written": prices}
