"""The interface of a provider that is asked over the network: a provider is one file with a class like this.

A provider implements the parts that it has and names them in its traits. It knows nothing of databases, other
providers, rate limits or breakers: its caller asks only as often as the traits allow, outside of any transaction, and
splits what it asks for into requests of at most ``Traits.batch`` symbols. A provider returns what the source said,
translated into our symbols. It leaves out what it cannot read, logs that with the symbol, and keeps the rest of the
batch. Checks that hold for every provider, such as positive prices, are its caller's.

Another package adds a provider by an entry point of the group ``paperprofit.providers``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import ClassVar

from services.marketdata.domain.bar import Bar
from services.marketdata.domain.quote import Quote
from shared.contracts.instruments import US_MARKETS, AssetClass
from shared.resilience.rate_limits import Rate


class Part(StrEnum):
    """The kinds of data that a provider may be asked for."""

    QUOTES = "quotes"
    BARS = "bars"
    SEARCH = "search"
    STREAM = "stream"
    ACTIONS = "actions"
    NEWS = "news"


@dataclass(frozen=True, slots=True)
class Listed:
    """An instrument as a provider needs to know it, to find its own name for the symbol."""

    symbol: str
    market: str
    asset_class: AssetClass
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The abilities and limits of a provider.

    ``rate`` is the number of requests in a period, ``daily`` that of a day, both of one key, however many replicas use
    it. ``batch`` is the largest number of symbols in one request for quotes, ``news_batch`` that in one for news, and
    ``parallel`` the number of requests under way.
    """

    name: str
    parts: frozenset[Part]
    asset_classes: frozenset[AssetClass]
    #: Intervals of its bars: 1m, 5m, 15m, 1h, 1d.
    intervals: tuple[str, ...] = ()
    #: Currencies of its prices. None for any.
    currencies: frozenset[str] | None = None
    rate: Rate | None = None
    daily: int | None = None
    batch: int = 1
    news_batch: int = 1
    parallel: int = 1
    #: True where its quotes are not those of this moment, such as the free feeds of most exchanges.
    delayed: bool = False
    #: The number of instruments that one call of ``lookups`` asks for.
    lookup_batch: int = 1
    #: True where its quotes carry official opens and closes. Otherwise they are a session's first and last trades.
    official: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A result of a search: an instrument as the provider describes it."""

    symbol: str
    name: str
    market: str | None
    currency: str | None
    asset_class: AssetClass | None
    #: The name of its exchange, in the provider's words.
    exchange: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAction:
    """A corporate action that a provider reports: a split, a cash dividend per share, or a new symbol."""

    symbol: str
    kind: str
    ex_date: date
    new_shares: int | None = None
    old_shares: int | None = None
    amount: Decimal | None = None
    pay_date: date | None = None
    new_symbol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A piece of news. ``score`` is the provider's own sentiment from -1 to 1, if it has one."""

    title: str
    url: str
    published_at: datetime
    symbols: tuple[str, ...]
    source: str
    summary: str = ""
    score: float | None = None


class ProviderError(Exception):
    """The provider did not answer as it should. The message says what to do, and has no key in it."""


class ProviderDown(ProviderError):
    """No answer, or one that cannot be read: a timeout, half a body, HTML in place of JSON, a status of 500."""


class Throttled(ProviderError):
    """The provider takes no request now. ``retry_after`` is in seconds, None where it did not say."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class KeyRefused(ProviderError):
    """The key is missing, wrong, or may not see this data."""


def name_of_key(key: str) -> str:
    """A name for a key, from which nobody can tell the key. Empty for none."""
    return sha256(key.encode()).hexdigest()[:8] if key else ""


class Unsupported(ProviderError):
    """The provider does not have this part, asset class or interval."""


class Stream(ABC):
    """An open stream of quotes. ``close`` may be called from another thread, and ends the iteration."""

    @abstractmethod
    def __iter__(self) -> Iterator[Quote]:
        """The quotes as they come. Raises ProviderError."""

    @abstractmethod
    def subscribe(self, instruments: Sequence[Listed]) -> None:
        """Replace the instruments that the stream brings."""

    @abstractmethod
    def close(self) -> None:
        """End the stream."""


def same_market(found: str | None, wanted: str) -> bool:
    """Tell whether a result may be the wanted one. The exchanges of the United States share their symbols."""
    return found is None or found == wanted or {found, wanted} <= US_MARKETS


class Provider:
    """The base of every network provider. A method that is not overridden raises Unsupported.

    All methods block, and raise ProviderError.
    """

    traits: ClassVar[Traits]
    #: Tells keys apart, without showing them. Each key has limits of its own.
    key_name: str = ""
    #: Large modules that are imported at the service's start, and not first with a request.
    modules: ClassVar[tuple[str, ...]] = ()
    #: Where this is a dict, ``quotes`` puts the source's own fields into it, by symbol, for people to look at.
    answers: dict[str, Mapping[str, object]] | None = None

    def quotes(self, instruments: Sequence[Listed], now: datetime) -> list[Quote]:
        """The newest quotes. A symbol that the provider does not know is left out."""
        raise self._unsupported(Part.QUOTES)

    def bars(self, instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[list[Bar]]:
        """The bars that begin in ``[begin, end)``, as traded (not adjusted), oldest first, in pages."""
        raise self._unsupported(Part.BARS)

    def search(self, words: str, limit: int) -> list[Found]:
        """Instruments by symbol or name, the best first."""
        raise self._unsupported(Part.SEARCH)

    def lookup(self, instrument: Listed) -> Found | None:
        """The instrument as the provider describes it. None where it has none. By default that is found by search."""
        found = [each for each in self.search(instrument.symbol, 20) if each.symbol == instrument.symbol]
        return next((each for each in found if same_market(each.market, instrument.market)), None)

    def lookups(self, instruments: Sequence[Listed]) -> list[Found]:
        """Those of at most ``Traits.lookup_batch`` instruments that the provider has, each under our symbol."""
        return [found for each in instruments if (found := self.lookup(each)) is not None]

    def actions(self, instrument: Listed, begin: date, end: date) -> list[FoundAction]:
        """Corporate actions whose ex-date lies in ``[begin, end]``."""
        raise self._unsupported(Part.ACTIONS)

    def news(self, instruments: Sequence[Listed], since: datetime) -> list[Headline]:
        """Headlines about the instruments, the newest first."""
        raise self._unsupported(Part.NEWS)

    def stream(self, instruments: Sequence[Listed]) -> Stream:
        """Open a stream of quotes."""
        raise self._unsupported(Part.STREAM)

    def close(self) -> None:
        """Close its connections."""

    def _keep(self, symbol: str, answer: Mapping[str, object]) -> None:
        if self.answers is not None:
            self.answers[symbol] = answer

    def _unsupported(self, part: Part) -> Unsupported:
        return Unsupported(f"{self.traits.name} has no {part}: choose another provider for it")
