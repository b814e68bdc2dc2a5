"""The books that an execution works on, and its result: fills, round trips, ledger entries and changed orders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.fx import SAME, Pair, Rate
from shared.exchange.ledger import Entry
from shared.exchange.lots import Average, Closed, Lot, cost_of, held, trade
from shared.exchange.matching.fills import Fill
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.order import Account, Key, Order
from shared.exchange.refusal import Refusal
from shared.exchange.values import changed
from shared.money import ZERO, cents

Holding = tuple[UUID, str]


@dataclass(frozen=True)
class Canceled:
    """The order ended before it was filled completely. A partly filled order may end by a ``RejectReason``."""

    reason: CancelReason | RejectReason


#: The effect of a price on an order.
Outcome = Fill | Refusal | Canceled


class RoundTrip(NamedTuple):
    """A part of a position that was opened and closed. ``exit`` is the fill that closed it."""

    exit: Fill
    closed: Closed


@dataclass
class Book:
    """The accounts, lots and order groups that the orders at hand may change. They change with each fill.

    ``rates`` are those at which orders in other currencies may fill now. ``averages`` are the effects of the fills on
    the average entry prices.
    """

    accounts: dict[UUID, Account]
    lots: dict[Holding, tuple[Lot, ...]]
    orders: dict[Key, Order] = field(default_factory=dict)
    order_groups: dict[Key, list[Key]] = field(default_factory=dict)
    liquidity: Liquidity = field(default_factory=Liquidity)
    rates: Mapping[Pair, Rate] = field(default_factory=dict)
    averages: dict[Holding, Average] = field(default_factory=dict)

    def order_group(self, order: Order) -> list[Order]:
        """All orders that end together with this one, which is among them."""
        if order.order_group is None:
            return [order]
        return [self.orders[key] for key in self.order_groups[order.account_id, order.order_group]]

    def held(self, order: Order) -> Decimal:
        """The account's shares of the order's symbol, negative where they are short."""
        return held(self.lots.get((order.account_id, order.symbol), ()))

    def rate(self, order: Order) -> Rate | None:
        """The rate of the order's currency in its account's. Without one the order waits."""
        own = self.accounts[order.account_id].currency
        return SAME if order.currency == own else self.rates.get((order.currency, own))

    def trade(self, fill: Fill) -> tuple[tuple[Closed, ...], Decimal]:
        """Trade the fill's shares in the lots. Return the closed parts and the change of the position's cost."""
        order = fill.order
        holding = (order.account_id, order.symbol)
        before = self.lots.get(holding, ())
        after, closed = trade(
            before,
            order.side,
            fill.qty,
            fill.amount,
            fill_id=fill.id,
            at=fill.quote.quoted_at,  # the market's time, by which splits and dividends find the lots
            strategy_id=order.strategy_id,
        )
        self.lots[holding] = after
        self.averages[holding] = self.averages.get(holding, Average()).traded(before, after)
        account = self.accounts[order.account_id]
        if account.is_marked:
            was, is_, mark = held(before), held(after), fill.quote.last * fill.fx_rate.last
            self.accounts[account.id] = changed(
                account,
                long_value=account.long_value + cents((max(is_, ZERO) - max(was, ZERO)) * mark),
                short_value=account.short_value + cents((min(is_, ZERO) - min(was, ZERO)) * mark),
            )
        return closed, cost_of(after) - cost_of(before)


@dataclass
class Execution:
    """The events in the sequence in which they happened. ``changed`` has the newest state of each changed order."""

    outcomes: list[tuple[Order, Outcome]] = field(default_factory=list)
    round_trips: list[RoundTrip] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    changed: dict[Key, Order] = field(default_factory=dict)

    @property
    def fills(self) -> list[Fill]:
        return [outcome for _, outcome in self.outcomes if isinstance(outcome, Fill)]

    @property
    def orders(self) -> list[Order]:
        return list(self.changed.values())


def position_of(lots: tuple[Lot, ...]) -> tuple[Decimal, Decimal]:
    """Quantity and cost of the position."""
    return held(lots), cost_of(lots)
