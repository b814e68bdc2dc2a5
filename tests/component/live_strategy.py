"""A strategy that trades live on recorded prices: the service orders with its database, and instant messages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID, uuid4

from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Setup
from services.strategy.strategies.decision import Action, Decision
from services.strategy.strategies.ordering import order_for
from services.strategy.strategies.sizing import Terms, size
from services.strategy.strategies.view import Account, Bar, Position, SymbolView, View
from shared.contracts.base import Message
from shared.contracts.prices import Price, PricesUpdated
from shared.exchange import margin
from shared.exchange.lots import Lot, cost_of, held
from shared.money import ZERO, cents
from tests.component.paper_exchange import HANDLERS, Exchange
from tests.support import rows
from tests.unit.recorded_series import recorded

BEGIN, MINUTE = datetime(2026, 11, 23, 15, tzinfo=UTC), timedelta(minutes=1)
CENT = Decimal("0.01")
#: Half of the quoted spread of each minute, in cents.
SPREADS = (1, 3, 2, 7)


def replayed(symbols: Sequence[str], minutes: int) -> tuple[list[Series], list[Price]]:
    """Recorded days as minutes, and the prices with quotes that a replay of them publishes at the end of each."""
    series, prices = [], []
    for symbol in symbols:
        days = recorded(symbol).bars[-minutes:]
        bars = [
            Bar(BEGIN + number * MINUTE, day.open, day.high, day.low, day.close, day.volume)
            for number, day in enumerate(days)
        ]
        series.append(Series(symbol, bars, MINUTE))
        prices += [_price(symbol, number, bar) for number, bar in enumerate(bars)]
    return series, sorted(prices, key=lambda price: price.quoted_at)


def _price(symbol: str, number: int, bar: Bar) -> Price:
    half = SPREADS[number % len(SPREADS)] * CENT
    return Price(
        symbol=symbol, bid=bar.close - half, ask=bar.close + half, last=bar.close, open=bar.open, high=bar.high,
        low=bar.low, close=bar.close, volume=bar.volume, quoted_at=bar.start + MINUTE, since=bar.start,
        bar_start=bar.start, sequence=number + 1, provider="replay",
    )  # fmt: skip


@dataclass
class LiveStrategy:
    """The strategy of a setup on an account of its own. It keeps each decision to act, and the equity by the minute."""

    exchange: Exchange
    setup: Setup
    series: Sequence[Series]
    account_id: UUID = field(init=False)
    last: dict[str, Decimal] = field(default_factory=dict)
    decided: list[tuple[datetime, Decision]] = field(default_factory=list)
    equity: list[tuple[datetime, Decimal]] = field(default_factory=list)

    def trade(self, prices: Sequence[Price]) -> None:
        self.exchange.clock.now = BEGIN
        self.account_id = self.exchange.open(
            str(self.setup.cash), **self.setup.settings.model_dump(mode="json", exclude_defaults=True)
        )
        for at, batch in groupby(prices, lambda price: price.quoted_at):
            shown = tuple(batch)
            self.exchange.clock.now = at
            for price in shown:
                self.exchange.show(price)
                self.last[price.symbol] = price.last
            self._handle(PricesUpdated(prices=shown, at=at))
            self._decide(at)

    def fills(self) -> list[Any]:
        return [
            (row.quoted_at, row.symbol, row.side, row.qty, row.price, row.amount, row.fee)
            for row in rows(
                self.exchange.orders.engine,
                "SELECT * FROM orders.fills WHERE account_id = :id ORDER BY quoted_at, symbol, number",
                id=self.account_id,
            )
        ]

    def _handle(self, message: Message) -> None:
        with self.exchange.orders.unit_of_work() as uow:
            HANDLERS[type(message)](message, uow)

    def _decide(self, now: datetime) -> None:
        wanted = self.setup.strategy.indicators()
        symbols = {}
        for each in self.series:
            bars = [bar for bar in each.bars if bar.start + MINUTE <= now]
            if bars:
                history = Series(each.symbol, bars, MINUTE).history(wanted)
                symbols[each.symbol] = SymbolView(each.symbol, history, len(bars) - 1, self._position(each.symbol))
        account = self._account()
        self.equity.append((now, account.equity))
        view = View(now, symbols, account, MINUTE)
        for decision in self.setup.strategy.decide(view):
            if decision.action is not Action.HOLD:
                self.decided.append((now, decision))
                self._submit(decision, symbols[decision.symbol], now)

    def _submit(self, decision: Decision, symbol: SymbolView, now: datetime) -> None:
        sized = size(decision, symbol, self.setup.sizing, Terms(self._account(), self.last[decision.symbol]))
        if sized.side is not None:
            order_id = uuid4()
            order = order_for(
                decision, sized, sized.side, account_id=self.account_id, order_id=order_id,
                client_order_id=str(order_id), strategy_id=self.account_id, at=now,
            )  # fmt: skip
            self._handle(order)

    def _lots(self) -> Iterator[tuple[str, tuple[Lot, ...]]]:
        found = rows(
            self.exchange.orders.engine,
            "SELECT * FROM orders.lots WHERE account_id = :id AND qty <> 0 ORDER BY symbol, opened_at",
            id=self.account_id,
        )
        for symbol, lots in groupby(found, lambda row: row.symbol):
            yield symbol, tuple(Lot(row.fill_id, row.opened_at, row.qty, row.cost) for row in lots)

    def _position(self, symbol: str) -> Position:
        lots = dict(self._lots()).get(symbol, ())
        open_qty = {
            row.side: row.qty
            for row in rows(
                self.exchange.orders.engine,
                """SELECT side, sum(qty - filled_qty) AS qty FROM orders.orders
                   WHERE account_id = :id AND symbol = :symbol AND leg IS NULL
                     AND status IN ('accepted', 'partially_filled') GROUP BY side""",
                id=self.account_id,
                symbol=symbol,
            )
        }
        buying, selling = open_qty.get("buy", ZERO), open_qty.get("sell", ZERO)
        qty = held(lots)
        if not qty:
            return Position(buying=buying, selling=selling)
        return Position(qty, cost_of(lots) / qty, min(lot.opened_at for lot in lots), buying, selling)

    def _account(self) -> Account:
        known = self.exchange.account(self.account_id)
        values = [cents(held(lots) * self.last[symbol]) for symbol, lots in self._lots()]
        long_value, short_value = sum((v for v in values if v > 0), ZERO), sum((v for v in values if v < 0), ZERO)
        equity = margin.equity(cash=known.cash, long_value=long_value, short_value=short_value)
        power = margin.buying_power(
            equity=equity, long_value=long_value, short_value=short_value, reserved=known.reserved,
            multiplier=self.setup.settings.multiplier,
        )  # fmt: skip
        return Account(equity, known.cash, power)
