"""Fills a second with all their rows, beside an ORM that fills each order in a transaction of its own."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from uuid import UUID

from bench import orders_orm
from bench.orders_database import MARKET, Counted, OrdersDatabase, orders_database
from bench.report import Goal, NotMeasured, Row, comparison, figure, interleaved

SYMBOLS = 100
ACCOUNTS = 200
HALF = Decimal("0.01")
QUOTE = {"bid": MARKET - HALF, "ask": MARKET + HALF, "last": MARKET}
#: Fills of a batch → the ratio to reach.
GOALS = {20: 30, 200: 50}


def measure(*, runs: int, fills: int) -> Sequence[Row]:
    """``runs`` pairs for each size of a batch. A run has ``fills`` fills on our side, and a fifth on the other's."""
    rows: list[Row] = []
    with orders_database(SYMBOLS) as made:
        ours, theirs = Side(made, made.open_accounts(ACCOUNTS)), Side(made, made.open_accounts(ACCOUNTS))
        for size, goal in GOALS.items():
            print(f"fills: {runs} runs of {fills} fills, {size} in a batch", flush=True)
            ours.batches(fills, size), theirs.one_by_one(size)
            ours.statements.clear()
            pairs = interleaved(partial(ours.batches, fills, size), partial(theirs.one_by_one, fills // 5), runs)
            name = f"fills, {size} in a batch, beside an ORM with a transaction for each; all rows, durable"
            rows.append(comparison(name, "fills/s", pairs, Goal("ratio", ">=", goal)))
            rows.append(figure(f"statements of a batch of {size} fills", "statements", ours.statements))
    return rows


@dataclass
class Side:
    """Buys everything, then sells it again, and so on: half of the fills close lots."""

    database: OrdersDatabase
    accounts: Sequence[UUID]
    statements: list[float] = field(default_factory=list)
    buys: bool = False

    def _orders(self, count: int) -> list[tuple[UUID, UUID]]:
        """(account, order) of as many open orders at the market, over all accounts and symbols."""
        self.buys = not self.buys
        side = "buy" if self.buys else "sell"
        wanted = [
            (self.accounts[n % len(self.accounts)], self.database.symbols[n // 2 % SYMBOLS], side, None)
            for n in range(count)
        ]
        return list(zip([account for account, *_ in wanted], self.database.place(wanted), strict=True))

    def batches(self, fills: int, size: int) -> float:
        seconds = 0.0
        for _ in range(fills // size):
            self._orders(size)
            body = self.database.prices()
            executed, begun = Counted.executed, time.perf_counter()
            self.database.handle(body)
            seconds += time.perf_counter() - begun
            self.statements.append(float(Counted.executed - executed))
        self._expect_none_open()
        return fills // size * size / seconds

    def one_by_one(self, fills: int) -> float:
        orders = self._orders(fills)
        begun = time.perf_counter()
        for account, order in orders:
            orders_orm.fill(self.database.engine, account, order, QUOTE, self.database.now)
        rate = fills / (time.perf_counter() - begun)
        self._expect_none_open()
        return rate

    def _expect_none_open(self) -> None:
        self.database.tidy()
        waiting = self.database.count("SELECT count(*) FROM orders.orders WHERE status = 'accepted'")
        if waiting:
            raise NotMeasured(f"{waiting} orders were not filled")
