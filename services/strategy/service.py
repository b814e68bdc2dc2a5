"""The service strategy: its jobs, and the demo's strategy."""

from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5

from services.strategy import store
from services.strategy.domain.sma_crossover import Rules
from services.strategy.jobs import jobs
from shared.bus.actors import Actors
from shared.bus.unit_of_work import ServiceContext
from shared.service import Service
from shared.settings import DEMO_ACCOUNT_ID, ServiceSettings

#: The demo's strategy: it trades small lots of three symbols on the replayed bars.
DEMO_STRATEGY = store.Strategy(
    id=uuid5(NAMESPACE_URL, "paperprofit:demo-strategy"),
    name="demo-sma",
    account_id=DEMO_ACCOUNT_ID,
    symbols=("AAPL", "IBM", "MSFT"),
    interval="replay",
    rules=Rules(fast=5, slow=20, order_qty=Decimal(10), max_position_qty=Decimal(50)),
)


def prepare(context: ServiceContext) -> None:
    """Add the demo's strategy in a demo."""
    if ServiceSettings().demo:
        with context.engine.begin() as connection:
            store.add_strategy(connection, DEMO_STRATEGY, context.clock())


service = Service("strategy", Actors(), jobs, prepare)
