"""Two transactions at once over one order or account: exactly one wins, both sides are told, and the books hold.

The first is stopped where it has decided and not written yet. The second begins then, and the first goes on once the
second has ended or waits for a lock.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from services.orders.persistence import accounts
from services.orders.persistence import orders as store
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.catch_up import catch_up
from services.orders.usecases.expire import expire as end_of_session
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.base import Message
from shared.contracts.orders import CancelOrder, ReplaceOrder
from shared.contracts.prices import PricesUpdated
from tests.component.auction_days import become_known, move_to_new_york, said
from tests.component.paper_exchange import HANDLERS, Exchange
from tests.support import broken_invariants, eventually, order, price, value

Act = Callable[[Exchange, UUID, UUID], None]
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def handle(exchange: Exchange, message: Message) -> None:
    with exchange.orders.unit_of_work() as uow:
        HANDLERS[type(message)](message, uow)


def fill(exchange: Exchange, _account: UUID, _order: UUID) -> None:
    quoted = exchange.clock.now + timedelta(milliseconds=1)
    handle(exchange, PricesUpdated(prices=(price("AAPL", "100", at=quoted, sequence=99),)))


def auction(exchange: Exchange, _account: UUID, _order: UUID) -> None:
    handle(exchange, said(exchange)[-1])


def make_up(exchange: Exchange, _account: UUID, _order: UUID) -> None:
    catch_up(exchange.orders, lambda _done, _of: None)


def sweep(exchange: Exchange, _account: UUID, _order: UUID) -> None:
    exchange.sweep_once()


def cancel(exchange: Exchange, account: UUID, order_id: UUID) -> None:
    handle(exchange, CancelOrder(account_id=account, order_id=order_id, requested_at=exchange.clock.now))


def replace(exchange: Exchange, account: UUID, order_id: UUID) -> None:
    command = ReplaceOrder(
        account_id=account, order_id=order_id, new_order_id=uuid4(), qty=Decimal(20), requested_at=exchange.clock.now
    )
    handle(exchange, command)


def expire(exchange: Exchange, _account: UUID, _order: UUID) -> None:
    later = ServiceContext("orders", exchange.orders.engine, lambda: exchange.clock.now + timedelta(days=1))
    with later.unit_of_work() as uow:
        end_of_session(uow)


def submit(exchange: Exchange, account: UUID, _order: UUID) -> None:
    """Sixty thousand of a hundred: one such fits beside the open order, not two."""
    handle(exchange, order(account, type="limit", limit_price=Decimal(60), qty=Decimal(1000)))


def race(exchange: Exchange, first: Act, second: Act, account: UUID, order_id: UUID) -> None:
    """Raises what either raised."""
    with halted() as halt, ThreadPoolExecutor(2) as pool:
        one = pool.submit(halt.run, first, exchange, account, order_id)
        halt.reached.wait(10)
        other = pool.submit(second, exchange, account, order_id)
        eventually(lambda: other.done() or value(exchange.orders.engine, WAITING), what="the second waits or is done")
        halt.go_on.set()
        one.result(20)
        other.result(20)


class Halt:
    """Stops the thread that runs under it where it would write."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._thread: int | None = None

    def run(self, act: Act, *given: Any) -> None:
        self._thread = threading.get_ident()
        try:
            act(*given)
        finally:
            self.reached.set()

    def wait(self) -> None:
        if threading.get_ident() == self._thread:
            self.reached.set()
            self.go_on.wait(20)


@contextmanager
def halted() -> Iterator[Halt]:
    halt, emit = Halt(), AccountEvents.emit

    def slow(events: AccountEvents, *given: Any, **facts: Any) -> None:
        halt.wait()
        emit(events, *given, **facts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AccountEvents, "emit", slow)
        yield halt


@pytest.fixture
def waiting(exchange: Exchange) -> tuple[UUID, UUID]:
    """An account with an order that the next price fills."""
    account = exchange.open()
    return account, exchange.submit(account, "buy 10 AAPL limit", limit_price="200", time_in_force="day")


RACES = [
    (first, second)
    for first in (fill, cancel, replace, expire)
    for second in (fill, cancel, replace, expire)
    if first is not second
]


@pytest.mark.parametrize(("first", "second"), RACES, ids=[f"{a.__name__}-{b.__name__}" for a, b in RACES])
def test_of_two_that_end_an_order_one_wins(
    exchange: Exchange, waiting: tuple[UUID, UUID], first: Act, second: Act
) -> None:
    """The other finds that it came too late, and says so where somebody asked."""
    account, order_id = waiting
    race(exchange, first, second, account, order_id)
    assert broken_invariants(exchange.orders.engine) == {}
    one_won(exchange, account, order_id, first, second)


