"""Our engine on the tape: what the actors of orders do with it, in memory."""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import OrderStatus, ReplaceOrder, SubmitOrder
from shared.contracts.prices import Price
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.replace import Replaced, admit_replacement
from shared.exchange.lots import held
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.book import Book, Execution
from shared.exchange.matching.ending import end
from shared.exchange.matching.execution import execute
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.order import Account, Key, Leg, Order
from shared.money import ZERO
from tests.differential.outcome import Filled, Outcome
from tests.differential.tape import APART, SYMBOLS, Cancel, Event, Quote, Replace, Submit

RULES = MarketRules()
CASH = Decimal(10) ** 12
#: Nobody lacks money, and no order takes more than its quote has.
SETTINGS = AccountSettings.model_validate(
    {"multiplier": 4, "shorting": True, "fills": {"fills_on": "quote", "participation": "1"}}
)
#: An ioc or fok order waits for the next quote of the tape, as it does in NautilusTrader.
PATIENCE = 2 * APART
ENDS = {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED}

Engine = Callable[[Iterable[Order], dict[str, Price], Book, datetime, MarketRules], Execution]


class OurExchange:
    """Every order of the tape, and the order that goes on for one that was replaced.

    Each has an account of its own, since the orders of one account may not trade with each other.
    """

    def __init__(self, engine: Engine = execute) -> None:
        self._execute = engine
        self._book = Book({}, {})
        self._open: dict[str, dict[Key, Order]] = {symbol: {} for symbol in SYMBOLS}
        self._prices: dict[str, Price] = {}
        self._outcomes: dict[int, Outcome] = {}
        #: Key of an order → its number on the tape, and the other way round: the order that goes on under it.
        self._numbers: dict[Key, int] = {}
        self._going_on: dict[int, Key] = {}

    def run(self, tape: Iterable[Event]) -> dict[int, Outcome]:
        for event in tape:
            match event:
                case Quote():
                    self._quote(event)
                case Submit():
                    self._submit(event)
                case Cancel():
                    self._cancel(event)
                case Replace():
                    self._replace(event)
        return self._outcomes

    def _account(self, owner: UUID) -> None:
        self._book.accounts[owner] = Account(owner, CASH, ZERO, sequence=1, settings=SETTINGS)
        self._book.lots.update({(owner, symbol): () for symbol in SYMBOLS})

    def _quote(self, quote: Quote) -> None:
        price = self._prices[quote.symbol] = _price(quote)
        self._expire(quote.at)
        book = Book(self._book.accounts, self._book.lots, liquidity=Liquidity())
        orders = list(self._open[quote.symbol].values())
        execution = self._execute(orders, {quote.symbol: price}, book, quote.at, RULES)
        for fill in execution.fills:
            self._outcome(fill.order).fills.append(Filled(fill.quote.sequence, fill.qty, fill.price))
        for order in execution.orders:
            self._keep(order)

    def _expire(self, at: datetime) -> None:
        """Expire the orders at the end of a session, as the job does."""
        over = [order for order in self._all_open() if order.expires_at is not None and order.expires_at <= at]
        self._end(over, OrderStatus.EXPIRED, at)

    def _submit(self, event: Submit) -> None:
        owner = UUID(int=event.id + 1)
        self._account(owner)
        command = _command(event, owner)
        account, exposure = self._book.accounts[owner], self._exposure(owner, event.symbol)
        admitted = admit(command, self._instrument(event.symbol, event.ends_at), account, exposure, event.at)
        assert isinstance(admitted, Admitted), f"{event}: {admitted}"
        self._book.accounts[owner] = admitted.account
        for order in admitted.orders:
            number = event.id + {None: 0, Leg.TAKE_PROFIT: 1, Leg.STOP_LOSS: 2}[order.leg]
            self._outcomes[number] = Outcome()
            self._numbers[order.key], self._going_on[number] = number, order.key
            self._keep(order)

    def _cancel(self, event: Cancel) -> None:
        order = self._open[event.symbol].get(self._going_on[event.id])
        if order is not None:
            self._end([order], OrderStatus.CANCELED, event.at)

    def _replace(self, event: Replace) -> None:
        old = self._open[event.symbol].get(self._going_on[event.id])
        if old is None:
            return
        new = UUID(int=(event.id << 64) + self._prices[event.symbol].sequence)
        command = ReplaceOrder(
            account_id=old.account_id, order_id=old.id, new_order_id=new, requested_at=event.at,
            qty=_decimal(event.qty), limit_price=event.limit, stop_price=event.stop,
        )  # fmt: skip
        instrument = self._instrument(event.symbol, old.expires_at)
        account, exposure = self._book.accounts[old.account_id], self._exposure(old.account_id, event.symbol)
        found = admit_replacement([old], command, instrument, account, exposure, event.at)
        if isinstance(found, Replaced):
            self._book.accounts[account.id] = found.account
            del self._open[event.symbol][old.key]
            self._numbers[found.order.key], self._going_on[event.id] = event.id, found.order.key
            self._keep(found.order)

    def _end(self, ending: list[Order], status: OrderStatus, at: datetime) -> None:
        if ending:
            order_groups = {(order.account_id, order.order_group) for order in ending if order.order_group}
            others = [order for order in self._all_open() if (order.account_id, order.order_group) in order_groups]
            known = {order.key: order for order in (*ending, *others)}
            for order in end(ending, status, known.values(), self._book.accounts, at).orders.values():
                self._keep(order)

    def _all_open(self) -> list[Order]:
        return [order for orders in self._open.values() for order in orders.values()]

    def _keep(self, order: Order) -> None:
        if order.is_open:
            self._open[order.symbol][order.key] = order
        else:
            self._open[order.symbol].pop(order.key, None)
        self._outcome(order).status = str(order.status) if order.status in ENDS else "open"

    def _outcome(self, order: Order) -> Outcome:
        return self._outcomes[self._numbers[order.key]]

    def _instrument(self, symbol: str, ends_at: datetime | None) -> Instrument:
        price = self._prices[symbol]
        return Instrument(True, price.ask, price.bid, price.last, session_end=ends_at, max_quote_age=PATIENCE)

    def _exposure(self, owner: UUID, symbol: str) -> Exposure:
        held_for_orders = (order.held_for_orders for order in self._open[symbol].values() if order.account_id == owner)
        return Exposure(held(self._book.lots[owner, symbol]), sum(held_for_orders, ZERO))


def _price(quote: Quote) -> Price:
    return Price(
        symbol=quote.symbol, bid=quote.bid, ask=quote.ask, bid_size=Decimal(quote.bid_size),
        ask_size=Decimal(quote.ask_size), last=quote.last, open=quote.last, high=quote.last, low=quote.last,
        close=quote.last, volume=ZERO, quoted_at=quote.at, sequence=quote.number, provider="tape",
    )  # fmt: skip


def _command(event: Submit, owner: UUID) -> SubmitOrder:
    exits = {"take_profit": {"limit_price": event.gain}, "stop_loss": {"stop_price": event.loss}}
    return SubmitOrder.model_validate(
        {
            "account_id": owner,
            "order_id": UUID(int=event.id),
            "client_order_id": str(event.id),
            "submitted_at": event.at,
            "symbol": event.symbol,
            "side": event.side,
            "type": event.type,
            "time_in_force": event.time_in_force,
            "qty": Decimal(event.qty),
            "limit_price": event.limit,
            "stop_price": event.stop,
            "trail_price": event.trail,
            **({"order_class": "bracket", **exits} if event.is_bracket else {}),
        }
    )


def _decimal(number: int | None) -> Decimal | None:
    return None if number is None else Decimal(number)
