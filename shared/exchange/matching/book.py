"""The books that a settlement works on, and what it leaves behind: fills, round trips, entries and changed orders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from shared.contracts.prices import Price
from shared.exchange.acceptance.risk_checks import Refusal
from shared.exchange.fx import SAME, Pair, Rate
from shared.exchange.ledger import Entry
from shared.exchange.lots import Closed, Lot, cost_of, held
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.matching.matching import Stage
from shared.exchange.order import Account, Key, Order

Holding = tuple[UUID, str]


class Fill(NamedTuple):
    """One execution. ``amount`` is its price x quantity x rate, to the cent, ``cash`` what it did to the account's.

    Price and slippage are in the order's currency, all else in the account's. ``slippage`` is how much worse than the
    market the price is; ``account_cash`` and ``position_qty`` are as after it.
    """

    id: UUID
    order: Order
    number: int
    qty: Decimal
    price: Decimal
    amount: Decimal
    fee: Decimal
    slippage: Decimal
    stage: Stage
    quote: Price
    at: datetime
    account_cash: Decimal
    position_qty: Decimal
    conversion: Rate = SAME

    @property
    def rate(self) -> Decimal:
        """What a unit of the order's currency cost or brought."""
        return self.conversion.of(buys=self.order.buys)

    @property
    def cash(self) -> Decimal:
        return (-self.amount if self.order.buys else self.amount) - self.fee


@dataclass(frozen=True)
class Canceled:
    """The order ended without filling, or before it had filled whole, and why."""

    reason: str


#: What became of an order on a price.
Outcome = Fill | Refusal | Canceled


class RoundTrip(NamedTuple):
    exit: Fill
    closed: Closed


@dataclass
class Book:
    """The accounts, lots and order_groups of orders that the orders at hand may touch; changed as orders settle.

    ``rates`` are those at which orders in other currencies may fill now.
    """

    accounts: dict[UUID, Account]
    lots: dict[Holding, tuple[Lot, ...]]
    orders: dict[Key, Order] = field(default_factory=dict)
    order_groups: dict[Key, list[Key]] = field(default_factory=dict)
    liquidity: Liquidity = field(default_factory=Liquidity)
    rates: Mapping[Pair, Rate] = field(default_factory=dict)

    def order_group(self, order: Order) -> list[Order]:
        """All orders that end together with this one, it included."""
        if order.order_group is None:
            return [order]
        return [self.orders[key] for key in self.order_groups[order.account_id, order.order_group]]

    def held(self, order: Order) -> Decimal:
        return held(self.lots.get((order.account_id, order.symbol), ()))

    def rate(self, order: Order) -> Rate | None:
        """What the order's currency is worth in its account's; None where nobody knows, so that it has to wait."""
        own = self.accounts[order.account_id].currency
        return SAME if order.currency == own else self.rates.get((order.currency, own))


@dataclass
class Execution:
    """What happened, in the order in which it did; ``orders`` are the latest of all that changed."""

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
    """Quantity and cost of what is held."""
    return held(lots), cost_of(lots)
