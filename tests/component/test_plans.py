"""Resting orders cost nothing, also where a plan was made while hardly any rested: plans live as long as connections.

Rows that PostgreSQL reads are counted, not seconds.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine

from services.gateway.trading import account_queries, order_queries
from services.gateway.trading.submissions import add_submission, resend_unanswered
from services.marketdata.domain.sessions import Hours, sessions_of
from services.marketdata.persistence.sessions import replace_sessions
from services.orders.persistence import orders as store
from services.orders.persistence.auctions import missed_auctions
from services.orders.usecases import auctions
from services.orders.usecases.catch_up import catch_up
from services.orders.usecases.expire import expire
from services.strategy.persistence import holdings
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.base import Message
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied
from shared.contracts.markets import MARKETS
from shared.contracts.official_prices import AuctionKind, OfficialPricePublished
from shared.contracts.orders import CancelOrder, SubmitOrder
from shared.contracts.prices import Price, PricesUpdated
from shared.storage.engine import make_engine
from tests.component.paper_exchange import HANDLERS, Exchange
from tests.component.strategy_scenario import STRATEGY
from tests.support import order, price, rows, value

#: Open orders of one account on one symbol: limit orders, trailing stops and such for an auction, a third each.
WAITING = 10_000
#: Orders that have ended, of one account; the tables are known to have these.
ENDED = 20_000
#: Rows that may be read for a step which concerns one of them.
FEW = 120

STRATEGY_ID = uuid4()

Step = Callable[[Exchange, UUID], None]


@pytest.fixture
def planned(exchange: Exchange) -> Iterator[Exchange]:
    """It has one connection, so all that follows is planned on that."""
    url = exchange.orders.engine.url
    exchange.orders.engine.dispose()
    exchange.orders.engine = make_engine(url.render_as_string(hide_password=False), name="plans", pool_size=1)
    yield exchange
    exchange.orders.engine.dispose()


def handle(exchange: Exchange, message: Message) -> None:
    """Without the proof of the books, which reads everything."""
    exchange.clock.move(seconds=1)
    with exchange.orders.unit_of_work() as uow:
        HANDLERS[type(message)](message, uow)


def submitted(exchange: Exchange, account: UUID, **terms: object) -> SubmitOrder:
    command = order(account, submitted_at=exchange.clock.now, **terms)
    handle(exchange, command)
    return command


def quote(exchange: Exchange, last: str) -> None:
    made = show(exchange, last)
    handle(exchange, PricesUpdated(prices=(made,), at=exchange.clock.now))


def show(exchange: Exchange, last: str) -> Price:
    """A new price that no event tells of."""
    exchange.clock.move(seconds=1)
    exchange.sequences["AAPL"] += 1
    made = price("AAPL", last, at=exchange.clock.now, sequence=exchange.sequences["AAPL"])
    exchange.show(made)
    return made


def became(exchange: Exchange, command: SubmitOrder) -> Any:
    (row,) = rows(exchange.orders.engine, _BECAME, account=command.account_id, id=command.order_id)
    return row


def buy_and_sell(exchange: Exchange, account: UUID) -> None:
    for side in ("buy", "sell"):
        command = submitted(exchange, account, side=side)
        quote(exchange, "100")
        assert became(exchange, command).status == "filled"


def trail(exchange: Exchange, account: UUID) -> None:
    """A price that no order waits for, and that one follows."""
    command = submitted(exchange, account, side="sell", type="trailing_stop", trail_price=Decimal(50))
    for last in ("100", "101"):
        quote(exchange, last)
    assert became(exchange, command).hwm == 101
    handle(exchange, CancelOrder(account_id=account, order_id=command.order_id, requested_at=exchange.clock.now))


def rest_and_cancel(exchange: Exchange, account: UUID) -> None:
    command = submitted(exchange, account, type="limit", limit_price=Decimal(1))
    handle(exchange, CancelOrder(account_id=account, order_id=command.order_id, requested_at=exchange.clock.now))
    assert became(exchange, command).status == "canceled"


def sweep_and_fill(exchange: Exchange, account: UUID) -> None:
    command = submitted(exchange, account)
    show(exchange, "100")
    assert exchange.sweep_once() == 1
    assert became(exchange, command).status == "filled"


def fill_on_missed_bars(exchange: Exchange, account: UUID) -> None:
    quote(exchange, "100")
    command = submitted(exchange, account, type="limit", limit_price=Decimal(90))
    exchange.missed([("100", "101", "99", "100"), ("100", "100", "89", "95"), ("95", "96", "94", "95")])
    assert catch_up(exchange.orders, lambda _done, _of: None) == 1
    assert became(exchange, command).status == "filled"


def end_what_is_due(exchange: Exchange, account: UUID) -> None:
    command = submitted(exchange, account, type="limit", limit_price=Decimal(1), time_in_force="day")
    exchange.clock.move(days=1)
    with exchange.orders.unit_of_work() as uow:
        assert expire(uow) == 1
    assert became(exchange, command).status == "expired"


def split(exchange: Exchange, _account: UUID) -> None:
    """The symbol has no open order."""
    action = {"action_id": uuid4(), "symbol": "MSFT", "effective_at": exchange.clock.now, "split_count": 1}
    handle(exchange, CorporateActionApplied(kind=ActionKind.SPLIT, ratio=Decimal(2), **action))


def hold_an_auction(exchange: Exchange, _account: UUID) -> None:
    """One of another day than what waits is for."""
    now = exchange.clock.now
    given = {"symbol": "AAPL", "day": now.date(), "held_at": now, "provider": "test", "sequence": 1, "split_count": 0}
    with exchange.orders.unit_of_work() as uow:
        held = OfficialPricePublished(kind=AuctionKind.CLOSE, price=Decimal(100), volume=Decimal(1), **given)
        assert auctions.hold(uow, held) == 0


def look_for_missed_auctions(exchange: Exchange, _account: UUID) -> None:
    with exchange.orders.engine.begin() as connection:
        assert missed_auctions(connection) == []


def look_for_an_account_with_nothing_open(exchange: Exchange, _account: UUID) -> None:
    """As a reset and a liquidation do."""
    with exchange.orders.engine.begin() as connection:
        assert store.open_order_groups(connection, uuid4()) == []


STEPS = [
    buy_and_sell,
    trail,
    rest_and_cancel,
    sweep_and_fill,
    fill_on_missed_bars,
    end_what_is_due,
    split,
    hold_an_auction,
    look_for_missed_auctions,
    look_for_an_account_with_nothing_open,
]


@pytest.mark.parametrize("step", STEPS)
def test_what_rests_is_not_read(planned: Exchange, step: Step) -> None:
    """In another symbol or far from its price, of another account or the same one."""
    account = planned.open("100000000", shorting=True, multiplier=2, fills={"fills_on": "bar"})
    for ended in (account, planned.open()):
        crowd(planned, ended, "MSFT", ENDED, is_open=False)
    step(planned, account)
    analyze(planned)
    step(planned, account)
    crowd(planned, account, "IBM", WAITING)
    crowd(planned, planned.open(), "AAPL", WAITING)
    before = read(planned.orders.engine)
    step(planned, account)
    assert read(planned.orders.engine) - before < FEW


def test_orders_that_wait_for_the_open_are_not_read_at_night(planned: Exchange) -> None:
    """A price outside of regular hours finds those with extended hours by an index of their own."""
    account = planned.open("100000000")
    eve = planned.clock.now.date()
    opens, closes = (datetime.combine(eve, time(hour), UTC) for hour in (14, 21))
    held = sessions_of(MARKETS["XNYS"], Hours(eve, opens, closes))
    with planned.marketdata.engine.begin() as connection:
        replace_sessions(connection, ["XNYS"], eve, eve, held)
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS'")
    planned.clock.now = closes + timedelta(hours=1)
    terms = {"type": "limit", "extended_hours": True, "limit_price": Decimal(200)}

    def step() -> None:
        command = submitted(planned, account, **terms)
        quote(planned, "100")
        assert became(planned, command).status == "filled"

    step()
    analyze(planned)
    step()
    crowd(planned, planned.open(), "AAPL", WAITING)
    with planned.orders.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE orders.orders SET trigger_price = 'Infinity' WHERE trigger_direction = 'below'"
        )
    before = read(planned.orders.engine)
    step()
    assert read(planned.orders.engine) - before < FEW


def test_an_account_is_valued_by_its_own_positions(planned: Exchange) -> None:
    """Many other accounts hold something. An account on equity is valued with each of its orders and fills."""
    account = planned.open("100000000", shorting=True, multiplier=2)
    submitted(planned, account)
    quote(planned, "100")
    buy_and_sell(planned, account)
    analyze(planned)
    buy_and_sell(planned, account)
    with planned.orders.engine.begin() as connection:
        connection.exec_driver_sql(_HOLDERS, {"count": WAITING, "now": planned.clock.now})
    before = read(planned.orders.engine)
    buy_and_sell(planned, account)
    assert read(planned.orders.engine) - before < FEW


def positions(connection: Connection, account: UUID, _order: UUID) -> None:
    (position,) = account_queries.positions(connection, account, now_of(connection))
    assert (position["symbol"], position["held_for_orders"]) == ("AAPL", 10)


def order_by_id(connection: Connection, account: UUID, order_id: UUID) -> None:
    assert order_queries.order(connection, account, order_id, nested=True)


def order_by_client_id(connection: Connection, account: UUID, order_id: UUID) -> None:
    assert order_queries.order_by_client_id(connection, account, str(order_id))


def holding_of_a_strategy(connection: Connection, account: UUID, order_id: UUID) -> None:
    strategy = replace(STRATEGY, id=STRATEGY_ID, account_id=account)
    assert holdings.held(connection, [strategy]) == {}
    (ordered,) = holdings.ordered(connection, [strategy], now_of(connection)).values()
    assert ordered.selling == 10
    assert ordered.entries == [order_id]


Question = Callable[[Connection, UUID, UUID], None]
QUESTIONS = [
    ("gateway", positions),
    ("gateway", order_by_id),
    ("gateway", order_by_client_id),
    ("strategy", holding_of_a_strategy),
]


@pytest.mark.parametrize(("service", "question"), QUESTIONS)
def test_what_rests_is_not_read_by_others(
    planned: Exchange, urls: dict[str, str], service: str, question: Question
) -> None:
    """The account holds ten shares, which a strategy's order will sell."""
    account = planned.open("100000000", multiplier=2)
    crowd(planned, account, "MSFT", ENDED, is_open=False)
    bought = submitted(planned, account)
    quote(planned, "100")
    assert became(planned, bought).status == "filled"
    resting = {"side": "sell", "type": "limit", "limit_price": Decimal(1000), "strategy_id": STRATEGY_ID}
    order_id = submitted(planned, account, **resting).order_id
    analyze(planned)
    engine = make_engine(urls[service], name="plans", pool_size=1)
    try:
        ask(engine, question, account, order_id)
        crowd(planned, account, "IBM", WAITING)
        crowd(planned, planned.open(), "AAPL", WAITING)
        before = read(engine)
        ask(engine, question, account, order_id)
        assert read(engine) - before < FEW
    finally:
        engine.dispose()