def one_won(exchange: Exchange, account: UUID, order_id: UUID, first: Act, second: Act) -> None:
    told = [name for name, body in exchange.said(account) if body.get("order_id") == str(order_id)][1:]
    ends = {"OrderFilled", "OrderCanceled", "OrderReplaced", "OrderExpired"}
    assert [name for name in told if name in ends] == [ENDS[first]]
    assert [name for name in told if name not in ends] == ([REFUSALS[second]] if second in REFUSALS else [])


ENDS: dict[Act, str] = {
    fill: "OrderFilled",
    auction: "OrderFilled",
    make_up: "OrderFilled",
    cancel: "OrderCanceled",
    replace: "OrderReplaced",
    expire: "OrderExpired",
}
REFUSALS: dict[Act, str] = {cancel: "CancelRejected", replace: "ReplaceRejected"}


@pytest.fixture
def auctioned(exchange: Exchange) -> tuple[UUID, UUID]:
    """An account with an order for the opening auction, whose price is known to marketdata."""
    account = move_to_new_york(exchange).open()
    waiting = exchange.submit(account, "buy 10 AAPL limit", limit_price="200", time_in_force="opg")
    become_known(exchange, "open", "100")
    return account, waiting


AUCTION_RACES = [
    *((auction, other) for other in (make_up, cancel, replace, expire)),
    *((other, auction) for other in (make_up, cancel, replace, expire)),
]


@pytest.mark.parametrize(
    ("first", "second"), AUCTION_RACES, ids=[f"{a.__name__}-{b.__name__}" for a, b in AUCTION_RACES]
)
def test_an_auction_and_who_ends_its_order_meet_and_one_wins(
    exchange: Exchange, auctioned: tuple[UUID, UUID], first: Act, second: Act
) -> None:
    """An auction is as any other price. The event and the recovery fill it once."""
    account, order_id = auctioned
    race(exchange, first, second, account, order_id)
    assert broken_invariants(exchange.orders.engine) == {}
    one_won(exchange, account, order_id, first, second)


def test_an_event_and_the_sweep_fill_an_order_once(exchange: Exchange, waiting: tuple[UUID, UUID]) -> None:
    account, order_id = waiting
    exchange.show(price("AAPL", "100", at=exchange.clock.now + timedelta(milliseconds=1), sequence=99))
    race(exchange, fill, sweep, account, order_id)
    assert len(exchange.fills(order_id)) == 1
    assert broken_invariants(exchange.orders.engine) == {}


def test_two_orders_at_once_do_not_spend_the_same_cash(exchange: Exchange, waiting: tuple[UUID, UUID]) -> None:
    account, order_id = waiting
    race(exchange, submit, submit, account, order_id)
    assert exchange.account(account).reserved == 62_000
    assert broken_invariants(exchange.orders.engine) == {}


@pytest.mark.parametrize(("first", "second"), [(auction, cancel), (cancel, auction), (auction, make_up)])
def test_without_the_row_locks_a_race_of_an_auction_is_noticed(
    exchange: Exchange, auctioned: tuple[UUID, UUID], monkeypatch: pytest.MonkeyPatch, first: Act, second: Act
) -> None:
    """This shows that the tests of auctions above test something."""
    unlocked(monkeypatch)
    assert noticed(exchange, first, second, auctioned)


@pytest.mark.parametrize(("first", "second"), [(fill, cancel), (cancel, fill), (submit, submit)])
def test_without_the_row_locks_a_race_is_noticed(
    exchange: Exchange, waiting: tuple[UUID, UUID], monkeypatch: pytest.MonkeyPatch, first: Act, second: Act
) -> None:
    """This shows that the tests above test something."""
    unlocked(monkeypatch)
    assert noticed(exchange, first, second, waiting)


def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((accounts, "_LOCK_ACCOUNTS"), (store, "_LOCK_OPEN")):
        without = getattr(module, name).replace("FOR UPDATE OF o", "").replace("FOR UPDATE", "")
        monkeypatch.setattr(module, name, without)


def noticed(exchange: Exchange, first: Act, second: Act, waiting: tuple[UUID, UUID]) -> bool:
    """Tell whether it shows that both did something."""
    account, order_id = waiting
    try:
        race(exchange, first, second, account, order_id)
    except (SQLAlchemyError, psycopg.Error):
        return True  # the database's own constraints refused it
    gaps = [body["sequence"] for _, body in exchange.everything(account)]
    return bool(broken_invariants(exchange.orders.engine)) or len(gaps) != len(set(gaps))
