"""The rates of exchange that orders in another currency than their account's need, from marketdata's view.

Where all orders at hand are in their account's currency, nothing is asked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from services.orders.persistence.accounts import PreTradeContext
from services.orders.settings import current
from shared.exchange.fx import SAME, Pair, Rate, is_fresh, rate_of
from shared.exchange.order import Account, Order
from shared.storage.driver import fetch


class NoExchangeRate(LookupError):
    """Something has to be converted for which there never was a rate."""


def usable_rates(
    connection: Connection, orders: Iterable[Order], accounts: Mapping[UUID, Account], now: datetime
) -> dict[Pair, Rate]:
    """The rates that these orders may be filled at now; one that is missing or stale is left out."""
    found = rates(connection, {(order.currency, accounts[order.account_id].currency) for order in orders})
    return {pair: rate for pair, rate in found.items() if is_fresh(rate, now, current().rules)}


def rated(
    connection: Connection, account: Account, pre_trade_contexts: Sequence[PreTradeContext]
) -> list[PreTradeContext]:
    """The contexts, and in the listings in another currency the latest rate, however old it is.

    As with prices: an order may come in while the markets are closed, and waits for fresh ones.
    """
    wanted = {
        (each.instrument.currency, account.currency) for each in pre_trade_contexts if each.instrument is not None
    }
    found = rates(connection, wanted)
    if not found:
        return list(pre_trade_contexts)
    return [_rated(each, account, found) for each in pre_trade_contexts]


def _rated(pre_trade: PreTradeContext, account: Account, found: Mapping[Pair, Rate]) -> PreTradeContext:
    if pre_trade.instrument is None:
        return pre_trade
    rate = found.get((pre_trade.instrument.currency, account.currency))
    return replace(pre_trade, instrument=replace(pre_trade.instrument, rate=rate))


@dataclass(frozen=True)
class RatesOf:
    """What one currency is worth in others."""

    currency: str
    others: Mapping[Pair, Rate]

    def in_currency(self, own: str) -> Rate:
        """Raises NoExchangeRate."""
        if own == self.currency:
            return SAME
        rate = self.others.get((self.currency, own))
        if rate is None:
            raise NoExchangeRate(f"{self.currency} in {own}: add an instrument {self.currency}/{own} with a price")
        return rate


def rates_of(connection: Connection, symbol: str, accounts: Iterable[Account]) -> RatesOf:
    """Of the symbol's currency in those of the accounts: the latest, however old they are."""
    (row,) = fetch(connection, _CURRENCY, {"symbol": symbol})
    return RatesOf(row.currency, rates(connection, {(row.currency, account.currency) for account in accounts}))


def rates(connection: Connection, wanted: Iterable[Pair]) -> dict[Pair, Rate]:
    """Those that there are of the pairs of two currencies, in one statement, or none."""
    foreign = sorted({pair for pair in wanted if pair[0] != pair[1]})
    if not foreign:
        return {}
    columns = {"currencies": [pair[0] for pair in foreign], "owns": [pair[1] for pair in foreign]}
    rows = fetch(connection, _RATES, columns)
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
