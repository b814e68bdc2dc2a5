"""The state of the service orders in memory, and the effect of commands and prices on it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from shared.contracts.orders import OrderStatus, ReplaceOrder
from shared.contracts.prices import Price
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.replace import Replaced, admit_replacement
from shared.exchange.fx import Rate
from shared.exchange.ledger import Entry, transfer
from shared.exchange.lots import held
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.book import Book, Execution
from shared.exchange.matching.ending import end
from shared.exchange.matching.execution import execute
from shared.exchange.matching.fills import Fill
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.order import Account, Key, Order
from shared.money import ZERO, cents
from tests.unit.price_index import concerned, followed
from tests.unit.random_market import (
    ABROAD,
    KINDS,
    SYMBOLS,
    Cancel,
    Close,
    Quotes,
    Rated,
    Replace,
    Step,
    Submit,
    Sweep,
    Transfer,
)
from tests.unit.trading_examples import ACCEPTED, quote, submission

RULES = MarketRules()
SESSION = timedelta(minutes=1)


@dataclass
class InMemoryExchange:
    """Execute, if ``indexed``, only the orders that the index finds, as the service does, else all open orders."""

    start: dict[UUID, Decimal]
    indexed: bool = True
    book: Book = field(init=False)
    now: datetime = ACCEPTED
    closes_at: datetime = ACCEPTED + SESSION
    orders: dict[Key, Order] = field(default_factory=dict)
    prices: dict[str, Price] = field(default_factory=dict)
    #: The rate of a euro in the accounts' currency that may be used now, and the newest one.
    euro: Rate | None = None
    last_euro: Rate | None = None
    executions: list[Execution] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    #: The quantity of each order as it was submitted.
    asked: dict[Key, Decimal] = field(default_factory=dict)
    numbers: int = 0

    def __post_init__(self) -> None:
        accounts = {owner: Account(owner, ZERO, ZERO, sequence=1, settings=KINDS[owner]) for owner in self.start}
        self.book = Book(accounts, {(owner, symbol): () for owner in self.start for symbol in SYMBOLS})
        for owner, cash in self.start.items():
            self._transfer(Transfer(owner, cash))

    def take(self, step: Step) -> None:
        self.now += timedelta(seconds=1)
        self._mark()
        match step:
            case Submit():
                self._submit(step)
            case Quotes():
                self._quote(step)
            case Rated(sides):
                self.euro = None if sides is None else Rate(*sides, quoted_at=self.now)
                self.last_euro = self.euro or self.last_euro
            case Sweep():
                self._execute(self.prices)
            case Cancel(nth):
                if self.open_orders:
                    self._end([self._nth(nth)], OrderStatus.CANCELED)
            case Replace():
                self._replace(step)
            case Close():
                self._close()
            case Transfer():
                self._transfer(step)

    @property
    def open_orders(self) -> list[Order]:
        return [order for order in self.orders.values() if order.is_open]

    @property
    def fills(self) -> list[Fill]:
        return [fill for execution in self.executions for fill in execution.fills]

    def _nth(self, nth: int) -> Order:
        return self.open_orders[nth % len(self.open_orders)]

    def _mark(self) -> None:
        """Mark the accounts at the last prices, as the view does."""
        for owner, account in self.book.accounts.items():
            if account.is_marked:
                values = [
                    cents(held(self.book.lots[owner, symbol]) * price.last * self._last(symbol))
                    for symbol, price in self.prices.items()
                ]
                long, short = (sum((pick(value, ZERO) for value in values), ZERO) for pick in (max, min))
                self.book.accounts[owner] = replace(account, long_value=long, short_value=short)

    def _last(self, symbol: str) -> Decimal:
        """The rate for the value of a position. Without any rate there is no position."""
        return self.last_euro.last if symbol in ABROAD and self.last_euro is not None else Decimal(1)

    def _transfer(self, step: Transfer) -> None:
        account = self.book.accounts[step.owner]
        self.book.accounts[step.owner] = replace(account, cash=account.cash + step.amount)
        about = uuid5(NAMESPACE_OID, f"{step.owner}/{self.now}")
        self.entries.append(transfer(step.owner, 1, self.now, about, step.amount))

    def _submit(self, step: Submit) -> None:
        self.numbers += 1
        number = (self.numbers + 1) // 2  # each id is used twice, mostly by two accounts
        command = submission(step.terms, number, account_id=step.owner)
        if (step.owner, command.order_id) in self.orders:
            return
        account, symbol = self.book.accounts[step.owner], command.symbol
        found = admit(command, self._instrument(symbol), account, self._exposure(step.owner, symbol), self.now)
        if isinstance(found, Admitted):
            self.book.accounts[step.owner] = found.account
            self.orders.update({order.key: order for order in found.orders})
            self.asked[step.owner, command.order_id] = command.qty or ZERO

    def _instrument(self, symbol: str) -> Instrument:
        price = self.prices.get(symbol)
        abroad: dict[str, Any] = {"currency": ABROAD[symbol], "rate": self.last_euro} if symbol in ABROAD else {}
        if price is None:
            return Instrument(tradable=True, session_end=self.closes_at, **abroad)
        return Instrument(True, price.ask, price.bid, price.last, session_end=self.closes_at, **abroad)

    def _exposure(self, owner: UUID, symbol: str) -> Exposure:
        exposure = Exposure(held(self.book.lots[owner, symbol]))
        for order in self.open_orders:
            if (order.account_id, order.symbol) == (owner, symbol):
                exposure = exposure.with_open(order, self._instrument(symbol))
        return exposure

    def _quote(self, step: Quotes) -> None:
        fresh = {}
        for text, fields in step.each:
            known = {name: value for name, value in fields.items() if name not in {"began", "started"}}
            since, start = (
                None if fields[name] is None else self.now - timedelta(seconds=1) - fields[name]
                for name in ("began", "started")
            )
            price = quote(text, at=self.now, sequence=len(self.executions) + 1, since=since, bar_start=start, **known)
            fresh[price.symbol] = price
        self.prices.update(fresh)
        consumed = self.book.liquidity.consumed
        self.book.liquidity = Liquidity({pool: qty for pool, qty in consumed.items() if pool[0] not in fresh})
        self._mark()
        self._execute(fresh)

    def _execute(self, prices: dict[str, Price]) -> None:
        book = Book(self.book.accounts, self.book.lots, liquidity=self.book.liquidity)
        book.rates = {} if self.euro is None else {("EUR", "USD"): self.euro}
        execution = execute(self._triggered(prices), prices, book, self.now, RULES)
        self.orders.update({changed.key: changed for changed in execution.orders})
        self.entries += execution.entries
        self.executions.append(execution)
        self._follow(prices)

    def _triggered(self, prices: dict[str, Price]) -> list[Order]:
        """All open orders of the groups that have an order which a price concerns."""
        if not self.indexed:
            return self.open_orders
        triggered = {
            (order.account_id, order.order_group or order.id)
            for order in self.open_orders
            if order.is_working and order.symbol in prices and self._concerns(order, prices[order.symbol])
        }
        return [order for order in self.open_orders if (order.account_id, order.order_group or order.id) in triggered]

    def _concerns(self, order: Order, price: Price) -> bool:
        return order.active_at < price.quoted_at and concerned(order, price, on_bar=self._on_bar(order))

    def _on_bar(self, order: Order) -> bool:
        return self.book.accounts[order.account_id].settings.fills.fills_on == "bar"

    def _follow(self, prices: dict[str, Price]) -> None:
        for order in self.open_orders:
            price = prices.get(order.symbol)
            if order.is_working and price is not None and order.active_at < price.quoted_at:
                self.orders[order.key] = followed(order, price, on_bar=self._on_bar(order))

    def _order_group(self, order: Order) -> list[Order]:
        if order.order_group is None:
            return [order]
        order_group = (order.account_id, order.order_group)
        return [other for other in self.open_orders if (other.account_id, other.order_group) == order_group]

    def _end(self, ending: list[Order], status: OrderStatus) -> None:
        order_groups: Iterable[Order] = {
            other.key: other for order in ending for other in self._order_group(order)
        }.values()
        result = end(ending, status, order_groups, self.book.accounts, self.now)
        self.orders.update(result.orders)

    def _close(self) -> None:
        """End the session, and begin the next one."""
        self.now = self.closes_at
        self.closes_at = self.now + SESSION
        over = [order for order in self.open_orders if order.expires_at is not None and order.expires_at <= self.now]
        self._end(over, OrderStatus.EXPIRED)

    def _replace(self, step: Replace) -> None:
        if not self.open_orders:
            return
        old = self._nth(step.nth)
        command = ReplaceOrder(
            account_id=old.account_id,
            order_id=old.id,
            new_order_id=uuid5(old.id, "new"),
            requested_at=self.now,
            **step.changes,
        )
        account, exposure = self.book.accounts[old.account_id], self._exposure(old.account_id, old.symbol)
        found = admit_replacement(
            self._order_group(old), command, self._instrument(old.symbol), account, exposure, self.now
        )
        if isinstance(found, Replaced):
            self.book.accounts[account.id] = found.account
            self.orders[old.key] = found.ended
            self.orders[found.order.key] = found.order


def after(start: dict[UUID, Decimal], market: list[Step], *, indexed: bool = True) -> InMemoryExchange:
    exchange = InMemoryExchange(start, indexed=indexed)
    for step in market:
        exchange.take(step)
    return exchange
