"""A strategy with made-up bars and books, and its decisions, signals and orders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from services.orders.persistence.holdings import by_holding, finding_lots, saving_holdings
from services.strategy.jobs import jobs
from services.strategy.persistence import strategies
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.protections import Watch
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.orders import Side
from shared.contracts.strategy import StrategyState
from shared.exchange.lots import trade
from shared.jobs.run_context import Counts, RunContext
from shared.money import ZERO
from shared.storage.driver import together
from tests.component.watching import Sent, outbox
from tests.support import rows

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
#: It crosses with averages of two and three bars.
STRATEGY = StrategyRow(
    id=uuid4(),
    name="made-up",
    account_id=uuid4(),
    kind="sma_crossover",
    parameters={"fast": 2, "slow": 3},
    symbols=("AAPL",),
    interval="replay",
    sizing={"kind": "qty", "value": "10", "max_position_qty": "50"},
    state=StrategyState.RUNNING,
)


@dataclass
class Scenario:
    """A strategy, marketdata's bars and the books of orders, each written by its owner's role."""

    strategy: ServiceContext
    marketdata: ServiceContext
    orders: ServiceContext

    def add_strategy(self, strategy: StrategyRow = STRATEGY, **changes: Any) -> StrategyRow:
        """Add the strategy with its account."""
        strategy, now = replace(strategy, **changes), self.strategy.clock()
        with self.strategy.engine.begin() as connection:
            strategies.add(connection, replace(strategy, watch=Watch(since=now)), now)
        with self.orders.engine.begin() as connection:
            connection.exec_driver_sql(_ADD_ACCOUNT, {"account": strategy.account_id})
        return strategy

    def add_bars(self, closes: Sequence[int], symbol: str = "AAPL", interval: str = "replay") -> None:
        """Append a bar a minute with each of these closes."""
        with self.marketdata.engine.begin() as connection:
            for close in closes:
                connection.exec_driver_sql(
                    "INSERT INTO marketdata.market_data SELECT %(symbol)s, %(interval)s,"
                    " %(noon)s + interval '1 minute' * count(*), %(c)s, %(c)s, %(c)s, %(c)s, 1, 'test'"
                    " FROM marketdata.market_data WHERE symbol = %(symbol)s AND interval = %(interval)s",
                    {"symbol": symbol, "interval": interval, "noon": NOON, "c": close},
                )

    def add_order(
        self,
        qty: int,
        *,
        by: UUID | None = STRATEGY.id,
        side: Side = Side.BUY,
        filled: bool = True,
        leg: str | None = None,
    ) -> UUID:
        """Add an order on the strategy's account, placed by the strategy or by somebody else, with its shares."""
        filled_qty = qty if filled else 0
        order_id = uuid4()
        values = {
            "account": STRATEGY.account_id,
            "id": order_id,
            "side": side,
            "qty": qty,
            "filled": filled_qty,
            "by": by,
            "leg": leg,
        }
        holding, now = (STRATEGY.account_id, "AAPL"), self.orders.clock()
        with self.orders.engine.begin() as connection:
            for statement in (_ADD_ACCOUNT, _ADD_ORDER):
                connection.exec_driver_sql(statement, values)
            if filled:
                (found,) = together(connection, finding_lots([holding]))
                before = by_holding(found).get(holding, ())
                lots, _ = trade(before, side, Decimal(qty), ZERO, fill_id=uuid4(), at=now, strategy_id=by)
                together(connection, *saving_holdings([holding], {holding: lots}, now))
        return order_id

    def add_round_trip(self, profit: int, *, at: datetime, by: UUID = STRATEGY.id, symbol: str = "AAPL") -> None:
        """Add a round trip of the strategy, which ended at that time with this profit."""
        with self.orders.engine.begin() as connection:
            given = {"account": STRATEGY.account_id, "symbol": symbol, "by": by, "at": at, "profit": profit}
            connection.exec_driver_sql(_ADD_ROUND_TRIP, given)

    def run(self, run_id: UUID | None = None, *, job: str = "trading_bot") -> Counts:
        """Run trading_bot once."""
        run = RunContext(run_id or uuid4(), self.strategy, self.strategy.clock(), {})
        return jobs.declared[job].run(run)

    def decisions(self) -> list[Any]:
        return rows(self.strategy.engine, "SELECT * FROM strategy.decisions ORDER BY at, symbol")

    def decided(self) -> tuple[Any, ...]:
        """Return the only decision: action, outcome, quantity."""
        (decision,) = self.decisions()
        return decision.action, decision.outcome, decision.qty

    def signals(self) -> list[Any]:
        return rows(self.strategy.engine, "SELECT * FROM strategy.trading_signals ORDER BY bar_at")

    def submitted(self) -> list[Sent]:
        return [sent for sent in outbox(self.strategy) if sent.name == "SubmitOrder.v1"]

    def canceled(self) -> list[str]:
        """The orders that the strategy asked to cancel."""
        return [sent.body["order_id"] for sent in outbox(self.strategy) if sent.name == "CancelOrder.v1"]

    def state(self, strategy_id: UUID = STRATEGY.id) -> Any:
        (found,) = rows(self.strategy.engine, "SELECT * FROM strategy.strategies WHERE id = :id", id=strategy_id)
        return found


_ADD_ACCOUNT = """
INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
VALUES (%(account)s, %(account)s::uuid::text, 'test', 'USD', 100000, now()) ON CONFLICT DO NOTHING
"""
_ADD_ROUND_TRIP = """
INSERT INTO orders.round_trips (account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at, cost,
                                proceeds, realized_pl, strategy_id, entry_strategy_id)
VALUES (%(account)s, gen_random_uuid(), %(symbol)s, 1, gen_random_uuid(), gen_random_uuid(), %(at)s, %(at)s, 100000,
        100000 + %(profit)s, %(profit)s, %(by)s, %(by)s)
"""
_ADD_ORDER = """
INSERT INTO orders.orders (account_id, id, order_group, client_order_id, symbol, side, type, time_in_force, qty,
  filled_qty, leg,
                           status, strategy_id, submitted_at, accepted_at, active_at, trigger_direction,
                           trigger_price, updated_at)
VALUES (%(account)s, %(id)s, %(id)s, %(id)s::uuid::text, 'AAPL', %(side)s, 'market', 'day', %(qty)s, %(filled)s,
        %(leg)s,
        CASE WHEN %(filled)s > 0 THEN 'filled' ELSE 'accepted' END, %(by)s, now(), now(), now(), 'below', 'Infinity',
        now())
"""