def test_an_account_s_figures_of_the_day_do_not_read_its_history(planned: Exchange, urls: dict[str, str]) -> None:
    """Its ledger has many entries. The first cash of its generation and today's transfers are looked up."""
    account = planned.open("1000")
    engine = make_engine(urls["gateway"], name="plans", pool_size=1)

    def figures(connection: Connection, account_id: UUID, _order: UUID) -> None:
        row = account_queries.account(connection, account_id, planned.clock.now)
        assert row is not None
        assert (row["last_equity"], row["adjustments"]) == (1000, 0)

    try:
        ask(engine, figures, account, account)
        with planned.orders.engine.begin() as connection:
            given = {"account": account, "count": ENDED, "now": planned.clock.now}
            connection.exec_driver_sql(_CROWD_LEDGER, given)
        before = read(engine)
        ask(engine, figures, account, account)
        assert read(engine) - before < FEW
    finally:
        engine.dispose()


def ask(engine: Engine, question: Question, account: UUID, order_id: UUID) -> None:
    """Often enough for psycopg to prepare the statement, and for PostgreSQL to keep its plan."""
    for _ in range(12):
        with engine.begin() as connection:
            question(connection, account, order_id)


def now_of(connection: Connection) -> Any:
    return connection.exec_driver_sql("SELECT now()").scalar_one()


