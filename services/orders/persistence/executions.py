"""Writing executions and the books: one statement for each table, however many rows, in one round trip."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID, uuid5

from services.orders.persistence.accounts import saving_accounts
from services.orders.persistence.consumed import saving_consumed
from services.orders.persistence.holdings import saving_holdings
from services.orders.persistence.ledger import saving_entries
from services.orders.persistence.orders import End, rejected_for, saving_orders
from services.orders.persistence.trades import completing
from shared.contracts.orders import Side
from shared.exchange.ledger import Entry
from shared.exchange.lots import Closed
from shared.exchange.matching.book import Book, Canceled, Execution, Holding, RoundTrip
from shared.exchange.matching.fills import Fill
from shared.exchange.refusal import Refusal
from shared.money import ZERO
from shared.storage.driver import Call
from shared.storage.tables import Table


class FillRow(NamedTuple):
    """A fill, the price that it was filled on, and the rate at which it was converted.

    ``since`` is when the price's bar started. ``realized_pl`` is the profit of the lots that it closed, None where it
    closed none.
    """

    account_id: UUID
    order_id: UUID
    number: int
    id: UUID
    generation: int
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    amount: Decimal
    fee: Decimal
    slippage: Decimal
    stage: str
    filled_at: datetime
    price_sequence: int
    quoted_at: datetime
    since: datetime | None
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    currency: str
    rate: Decimal
    rate_quoted_at: datetime | None
    rate_bid: Decimal | None
    rate_ask: Decimal | None
    realized_pl: Decimal | None


class RoundTripRow(NamedTuple):
    """A lot, or a part of it, from the fill that opened it to the fill that closed it. ``side`` is long or short.

    If a split paid it out in cash, ``exit_fill_id`` is the corporate action.
    """

    account_id: UUID
    id: UUID
    generation: int
    symbol: str
    side: str
    qty: Decimal
    entry_fill_id: UUID
    exit_fill_id: UUID
    opened_at: datetime
    closed_at: datetime
    cost: Decimal
    proceeds: Decimal
    realized_pl: Decimal
    strategy_id: UUID | None
    entry_strategy_id: UUID | None


FILLS = Table("orders.fills", FillRow, key=("account_id", "order_id", "number"))
ROUND_TRIPS = Table("orders.round_trips", RoundTripRow, key=("account_id", "id"))
_adding_fills = FILLS.insert()
_adding_round_trips = ROUND_TRIPS.insert()


def saving(execution: Execution, book: Book, now: datetime) -> list[Call]:
    """The statements that write everything that the execution changed, one for each table."""
    ends = {}
    for order, outcome in execution.outcomes:
        if isinstance(outcome, Canceled):
            ends[order.key] = End(cancel_reason=outcome.reason)
        elif isinstance(outcome, Refusal):
            ends[order.key] = rejected_for(outcome)
    accounts = [book.accounts[id_] for id_ in {order.account_id for order in execution.orders}]
    calls = [saving_orders(execution.orders, ends, now), saving_accounts(accounts)]
    fills = execution.fills
    if fills:
        realized: dict[UUID, Decimal] = {}
        for exit_fill, closed in execution.round_trips:
            realized[exit_fill.id] = realized.get(exit_fill.id, ZERO) + closed.realized
        calls += [
            _adding_fills([_fill_row(fill, book, realized.get(fill.id)) for fill in fills]),
            *saving_holdings(holdings(fills), book.lots, now, book.averages),
            saving_entries(execution.entries),
        ]
    if execution.round_trips:
        calls.append(saving_round_trips(execution.round_trips, book))
    if book.liquidity.touched:
        calls.append(saving_consumed(book.liquidity))
    return calls + completing(execution.orders)


def saving_adjusted(book: Book, entries: Sequence[Entry], now: datetime) -> list[Call]:
    """The statements that write all lots, positions and accounts of the book, and the entries about them."""
    return [
        *saving_holdings(list(book.lots), book.lots, now),
        saving_entries(entries),
        saving_accounts(list(book.accounts.values())),
    ]


def holdings(fills: Iterable[Fill]) -> list[Holding]:
    """The holdings that the fills changed, each once, in the order of their first fills."""
    return list(dict.fromkeys((fill.order.account_id, fill.order.symbol) for fill in fills))


def _fill_row(fill: Fill, book: Book, realized_pl: Decimal | None) -> FillRow:
    order, quote, fx_rate = fill.order, fill.quote, fill.fx_rate
    return FillRow(
        account_id=order.account_id,
        order_id=order.id,
        number=fill.number,
        id=fill.id,
        generation=book.accounts[order.account_id].generation,
        symbol=order.symbol,
        side=order.side,
        qty=fill.qty,
        price=fill.price,
        amount=fill.amount,
        fee=fill.fee,
        slippage=fill.slippage,
        stage=fill.stage.name.lower(),
        filled_at=fill.at,
        price_sequence=quote.sequence,
        quoted_at=quote.quoted_at,
        since=quote.bar_start or quote.since,
        bid=quote.bid,
        ask=quote.ask,
        last=quote.last,
        open=quote.open,
        high=quote.high,
        low=quote.low,
        currency=order.currency,
        rate=fill.rate,
        rate_quoted_at=fx_rate.quoted_at,
        rate_bid=fx_rate.bid,
        rate_ask=fx_rate.ask,
        realized_pl=realized_pl,
    )


def saving_round_trips(trips: Iterable[RoundTrip], book: Book) -> Call:
    """The statement that adds these round trips."""
    return _adding_round_trips(
        [_round_trip_row(trip.exit.order.account_id, _Exit.of_fill(trip.exit), trip.closed, book) for trip in trips]
    )


def saving_paid_out(
    action: UUID, symbol: str, paid_out: Iterable[tuple[UUID, Closed]], book: Book, now: datetime
) -> Call:
    """The statement that adds round trips of the parts of lots, by account, that a corporate action paid in cash."""
    rows = []
    for account_id, closed in paid_out:
        exit_ = _Exit(action, symbol, now, closed.lot.strategy_id)
        rows.append(_round_trip_row(account_id, exit_, closed, book))
    return _adding_round_trips(rows)


class _Exit(NamedTuple):
    """The fill or corporate action that ended a round trip."""

    id: UUID
    symbol: str
    at: datetime
    strategy_id: UUID | None

    @classmethod
    def of_fill(cls, fill: Fill) -> "_Exit":
        return cls(fill.id, fill.order.symbol, fill.at, fill.order.strategy_id)


def _round_trip_row(account_id: UUID, exit_: _Exit, closed: Closed, book: Book) -> RoundTripRow:
    lot = closed.lot
    return RoundTripRow(
        account_id=account_id,
        id=uuid5(exit_.id, str(lot.fill_id)),
        generation=book.accounts[account_id].generation,
        symbol=exit_.symbol,
        side="long" if lot.qty > 0 else "short",
        qty=closed.qty,
        entry_fill_id=lot.fill_id,
        exit_fill_id=exit_.id,
        opened_at=lot.opened_at,
        closed_at=exit_.at,
        cost=closed.cost,
        proceeds=closed.proceeds,
        realized_pl=closed.realized,
        strategy_id=exit_.strategy_id,
        entry_strategy_id=lot.strategy_id,
    )
