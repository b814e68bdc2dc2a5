"""A provider whose answers follow from a stored state, such as its place in a recording. It needs no network."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from services.marketdata.domain.quote import Quote
from shared.resilience.rate_limits import Rate

#: A JSON object that only its provider reads, stored between its calls. None before the first call.
ProviderState = dict[str, Any]
Answer = tuple[list[Quote], ProviderState | None]


class StatefulProvider(Protocol):
    """A source of prices. Both methods return the quotes of the symbols that it knows, and its state after them."""

    name: str
    #: The highest rate of polls, of all replicas together; None for any.
    rate: Rate | None
    #: True where its quotes carry official opens and closes; else they are a session's first and last trades.
    official: bool

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        """The current prices."""

    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        """The next step of a provider that the feed moves on. No quotes from one that is only polled."""