def test_submissions_that_were_answered_are_found_by_their_order(planned: Exchange, gateway: ServiceContext) -> None:
    """However many orders rest, those are read that somebody waits for."""
    account = planned.open("100000000")
    analyze(planned)
    crowd(planned, account, "IBM", WAITING)
    command = submitted(planned, account, type="limit", limit_price=Decimal(1))
    with gateway.unit_of_work() as uow:
        add_submission(uow, command)
    before = read(gateway.engine)
    with gateway.unit_of_work() as uow:
        assert resend_unanswered(uow, timedelta(0)) == 0
    assert read(gateway.engine) - before < FEW


def analyze(exchange: Exchange) -> None:
    with exchange.orders.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE orders.orders, orders.lots, orders.positions")


def crowd(exchange: Exchange, account: UUID, symbol: str, count: int, *, is_open: bool = True) -> None:
    """All at once, and nobody analyzes the table after it: of a large one, a tenth would have to change for that."""
    given = {"account": account, "symbol": symbol, "count": count, "is_open": is_open, "now": exchange.clock.now}
    with exchange.orders.engine.begin() as connection:
        connection.exec_driver_sql(_CROWD, given)


def read(engine: Engine) -> int:
    """Rows of the service's tables and entries of their indexes that were read so far."""
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    return int(value(engine, _READ))


