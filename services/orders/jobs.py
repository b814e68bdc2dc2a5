"""The jobs of orders."""

from services.orders.persistence.dividends import accounts_owed
from services.orders.persistence.invariants import INVARIANTS, broken
from services.orders.usecases.catch_up import catch_up, sweep
from services.orders.usecases.expire import expire
from services.orders.usecases.margin import charge_interest, check_margins
from services.orders.usecases.pay_dividends import pay_dividends
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import prune
from shared.jobs.run_context import Counts, RunContext

jobs = Jobs("orders")


class BooksBroken(Exception):
    """The books do not add up. The message has each broken invariant with rows that show it."""


@jobs.job(
    "process_orders",
    schedule="5s",
    market_hours_only=True,
    priority="critical",
    time_limit="30s",
    description="Fill open orders on prices that no event brought, and end those whose session is over.",
)
def process_orders(run: RunContext) -> Counts:
    filled = catch_up(run.context, run.progress) + sweep(run.context)
    return {"orders_filled": filled, "orders_expired": _expire(run)}


@jobs.job(
    "expire_orders",
    schedule="10s",
    priority="high",
    time_limit="5m",
    description="End orders whose session is over, also after the close, once the prices before it are known.",
)
def expire_orders(run: RunContext) -> Counts:
    filled = catch_up(run.context, run.progress)
    return {"orders_filled": filled, "orders_expired": _expire(run)}


def _expire(run: RunContext) -> int:
    with run.context.unit_of_work() as uow:
        return expire(uow)


@jobs.job(
    "check_margins",
    schedule="1m",
    market_hours_only=True,
    priority="high",
    time_limit="2m",
    description="Call margin accounts whose equity is too low, and liquidate those that did not answer in time.",
)
def call_margins(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        return dict(check_margins(uow))


@jobs.job(
    "pay_dividends",
    schedule="1m",
    time_limit="5m",
    description="Pay the dividends whose pay date has come to those who held the shares at the ex-date.",
)
def pay_dividends_due(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        paid, unrated = pay_dividends(uow, accounts_owed(uow.connection, uow.now))
    return {"dividends_paid": paid, "waiting_for_a_rate": unrated}


@jobs.job(
    "charge_interest",
    schedule="50 23 * * *",
    misfire="run_all",
    misfire_window="7d",
    time_limit="10m",
    description="Charge the day's interest on shares that are borrowed and on cash that is owed.",
)
def charge_for_the_day(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        return {"accounts_charged": charge_interest(uow, (run.slot or run.now).date())}


@jobs.job(
    "prove_books",
    schedule="0 5 * * *",
    priority="low",
    time_limit="1h",
    alert_failures=1,
    retries=0,
    description="Prove that cash, positions, reservations and fills are what ledger, lots and orders add up to.",
)
def prove_books(run: RunContext) -> Counts:
    """Prove every invariant. Raises BooksBroken where one does not hold."""
    with run.context.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        wrong = {name: [tuple(row) for row in rows] for name, rows in broken(connection)}
    if wrong:
        raise BooksBroken(wrong)
    return {"invariants_proven": len(INVARIANTS)}


@jobs.job(
    "maintain_orders",
    schedule="10 4 * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Remove old rows of the bus and of the job engine.",
)
def maintain_orders(run: RunContext) -> Counts:
    return prune(run)
