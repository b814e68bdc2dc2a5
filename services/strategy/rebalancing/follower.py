"""The thread that lets rebalances go on when their orders have filled or ended.

It looks at the view of orders, and only while a rebalance is under way: no fill of another order passes through here.
"""

from services.strategy.rebalancing import follow, store
from shared.bus.unit_of_work import ServiceContext
from shared.repeated import Repeated

#: A rebalance that another process began is looked for at this pace, and the orders of one at the second.
IDLE_SECONDS, BUSY_SECONDS = 5.0, 0.5


class RebalanceFollower(Repeated):
    """Advances the rebalances that are under way. Row locks keep two processes from advancing one at a time."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__("rebalances")
        self._context = context

    def step(self) -> float:
        follow.begun.clear()
        if self.advance():
            return BUSY_SECONDS
        follow.begun.wait(IDLE_SECONDS)
        return 0.0

    def advance(self) -> int:
        """Advance each rebalance that is under way, in a transaction of its own. Return their number."""
        with self._context.engine.begin() as connection:
            open_ids = store.open_ids(connection)
        for rebalance_id in open_ids:
            with self._context.unit_of_work() as uow:
                follow.advance(uow, rebalance_id)
        return len(open_ids)

    def stop(self) -> None:
        self.stopping.set()
        follow.begun.set()
        super().stop()
