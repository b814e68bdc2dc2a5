"""The thread that lets rebalances go on when their orders have filled or ended.

It looks at the view of orders, and only while a rebalance is under way: no fill of another order passes through here.
"""

from services.strategy.rebalancing import follow, store
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

#: A rebalance that another process began is looked for at this pace, and the orders of one at the second.
IDLE_SECONDS, BUSY_SECONDS = 5.0, 0.5


class RebalanceFollower(Background):
    """Advances the rebalances that are under way. Row locks keep two processes from advancing one at a time."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__("rebalances")
        self._context = context
        self._database = Outage("the database", part="rebalances")

    def run(self) -> None:
        while not self.stopping.is_set():
            follow.begun.clear()
            try:
                pause = BUSY_SECONDS if self.advance() else 0.0
                self._database.passed()
            except DATABASE_ERRORS as error:
                pause = self._database.failed(error)
            if pause:
                self.stopping.wait(pause)
            else:
                follow.begun.wait(IDLE_SECONDS)

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
