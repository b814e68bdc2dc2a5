"""Prices that a test makes up and marketdata takes in: rows and event, as from any provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from services.marketdata.domain.quote import Quote
from services.marketdata.providers.stateful import Answer, ProviderState
from services.marketdata.usecases.update_prices import update_prices
from shared.bus.unit_of_work import ServiceContext
from shared.resilience.rate_limits import Rate

MINUTE = timedelta(minutes=1)


def made_up_quote(symbol: str, last: str | Decimal, at: datetime, *, volume: int = 100) -> Quote:
    """A quote one cent to each side of ``last``, with a bar in which every trade was at ``last``."""
    price, half = Decimal(last), Decimal("0.01")
    return Quote(
        symbol=symbol,
        bid=price - half,
        ask=price + half,
        bid_size=Decimal(100),
        ask_size=Decimal(100),
        last=price,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=Decimal(volume),
        quoted_at=at,
        provider="scripted",
    )


@dataclass
class Scripted:
    """A provider that answers with the quotes it is given, at any time."""

    name: str = "scripted"
    rate: Rate | None = None
    official: bool = False
    quotes: list[Quote] = field(default_factory=list)

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:  # noqa: ARG002
        return [quote for quote in self.quotes if quote.symbol in symbols], state

    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        return self.poll(state, symbols, now)


def push(marketdata: ServiceContext, lasts: Mapping[str, str | Decimal]) -> int:
    """Let marketdata take in these last prices as of now, in one batch, and return the number of new prices."""
    now = marketdata.clock()
    provider = Scripted(quotes=[made_up_quote(symbol, last, now) for symbol, last in lasts.items()])
    return update_prices(marketdata, provider, provider.poll, interval="1m", length=MINUTE)
