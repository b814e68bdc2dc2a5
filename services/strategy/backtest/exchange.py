"""The exchange of a backtest: one account in memory, with the same matching, costs and margin as live trading.

An order fills inside a bar or at its open by the rules of docs/exchange.md, on a price without quote, or on recorded
prices with quotes, as in live trading.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import repeat
from types import MappingProxyType
from uuid import UUID, uuid5

from services.strategy.backtest.copies import copied
from services.strategy.backtest.record import Record
from services.strategy.strategies.view import Bar, Position
from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import OrderStatus, SubmitOrder, TimeInForce
from shared.contracts.prices import Price
from shared.exchange.acceptance.entry import admit
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.fx import SAME, Pair, Rate
from shared.exchange.ledger import Entry, Kind, transfer
from shared.exchange.lots import Lot, cost_of, held
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.book import Book, RoundTrip
from shared.exchange.matching.ending import end
from shared.exchange.matching.execution import execute
from shared.exchange.matching.fills import Fill
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.order import Account, Order
from shared.exchange.refusal import Refusal
from shared.exchange.trading_days import Hours
from shared.exchange.values import changed
from shared.money import CENT, ZERO, cents

NO_LOTS: tuple[Lot, ...] = ()
PROVIDER = "backtest"
_ID = 2**128 - 1


@dataclass
class BacktestExchange:
    """One account, its orders and what became of them. ``seed`` makes the ids of orders, so they are repeatable."""

    seed: UUID
    cash: Decimal
    settings: AccountSettings
    rules: MarketRules
    currency: str = "USD"
    began_at: datetime | None = None
    fills: list[Fill] = field(default_factory=list)
    round_trips: list[RoundTrip] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    orders: dict[UUID, Order] = field(default_factory=dict)
    refusals: list[tuple[SubmitOrder, Refusal]] = field(default_factory=list)
    #: Symbol → its open orders.
    open_orders: dict[str, dict[UUID, Order]] = field(default_factory=dict)
    lots: dict[str, tuple[Lot, ...]] = field(default_factory=dict)
    #: Symbol → the shares held, without those of which there are none.
    held: dict[str, Decimal] = field(default_factory=dict)
    #: Symbol → the close of its newest bar.
    last: dict[str, Decimal] = field(default_factory=dict)
    #: Symbol → its currency, where that is not the account's.
    currencies: Mapping[str, str] = field(default_factory=dict)
    rates: dict[Pair, Rate] = field(default_factory=dict)
    #: Symbol → the end of its last round trip.
    closed_at: dict[str, datetime] = field(default_factory=dict)
    record: Record = field(default_factory=Record)
    #: A margin call was not met in time.
    overdue_call: bool = False
    _account: Account = field(init=False)

    def __post_init__(self) -> None:
        self._number = 0
        self._instruments: dict[str, Instrument] = {}
        self._has_limits = any(limits.on_equity or limits.orders_per_minute for limits in self.settings.all_limits)
        self._account = Account(self.seed, self.cash, ZERO, sequence=1, settings=self.settings, currency=self.currency)
        if self.began_at is not None:
            self.entries.append(transfer(self.seed, 1, self.began_at, self.seed, self.cash))

    @property
    def account(self) -> Account:
        """The account, marked at the last prices."""
        long_value, short_value = self._values()
        return changed(self._account, long_value=long_value, short_value=short_value)

    @property
    def equity(self) -> Decimal:
        """The account's cash and the value of its positions at the last prices."""
        equity = self._account.cash
        for symbol, qty in self.held.items():
            equity += self._value(symbol, qty)
        return equity

    def value(self, symbol: str, ends: Sequence[datetime], bars: Sequence[Bar]) -> None:
        """Record the equity at the ends of these bars of the only symbol, while nothing is traded."""
        cash, qty, rate = self._account.cash, self.held.get(symbol), self.rate(symbol)
        if not qty or rate is None:
            self.record.equity.extend(zip(ends, repeat(cash)))
            return
        worth = qty if rate is SAME else qty * rate.last
        self.record.equity.extend(
            [
                (end, cash + (worth * bar.close).quantize(CENT, ROUND_HALF_UP))
                for end, bar in zip(ends, bars, strict=True)
            ]
        )

    def rate(self, symbol: str) -> Rate | None:
        """The rate of the symbol's currency in the account's."""
        currency = self.currencies.get(symbol, self.currency)
        return SAME if currency == self.currency else self.rates.get((currency, self.currency))

    def _value(self, symbol: str, qty: Decimal) -> Decimal:
        if not self.currencies:
            return cents(qty * self.last[symbol])
        rate = self.rate(symbol)
        return ZERO if rate is None else cents(qty * self.last[symbol] * rate.last)

    def _values(self) -> tuple[Decimal, Decimal]:
        long_value = short_value = ZERO
        for symbol, qty in self.held.items():
            value = self._value(symbol, qty)
            if qty > 0:
                long_value += value
            else:
                short_value += value
        return long_value, short_value

    def fill(
        self,
        bars: Mapping[str, tuple[Bar, datetime | None]],
        now: datetime,
        hours: Mapping[str, Hours] = MappingProxyType({}),
    ) -> list[Fill]:
        """Fill open orders on the bars that ended ``now``: symbol → the bar, and the end of the bar before it.

        ``hours`` has the sessions of the bars of markets that close at times.
        """
        return self._execute({symbol: _price(symbol, *bar, now) for symbol, bar in bars.items()}, now, hours)

    def take(self, prices: Mapping[str, Price], now: datetime) -> list[Fill]:
        """Mark the account at these prices, which may have quotes, and fill open orders on them."""
        for symbol, price in prices.items():
            self.last[symbol] = price.last
        wanted = {symbol: price for symbol, price in prices.items() if symbol in self.open_orders}
        return self._execute(wanted, now, {}) if wanted else []

    def _execute(self, prices: Mapping[str, Price], now: datetime, hours: Mapping[str, Hours]) -> list[Fill]:
        orders = [order for symbol in prices for order in self.open_orders[symbol].values()]
        account = self.account if self._account.is_marked else self._account
        lots = {(self.seed, symbol): self.lots.get(symbol, NO_LOTS) for symbol in prices}
        book = Book({self.seed: account}, lots, liquidity=Liquidity(), rates=self.rates)
        execution = execute(orders, prices, book, now, self.rules, hours=hours)
        self._account = book.accounts[self.seed]
        for (_, symbol), each in book.lots.items():
            left = tuple(lot for lot in each if lot.qty)
            if left:
                self.lots[symbol], self.held[symbol] = left, held(left)
            else:
                self.lots.pop(symbol, None)
                self.held.pop(symbol, None)
        for order in execution.orders:
            self.keep(order)
        fills = execution.fills
        self.fills += fills
        self.round_trips += execution.round_trips
        for trip in execution.round_trips:
            self.closed_at[trip.exit.order.symbol] = trip.exit.at
        self.entries += execution.entries
        return fills

    def submit(self, command: SubmitOrder, now: datetime, *, session_end: datetime | None = None) -> Refusal | None:
        """Accept the order or refuse it."""
        last, rate = self.last.get(command.symbol), self.rate(command.symbol)
        instrument = changed(self._instrument(command.symbol), last=last, rate=rate, session_end=session_end)
        account = self.account if self._account.is_marked else self._account
        exposure = self._exposure(command.symbol, instrument)
        if self._has_limits:
            exposure = self.record.within(exposure, self.orders, now)
        found = admit(command, instrument, account, exposure, now)
        if isinstance(found, Refusal):
            self.refusals.append((command, found))
            return found
        self._account = changed(found.account, long_value=ZERO, short_value=ZERO)
        for order in found.orders:
            self.keep(order)
        if self._has_limits:
            self.record.accepted.extend((now, order.id) for order in found.orders)
        return None

    def _instrument(self, symbol: str) -> Instrument:
        """The symbol's instrument without its present price."""
        if symbol not in self._instruments:
            currency = self.currencies.get(symbol, self.currency)
            self._instruments[symbol] = Instrument(True, currency=currency, max_quote_age=self.rules.max_quote_age)
        return self._instruments[symbol]

    def end(self, ending: Sequence[Order], status: OrderStatus, now: datetime) -> None:
        """Cancel or expire the orders."""
        accounts = {self.seed: self._account}
        groups = {order.order_group for order in ending if order.order_group}
        orders = [order for each in self.open_orders.values() for order in each.values()]
        known = {order.key: order for order in (*ending, *(o for o in orders if o.order_group in groups))}
        for order in end(ending, status, known.values(), accounts, now).orders.values():
            self.keep(order)
        self._account = accounts[self.seed]

    def overdue(self, now: datetime) -> list[Order]:
        """The open orders whose time is over."""
        return [
            order
            for orders in self.open_orders.values()
            for order in orders.values()
            if order.expires_at is not None and order.expires_at <= now
        ]

    def exits(self, symbol: str) -> list[Order]:
        """The symbol's open exits of brackets, which hold shares."""
        return [order for order in self.open_orders.get(symbol, {}).values() if order.leg is not None]

    def pay_dividend(self, symbol: str, cash: Decimal, now: datetime) -> None:
        """Pay a dividend, which is negative where the shares are sold short."""
        self._account = changed(self._account, cash=self._account.cash + cash)
        reference = uuid5(self.seed, f"dividend/{symbol}/{len(self.entries)}")
        about = (self.seed, self._account.generation, Kind.DIVIDEND, now, reference)
        self.entries.append(Entry(*about, cash=cash, symbol=symbol, dividend=cash))

    def charge_interest(self, days: int, now: datetime) -> None:
        """Charge the interest of so many days on cash owed and shares borrowed."""
        charge = days * self.account.daily_interest
        if charge:
            self._account = changed(self._account, cash=self._account.cash - charge)
            reference = uuid5(self.seed, f"interest/{now.isoformat()}")
            about = (self.seed, self._account.generation, Kind.INTEREST, now, reference)
            self.entries.append(Entry(*about, cash=-charge, interest=charge))

    def day_orders(self, symbol: str) -> list[Order]:
        """The symbol's open orders that end with the day."""
        orders = self.open_orders.get(symbol)
        return [each for each in orders.values() if each.time_in_force is TimeInForce.DAY] if orders else []

    def position(self, symbol: str) -> Position:
        """The position in the symbol, with what its open orders would buy and sell."""
        lots = self.lots.get(symbol, NO_LOTS)
        qty = held(lots)
        buying, selling = ZERO, ZERO
        for order in self.open_orders.get(symbol, {}).values():
            if order.is_working and order.leg is None:
                left = order.open_qty(self.last[symbol])  # no notional orders, so the price counts for nothing
                buying, selling = (buying + left, selling) if order.buys else (buying, selling + left)
        if not qty:
            return Position(buying=buying, selling=selling)
        rate = self.rate(symbol)
        price: Decimal | None = cost_of(lots) / qty
        if price is not None and rate is not SAME:
            price = price / rate.last if rate is not None else None
        return Position(qty, price, min(lot.opened_at for lot in lots), buying, selling)

    def order_id(self) -> UUID:
        """The id of the next order: the seed's number plus the number of the order."""
        self._number += 1
        return UUID(int=(self.seed.int + (self._number << 64)) & _ID)

    def _exposure(self, symbol: str, instrument: Instrument) -> Exposure:
        exposure = Exposure(held(self.lots.get(symbol, NO_LOTS)), overdue=self.overdue_call)
        for order in self.open_orders.get(symbol, {}).values():
            exposure = exposure.with_open(order, instrument)
        return exposure

    def keep(self, order: Order) -> None:
        """Keep the order's newest state."""
        self.orders[order.id] = order
        if order.is_open:
            self.open_orders.setdefault(order.symbol, {})[order.id] = order
        else:
            left = self.open_orders.get(order.symbol, {})
            left.pop(order.id, None)
            if not left:
                self.open_orders.pop(order.symbol, None)


#: A price without a quote. Those of bars are copies of it.
_BARE = Price(
    symbol="BAR", last=Decimal(1), open=Decimal(1), high=Decimal(1), low=Decimal(1), close=Decimal(1), volume=ZERO,
    quoted_at=datetime(1970, 1, 1, tzinfo=UTC), sequence=1, provider=PROVIDER,
)  # fmt: skip


def _price(symbol: str, bar: Bar, since: datetime | None, now: datetime) -> Price:
    """The bar as a price without a quote. Its values were checked when the bars were loaded."""
    return copied(
        _BARE, symbol=symbol, last=bar.close, open=bar.open, high=bar.high, low=bar.low, close=bar.close,
        volume=bar.volume, quoted_at=now, since=since, bar_start=bar.start,
    )  # fmt: skip
