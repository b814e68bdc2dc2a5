"""Conditions on other services' views: a market's phase, the age of prices, and drawdowns."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from services.strategy.conditions import drawdown_under, market_is_in, prices_younger_than
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.declaration import Condition
from shared.jobs.run_context import RunContext
from shared.jobs.schedule.calendar import Phase
from tests.component.watching import context_of
from tests.conftest import FakeClock


@dataclass
class Owners:
    """The services whose rows the conditions read, and strategy, which evaluates them."""

    strategy: ServiceContext
    marketdata: ServiceContext
    orders: ServiceContext
    valuation: ServiceContext
    clock: FakeClock

    def ask(self, condition: Condition) -> str | None:
        return condition(RunContext(uuid4(), self.strategy, self.clock.now, {}))

    def write(self, context: ServiceContext, statement: str, *values: Any) -> None:
        with context.engine.begin() as connection:
            connection.exec_driver_sql(statement, values)


@pytest.fixture
def owners(urls: dict[str, str], clock: FakeClock) -> Iterator[Owners]:
    with (
        context_of("strategy", urls, clock) as strategy,
        context_of("marketdata", urls, clock) as marketdata,
        context_of("orders", urls, clock) as orders,
        context_of("valuation", urls, clock) as valuation,
    ):
        yield Owners(strategy, marketdata, orders, valuation, clock)


def test_a_job_can_be_limited_to_phases_of_another_market(owners: Owners, clock: FakeClock) -> None:
    """The condition's market may differ from that of the schedule."""
    condition = market_is_in(Phase.REGULAR, market="XLON")
    opens = clock.now + timedelta(hours=1)
    owners.write(
        owners.marketdata,
        "INSERT INTO marketdata.market_sessions (market, day, open_at, close_at) VALUES ('XLON', %s, %s, %s)",
        opens.date(),
        opens,
        opens + timedelta(hours=1),
    )
    before = owners.ask(condition)
    assert before is not None
    assert before.startswith("XLON is in ")
    clock.move(hours=1)
    assert owners.ask(condition) is None
    clock.move(hours=1)
    assert owners.ask(condition) is not None


def test_a_job_can_wait_for_fresh_prices(owners: Owners, clock: FakeClock) -> None:
    """The reason is the same without any price and with old prices only."""
    condition = prices_younger_than("5m")
    assert owners.ask(condition) == "no price is younger than 5m"
    owners.write(
        owners.marketdata,
        """INSERT INTO marketdata.instruments (id, symbol, name, asset_class, market, currency, tick_size, quoted_at)
           VALUES (gen_random_uuid(), 'IBM', 'IBM', 'us_equity', 'DEMO', 'USD', 0.01, %s)""",
        clock.now,
    )
    clock.move(minutes=5)
    assert owners.ask(condition) is None
    clock.move(seconds=1)
    assert owners.ask(condition) == "no price is younger than 5m"


def test_a_job_can_be_halted_by_a_drawdown(owners: Owners, clock: FakeClock) -> None:
    """An account that lost a fifth of its peak halts the job. A smaller loss does not, nor a peak before a reset."""
    condition = drawdown_under(Decimal("0.2"))
    account = uuid4()
    for equity in (100, 125, 110):
        owners.write(
            owners.valuation,
            "INSERT INTO valuation.account_summaries VALUES (%s, gen_random_uuid(), %s, 0, 0, %s, 0, 0)",
            account,
            clock.move(minutes=1),
            equity,
        )
    for equity, halted in ((101, False), (100, True)):
        owners.write(
            owners.orders,
            """INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
               VALUES (%s, 'PA1', 'test', 'USD', %s, now()) ON CONFLICT (id) DO UPDATE SET cash = excluded.cash""",
            account,
            equity,
        )
        assert (owners.ask(condition) is not None) == halted
    owners.write(
        owners.orders, "UPDATE orders.accounts SET cash = 50, generation = 2, generation_at = %s", clock.move(minutes=1)
    )
    assert owners.ask(condition) is None