_CROWD = """
INSERT INTO orders.orders (account_id, id, order_group, client_order_id, symbol, side, type, time_in_force, qty,
  limit_price,
                           trail_price, hwm, trigger_direction, trigger_price, status, submitted_at, accepted_at,
                           active_at,
                           updated_at, expires_at, auction_day, auction_at)
SELECT %(account)s, id, id, id::text, %(symbol)s, 'buy',
       CASE kind WHEN 0 THEN 'limit' WHEN 1 THEN 'trailing_stop' ELSE 'market' END,
       CASE kind WHEN 2 THEN 'cls' ELSE 'day' END, 1, CASE kind WHEN 0 THEN 1 END,
       CASE kind WHEN 1 THEN 900 END, CASE kind WHEN 1 THEN 1 END,
       CASE WHEN %(is_open)s THEN CASE kind WHEN 0 THEN 'below' WHEN 1 THEN 'above' ELSE 'auction' END END,
       CASE WHEN %(is_open)s THEN CASE kind WHEN 1 THEN 901 ELSE 1 END END,
       CASE WHEN %(is_open)s THEN 'accepted' ELSE 'canceled' END, %(now)s, %(now)s, %(now)s, %(now)s,
       timestamptz '2100-01-01Z', CASE kind WHEN 2 THEN date '2100-01-01' END,
       CASE kind WHEN 2 THEN timestamptz '2100-01-01Z' END
FROM (SELECT gen_random_uuid() AS id, n %% 3 AS kind FROM generate_series(1, %(count)s) AS n) made
"""
_HOLDERS = """
WITH opened AS (
  INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
  SELECT gen_random_uuid(), 'N' || n, 'crowd', 'USD', 1, %(now)s FROM generate_series(1, %(count)s) AS n RETURNING id
)
INSERT INTO orders.positions (account_id, symbol, qty, cost, updated_at) SELECT id, 'AAPL', 1, 1, %(now)s FROM opened
"""
_CROWD_LEDGER = """
INSERT INTO orders.ledger (account_id, at, kind, cash, reference, symbol, qty, cost)
SELECT %(account)s, %(now)s, 'fill', -1, gen_random_uuid(), 'AAPL', 1, 1 FROM generate_series(1, %(count)s)
"""
_BECAME = "SELECT status, hwm FROM orders.orders WHERE account_id = :account AND id = :id"
_READ = """
SELECT (SELECT COALESCE(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE schemaname = 'orders')
     + (SELECT COALESCE(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE schemaname = 'orders')
"""
