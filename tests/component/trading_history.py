"""Accounts that trade, deposit and are valued at given moments, so that their days can be summarized."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from services.valuation.jobs import jobs
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.run_context import Counts, RunContext
from tests.component.scripted_prices import push
from tests.conftest import FakeClock
from tests.support import rows

NOTHING = Decimal(0)


def at(text: str) -> datetime:
    """``24 16:30``: a moment of November 2026 in UTC."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


@dataclass
class TradingHistory:
    """Writes the rows of the services that a summary reads, on one clock, and runs the job that summarizes."""

    marketdata: ServiceContext
    orders: ServiceContext
    valuation: ServiceContext
    clock: FakeClock
    market: str = "DEMO"

    def price(self, last: str, moment: str) -> None:
        self.clock.now = at(moment)
        push(self.marketdata, {"AAPL": last})

    def open(self, cash: str, moment: str = "23 10:00") -> UUID:
        account = uuid4()
        self._orders(_ADD_ACCOUNT, id=account, at=at(moment))
        self.deposit(account, cash, moment)
        return account

    def deposit(self, account: UUID, amount: str, moment: str) -> None:
        self._orders(_ADD_TRANSFER, account=account, at=at(moment), kind="deposit", amount=Decimal(amount))
        self._orders(_MOVE_CASH, account=account, by=Decimal(amount))

    def buy(self, account: UUID, qty: str, price: str, moment: str, fee: str = "0") -> None:
        self._fill(account, "buy", Decimal(qty), Decimal(price), Decimal(fee), at(moment))

    def sell(self, account: UUID, qty: str, price: str, moment: str, profit: str) -> None:
        """Shares that were bought for so much less."""
        self._fill(account, "sell", Decimal(qty), Decimal(price), NOTHING, at(moment), Decimal(profit))

    def _fill(
        self,
        account: UUID,
        side: str,
        qty: Decimal,
        price: Decimal,
        fee: Decimal,
        moment: datetime,
        profit: Decimal = NOTHING,
    ) -> None:
        sign = 1 if side == "buy" else -1
        order, fill, amount = uuid4(), uuid4(), qty * price
        values = {"account": account, "order": order, "fill": fill, "side": side, "qty": qty, "price": price}
        values |= {"amount": amount, "fee": fee, "at": moment, "moved": sign * qty, "cost": sign * (amount - profit)}
        self._orders(_ADD_ORDER, **values)
        self._orders(_ADD_FILL, **values)
        self._orders(_MOVE_POSITION, **values)
        self._orders(_MOVE_CASH, account=account, by=-sign * amount - fee)
        self._orders(_ADD_ENTRY, **values, cash=-sign * amount - fee, profit=profit)
        if side == "sell":
            self._orders(_ADD_TRADE, **values, bought=amount - profit, profit=profit)

    def _orders(self, statement: str, **values: Any) -> None:
        with self.orders.engine.begin() as connection:
            connection.exec_driver_sql(statement, values)

    def summarize(self, slot: str | None, now: str | None = None, run_id: UUID | None = None) -> Counts:
        """Run the job for the slot, or manually without one."""
        self.clock.now = at(now or slot or "")
        due = at(slot) if slot else None
        run = RunContext(run_id or uuid4(), self.valuation, self.clock.now, {}, due, market=self.market)
        return jobs.declared["summarize_day"].run(run)

    def summaries(self, account: UUID) -> dict[date, Any]:
        """Day → what another service reads of it."""
        sql = "SELECT * FROM valuation.daily_summaries_v1 WHERE account_id = :a ORDER BY day"
        return {row.day: row for row in rows(self.orders.engine, sql, a=account)}


_ADD_ACCOUNT = """
INSERT INTO orders.accounts (id, number, name, currency, created_at)
VALUES (%(id)s, gen_random_uuid(), 'test', 'USD', %(at)s)
"""
_ADD_ENTRY = """
INSERT INTO orders.ledger (account_id, at, kind, reference, symbol, qty, cash, cost, fee, realized)
VALUES (%(account)s, %(at)s, 'fill', %(fill)s, 'AAPL', %(moved)s, %(cash)s, %(cost)s, %(fee)s, %(profit)s)
"""
_ADD_TRANSFER = """
INSERT INTO orders.ledger (account_id, at, kind, reference, cash, capital)
VALUES (%(account)s, %(at)s, %(kind)s, gen_random_uuid(), %(amount)s, %(amount)s)
"""
_MOVE_CASH = "UPDATE orders.accounts SET cash = cash + %(by)s WHERE id = %(account)s"
_ADD_ORDER = """
INSERT INTO orders.orders (account_id, id, order_group, client_order_id, symbol, side, type, time_in_force, qty, status,
                           filled_qty, submitted_at, updated_at)
VALUES (%(account)s, %(order)s, %(order)s, gen_random_uuid(), 'AAPL', %(side)s, 'market', 'gtc', %(qty)s, 'filled',
        %(qty)s, %(at)s, %(at)s)
"""
_ADD_FILL = """
INSERT INTO orders.fills (account_id, order_id, number, id, symbol, side, qty, price, amount, fee, filled_at,
                          price_sequence, quoted_at, last)
VALUES (%(account)s, %(order)s, 1, %(fill)s, 'AAPL', %(side)s, %(qty)s, %(price)s, %(amount)s, %(fee)s, %(at)s, 1,
        %(at)s, %(price)s)
"""
_MOVE_POSITION = """
INSERT INTO orders.positions AS p VALUES (%(account)s, 'AAPL', %(moved)s, %(cost)s, %(at)s)
ON CONFLICT (account_id, symbol) DO UPDATE SET qty = p.qty + excluded.qty, cost = p.cost + excluded.cost
"""
_ADD_TRADE = """
INSERT INTO orders.round_trips (account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at, cost,
                           proceeds, realized_pl)
VALUES (%(account)s, gen_random_uuid(), 'AAPL', %(qty)s, gen_random_uuid(), %(fill)s, %(at)s, %(at)s, %(bought)s,
        %(amount)s, %(profit)s)
"""
