"""The rates of exchange for orders in another currency than their account's, from marketdata's view.

The view is not read where all orders at hand are in their account's currency.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from services.orders.persistence.pre_trade import PreTradeContext
from services.orders.settings import current
from shared.exchange.fx import SAME, Pair, Rate, is_fresh, rate_of
from shared.exchange.order import Account, Order
from shared.storage.driver import fetch
from shared.storage.tables import typed


class NoExchangeRate(LookupError):
    """An amount has to be converted, and there never was a rate for it."""


class _RateRow(NamedTuple):
    currency: str
    account_currency: str
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal
    quoted_at: datetime


class _Instrument(NamedTuple):
    currency: str


def usable_rates(
    connection: Connection, orders: Iterable[Order], accounts: Mapping[UUID, Account], now: datetime
) -> dict[Pair, Rate]:
    """The rates that these orders may be filled at now, without those that are stale."""
    found = rates(connection, {(order.currency, accounts[order.account_id].currency) for order in orders})
    return {pair: rate for pair, rate in found.items() if is_fresh(rate, now, current().rules)}


def rated(
    connection: Connection, account: Account, pre_trade_contexts: Sequence[PreTradeContext]
) -> list[PreTradeContext]:
    """The contexts, and in those of instruments in another currency the latest rate, however old it is.

    As with prices: an order may come in while the markets are closed, and waits for fresh ones.
    """
    currencies = {each.instrument.currency for each in pre_trade_contexts if each.instrument is not None}
    found = rates(connection, {(currency, account.currency) for currency in currencies})
    return [
        replace(each, instrument=replace(each.instrument, rate=found.get((each.instrument.currency, account.currency))))
        if found and each.instrument is not None
        else each
        for each in pre_trade_contexts
    ]


@dataclass(frozen=True)
class RatesOf:
    """The rates of one currency in others."""

    currency: str
    others: Mapping[Pair, Rate]

    def in_currency(self, own: str) -> Rate:
        """The rate in that currency. Raises NoExchangeRate where there never was one."""
        if own == self.currency:
            return SAME
        rate = self.others.get((self.currency, own))
        if rate is None:
            raise NoExchangeRate(
                f"no rate of {self.currency} in {own}: add the instrument {self.currency}/{own} and a price"
            )
        return rate


def rates_of(connection: Connection, symbol: str, accounts: Iterable[Account]) -> RatesOf:
    """The latest rates of the symbol's currency in those of the accounts, however old they are."""
    (instrument,) = typed(_Instrument, fetch(connection, _CURRENCY, {"symbol": symbol}))
    currency = instrument.currency
    return RatesOf(currency, rates(connection, {(currency, account.currency) for account in accounts}))


def rates(connection: Connection, wanted: Iterable[Pair]) -> dict[Pair, Rate]:
    """The known rates of the pairs of two currencies, in one statement, or in none where there is no such pair."""
    foreign = sorted({pair for pair in wanted if pair[0] != pair[1]})
    if not foreign:
        return {}
    columns = {"currencies": [pair[0] for pair in foreign], "owns": [pair[1] for pair in foreign]}
    rows = typed(_RateRow, fetch(connection, _RATES, columns))
    rules = current().rules
    return {
        (row.currency, row.account_currency): rate_of(row.bid, row.ask, row.last, row.quoted_at, rules) for row in rows
    }


_RATES = """
SELECT r.currency, r.account_currency, r.bid, r.ask, r.last, r.quoted_at FROM marketdata.rates_v1 r
JOIN unnest(%(currencies)b::text[], %(owns)b::text[]) AS wanted (currency, own)
  ON r.currency = wanted.currency AND r.account_currency = wanted.own
"""
_CURRENCY = "SELECT currency FROM marketdata.instruments_v1 WHERE symbol = %(symbol)s"
