"""One account, its orders and a batch of quotes, for tests of executions."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from shared.contracts.prices import Price
from shared.exchange.lots import Lot
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.book import Book, Execution
from shared.exchange.matching.execution import execute
from shared.exchange.order import Order
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, QUOTED, account, quote

RULES = MarketRules()
HOLDING = (ACCOUNT, "AAPL")


def lot(text: str, number: int = 1) -> Lot:
    """Ten shares that cost a thousand are ``"10 for 1000"``."""
    qty, _, cost = text.split()
    return Lot(UUID(int=number), ACCEPTED - timedelta(days=9 - number), Decimal(qty), Decimal(cost))


def book_of(cash: str, *texts: str, reserved: str = "0", **settings: Any) -> Book:
    """One account with its lots of AAPL."""
    lots = tuple(lot(text, number) for number, text in enumerate(texts, start=1))
    return Book({ACCOUNT: account(cash, reserved, **settings)}, {HOLDING: lots})


def executed(orders: Sequence[Order], book: Book, *quotes: str | Price, at: datetime = QUOTED) -> Execution:
    prices = [quote(each, at=at) if isinstance(each, str) else each for each in quotes]
    return execute(orders, {price.symbol: price for price in prices}, book, at, RULES)
