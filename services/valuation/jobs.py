"""The jobs of valuation."""

from services.valuation import store
from services.valuation.actors import revalue_and_say
from shared.jobs.declaration import Counts, JobRun, Jobs

jobs = Jobs("valuation")


@jobs.job(
    "update_positions",
    every="10m",
    description="Value every position and account at current prices, and keep an account summary.",
)
def update_positions(run: JobRun) -> Counts:
    with run.unit.transaction() as tx:
        accounts, positions = store.snapshot(tx.connection, run.id, tx.now)
        revalue_and_say(tx, None)
    return {"accounts_valued": accounts, "positions_valued": positions}
