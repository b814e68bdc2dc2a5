"""A strategy that trades live over a replayed stretch: trading_bot's evaluation, and the service orders.

Each minute the prices and bars come in, orders fill, the strategy is evaluated, and its messages are handed to orders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID, uuid4

from services.orders.usecases.margin import check_margins
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Setup
from services.strategy.persistence import strategies
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.protections import Watch
from services.strategy.strategies.view import Bar
from services.strategy.usecases.evaluate import evaluate
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.base import Message
from shared.contracts.orders import CancelOrder, SubmitOrder
from shared.contracts.prices import Price, PricesUpdated
from shared.contracts.strategy import StrategyState
from shared.money import plain
from tests.component.paper_exchange import HANDLERS, Exchange
from tests.component.watching import outbox
from tests.support import rows, value
from tests.unit.recorded_series import recorded

BEGIN, MINUTE = datetime(2026, 11, 23, 15, tzinfo=UTC), timedelta(minutes=1)
CENT = Decimal("0.01")
#: Half of the quoted spread of each minute, in cents.
SPREADS = (1, 3, 2, 7)
COMMANDS: dict[str, type[Message]] = {"CancelOrder.v1": CancelOrder, "SubmitOrder.v1": SubmitOrder}


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
class ReplayedStrategy:
    """The strategy of a setup on an account of its own, with its equity by the minute."""

    exchange: Exchange
    strategy: ServiceContext
    setup: Setup
    parameters: Mapping[str, Any]
    symbols: Sequence[str]
    id: UUID = field(default_factory=uuid4)
    account_id: UUID = field(init=False)
    equity: list[tuple[datetime, Decimal]] = field(default_factory=list)
    _sent: int = 0

    def trade(self, prices: Sequence[Price]) -> None:
        self.exchange.clock.now = BEGIN
        settings = self.setup.settings.model_dump(mode="json", exclude_defaults=True)
        self.account_id = self.exchange.open(str(self.setup.cash), **settings)
        self._start()
        for at, batch in groupby(prices, lambda price: price.quoted_at):
            shown = tuple(batch)
            self.exchange.clock.now = at
            self._show(shown)
            self._handle(PricesUpdated(prices=shown, at=at))
            if self.setup.settings.multiplier > 1:
                with self.exchange.orders.unit_of_work() as uow:
                    check_margins(uow)
            self.equity.append((at, self._equity()))
            evaluate(self.strategy, uuid4(), lambda _: True)
            self._deliver()

    def decided(self) -> list[tuple[Any, ...]]:
        """The decisions to act: time, symbol, action, outcome, side, quantity, cuts and reason."""
        found = rows(
            self.strategy.engine,
            """SELECT * FROM strategy.decisions
               WHERE strategy_id = :id AND outcome <> 'held' AND reason NOT LIKE 'The strategy was paused: %'
                 AND reason NOT LIKE 'The strategy''s positions are closed%'
               ORDER BY at, symbol""",
            id=self.id,
        )
        return [
            (row.at, row.symbol, row.action, row.outcome, row.side, plain(row.qty), tuple(row.cuts or ()), row.reason)
            for row in found
        ]

    def fills(self) -> list[Any]:
        return [
            (row.quoted_at, row.symbol, row.side, row.qty, row.price, row.amount, row.fee)
            for row in rows(
                self.exchange.orders.engine,
                "SELECT * FROM orders.fills WHERE account_id = :id ORDER BY quoted_at, symbol, number",
                id=self.account_id,
            )
        ]

    def paused(self) -> str | None:
        """The reason for which a protection paused the strategy."""
        found: str | None = value(
            self.strategy.engine, "SELECT state_reason FROM strategy.strategies WHERE id = :id", id=self.id
        )
        return found

    def _start(self) -> None:
        strategy = self.setup.strategy
        row = StrategyRow(
            id=self.id,
            name="replayed",
            account_id=self.account_id,
            kind=strategy.kind,
            parameters=self.parameters,
            symbols=tuple(self.symbols),
            interval="1m",
            sizing=self.setup.sizing.model_dump(mode="json", exclude_none=True),
            protections=self.setup.protections.model_dump(mode="json", exclude_none=True),
            state=StrategyState.RUNNING,
            watch=Watch(since=BEGIN),
        )
        with self.strategy.engine.begin() as connection:
            strategies.add(connection, row, BEGIN)

    def _show(self, prices: Sequence[Price]) -> None:
        """Let marketdata's views show the prices and their bars."""
        for price in prices:
            self.exchange.show(price)
        with self.exchange.marketdata.engine.begin() as connection:
            for each in prices:
                connection.exec_driver_sql(_ADD_BAR, each.model_dump())

    def _deliver(self) -> None:
        """Hand the new messages of strategy to orders, in their order."""
        sent = outbox(self.strategy)
        for message in sent[self._sent :]:
            if message.name in COMMANDS:
                self._handle(COMMANDS[message.name].model_validate(message.body))
        self._sent = len(sent)

    def _handle(self, message: Message) -> None:
        with self.exchange.orders.unit_of_work() as uow:
            HANDLERS[type(message)](message, uow)

    def _equity(self) -> Decimal:
        found: Decimal = value(
            self.exchange.valuation.engine,
            "SELECT equity FROM valuation.account_values_v1 WHERE account_id = :id",
            id=self.account_id,
        )
        return found


_ADD_BAR = """
INSERT INTO marketdata.market_data VALUES
  (%(symbol)s, '1m', %(bar_start)s, %(open)s, %(high)s, %(low)s, %(close)s, %(volume)s, 'replay')
"""
