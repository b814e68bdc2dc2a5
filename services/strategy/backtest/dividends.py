"""Cash dividends of a backtest: who holds shares before the ex-date gets them on the pay date."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from services.strategy.backtest.exchange import BacktestExchange
from shared.exchange.corporate_actions import dividend


class Dividend(NamedTuple):
    """``amount`` is that of one of today's shares."""

    symbol: str
    ex_at: datetime
    pay_at: datetime
    amount: Decimal


class Dividends:
    """The dividends to come, and those that are owed until their pay date."""

    def __init__(self, known: Iterable[Dividend]) -> None:
        self._coming = deque(sorted(known, key=lambda each: each.ex_at))
        self._owed: list[tuple[datetime, str, Decimal, Decimal]] = []

    def happen(self, exchange: BacktestExchange, now: datetime) -> None:
        """Owe those whose ex-date has come, on the shares held before it, and pay those that are due.

        One in another currency than the account's waits for an exchange rate.
        """
        while self._coming and self._coming[0].ex_at <= now:
            symbol, _, pay_at, amount = self._coming.popleft()
            qty = exchange.held.get(symbol)
            if qty:
                self._owed.append((pay_at, symbol, qty, amount))
        for owed in [each for each in self._owed if each[0] <= now]:
            _, symbol, qty, amount = owed
            rate = exchange.rate(symbol)
            if rate is not None:
                self._owed.remove(owed)
                exchange.pay_dividend(symbol, dividend(qty, amount, rate), now)
