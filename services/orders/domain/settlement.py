"""What a batch of prices does to the open orders: fills, cash, lots and round trips, decided in memory.

Orders are settled in the order in which they were accepted. The result holds only what changed, ready to be
written in a constant number of statements.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import NAMESPACE_OID, UUID, uuid5

from services.orders.domain.lots import Closed, Lot, cost_of, held, sell
from services.orders.domain.matching import MarketRules, execution_price, usable
from services.orders.domain.order import Account, Order
from services.orders.domain.risk import Refusal
from shared.contracts.orders import OrderStatus, Side
from shared.contracts.prices import Price
from shared.money import ZERO, cents, plain

Holding = tuple[UUID, str]


@dataclass(frozen=True)
class Fill:
    """One execution. ``amount`` is the cash that moved, rounded to the cent, always positive."""

    id: UUID
    order: Order
    number: int
    qty: Decimal
    price: Decimal
    amount: Decimal
    quote: Price
    at: datetime

    @property
    def cash(self) -> Decimal:
        """What the fill does to the account's cash: negative for a buy."""
        return -self.amount if self.order.side is Side.BUY else self.amount


@dataclass(frozen=True)
class RoundTrip:
    exit: Fill
    closed: Closed


@dataclass
class Book:
    """The accounts and lots that the orders at hand may touch; changed as orders settle."""

    accounts: dict[UUID, Account]
    lots: dict[Holding, tuple[Lot, ...]]


@dataclass
class Settlement:
    """What happened, in the order in which it did."""

    outcomes: list[tuple[Order, Fill | Refusal]] = field(default_factory=list)
    round_trips: list[RoundTrip] = field(default_factory=list)

    @property
    def fills(self) -> list[Fill]:
        return [outcome for _, outcome in self.outcomes if isinstance(outcome, Fill)]

    @property
    def orders(self) -> list[Order]:
        return [order for order, _ in self.outcomes]


def settle(
    orders: Iterable[Order], prices: Mapping[str, Price], book: Book, now: datetime, rules: MarketRules
) -> Settlement:
    """Fill what can fill, whole, and refuse what the account can no longer pay."""
    settlement = Settlement()
    for order in sorted(orders, key=lambda o: (o.accepted_at, o.id)):
        price = prices.get(order.symbol)
        if price is None or not usable(price, order, now, rules):
            continue
        at = execution_price(order, price, rules)
        if at is not None:
            _execute(order, price, at, book, now, settlement)
    return settlement


def _execute(order: Order, price: Price, at: Decimal, book: Book, now: datetime, settlement: Settlement) -> None:
    fill = _fill(order, price, at, now)
    refusal = _unaffordable(fill, book)
    if refusal is not None:
        _release(order, book)
        ended = replace(order, status=OrderStatus.REJECTED, reserved=ZERO)
        settlement.outcomes.append((ended, refusal))
        return
    settlement.round_trips += _move_shares(fill, book)
    _release(order, book)
    account = book.accounts[order.account_id]
    book.accounts[account.id] = replace(account, cash=account.cash + fill.cash)
    settlement.outcomes.append((_filled(order, fill), fill))


def _fill(order: Order, price: Price, at: Decimal, now: datetime) -> Fill:
    number = order.fills + 1
    return Fill(
        id=uuid5(NAMESPACE_OID, f"{order.id}/{number}"),
        order=order,
        number=number,
        qty=order.open_qty,
        price=at,
        amount=cents(order.open_qty * at),
        quote=price,
        at=max(now, price.quoted_at),  # clocks of two machines differ; a fill never precedes its quote
    )


def _unaffordable(fill: Fill, book: Book) -> Refusal | None:
    account = book.accounts[fill.order.account_id]
    spendable = account.buying_power + fill.order.reserved
    if fill.order.side is Side.BUY and fill.amount > spendable:
        return Refusal(
            "insufficient_buying_power",
            f"insufficient buying power when it would have filled "
            f"(needed: {plain(fill.amount)}, available: {plain(spendable)})",
        )
    lots = book.lots.get((account.id, fill.order.symbol), ())
    if fill.order.side is Side.SELL and fill.qty > held(lots):
        return Refusal("insufficient_shares", f"only {plain(held(lots))} shares are left to sell")
    return None


def _release(order: Order, book: Book) -> None:
    account = book.accounts[order.account_id]
    book.accounts[account.id] = replace(account, reserved=account.reserved - order.reserved)


def _move_shares(fill: Fill, book: Book) -> list[RoundTrip]:
    holding = (fill.order.account_id, fill.order.symbol)
    lots = book.lots.get(holding, ())
    if fill.order.side is Side.BUY:
        book.lots[holding] = (*lots, Lot(fill.id, fill.at, fill.qty, fill.amount))
        return []
    book.lots[holding], closed = sell(lots, fill.qty, fill.amount)
    return [RoundTrip(fill, part) for part in closed]


def _filled(order: Order, fill: Fill) -> Order:
    filled = order.filled_qty + fill.qty
    paid = (order.filled_avg_price or ZERO) * order.filled_qty + fill.price * fill.qty
    status = OrderStatus.FILLED if filled == order.qty else OrderStatus.PARTIALLY_FILLED
    return replace(
        order,
        filled_qty=filled,
        filled_avg_price=paid / filled,
        fills=fill.number,
        status=status,
        reserved=ZERO,
    )


def position_of(lots: tuple[Lot, ...]) -> tuple[Decimal, Decimal]:
    """Quantity and cost of what is held."""
    return held(lots), cost_of(lots)
