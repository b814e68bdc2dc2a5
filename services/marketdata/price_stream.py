"""The price stream: takes quotes from a provider's websocket, beside the polls of update_market_data.

Quotes of a few milliseconds are one batch. A stream that breaks, or stops without a word while a market is open, is
opened again, and the minutes that were missed are filled from the provider's bars. One of several replicas streams: the
one that holds the advisory lock.
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from zlib import crc32

import structlog
from sqlalchemy import Connection, text

from services.marketdata.domain.quote import Quote
from services.marketdata.persistence import instruments, sessions
from services.marketdata.providers.provider import Listed, Part, Provider, ProviderDown, ProviderError, Stream
from services.marketdata.settings import current
from services.marketdata.usecases.ask_provider import ask
from services.marketdata.usecases.stream_prices import fill_gap, store_streamed
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.outage import Outage
from shared.resilience.breakers import BreakerOpen
from shared.resilience.rate_limits import NO_WAIT, RateLimited
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

COALESCE_SECONDS = 0.005
#: Instruments that were added, and the lock, are looked up this often.
LOOK_SECONDS = 5.0
#: Without a quote for this long while a market is open, the stream has stopped. Each time in a row doubles it.
SILENCE_SECONDS = 60.0
LONGEST_SILENCE_SECONDS = 900.0
PAUSE_SECONDS = 1.0
#: The number of quotes in one batch.
LARGEST_BATCH = 5000
_LOCK = text("SELECT pg_try_advisory_lock(:key)")
#: What goes wrong with a provider or our own database, and passes.
_OUTAGES = (ProviderError, BreakerOpen, RateLimited, *DATABASE_ERRORS)


class PriceStream(Background):
    """Streams from ``provider`` the instruments that ``listed`` returns."""

    def __init__(self, context: ServiceContext, provider: Provider, listed: Callable[[], Sequence[Listed]]) -> None:
        super().__init__(f"stream of {provider.traits.name}")
        self._context = context
        self._provider = provider
        self._listed = listed
        self._outage = Outage(f"the stream of {provider.traits.name}")
        self._key = crc32(f"marketdata:stream:{provider.traits.name}".encode())
        self._silences = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            pause = PAUSE_SECONDS
            try:
                with self._context.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as lock:
                    self._stream_while_locked(lock)
            except _OUTAGES as error:
                pause = max(pause, self._outage.failed(error))
            self.stopping.wait(pause)

    def _stream_while_locked(self, lock: Connection) -> None:
        """Stream for as long as ``lock``, the session that holds the advisory lock, lives."""
        if not lock.execute(_LOCK, {"key": self._key}).scalar_one():
            return
        try:
            if listed := self._listed():
                stream = ask(
                    self._context, self._provider, lambda: self._provider.stream(listed), wait=NO_WAIT, part=Part.STREAM
                )
                reader = _Reader(stream)
                try:
                    self._take(lock, reader, listed)
                finally:
                    reader.close()
        finally:
            lock.invalidate()  # the advisory lock must not go back to the pool

    def _take(self, lock: Connection, reader: "_Reader", listed: Sequence[Listed]) -> None:
        """Fill the gap, then store what comes, until the stream breaks, is silent, or this process stops."""
        if filled := fill_gap(self._context, self._provider, listed):
            log.info("gap filled", provider=self._provider.traits.name, bars=filled)
        looked = newest = time.monotonic()
        while not self.stopping.is_set():
            batch = reader.batch(PAUSE_SECONDS)
            if batch:
                store_streamed(self._context, self._provider, batch, most_jump=current().max_price_jump)
                newest, self._silences = time.monotonic(), 0
                self._outage.passed()
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                lock.execute(text("SELECT 1"))  # a lost session means a lost lock
                if set(wanted := self._listed()) != set(listed):
                    reader.stream.subscribe(wanted)
                    listed = wanted
                if not wanted:
                    return
            self._check_silence(time.monotonic() - newest, listed)

    def _check_silence(self, seconds: float, listed: Sequence[Listed]) -> None:
        """Raise ProviderDown if the stream has stopped. A stream of closed markets may be silent."""
        if seconds < min(SILENCE_SECONDS * 2**self._silences, LONGEST_SILENCE_SECONDS):
            return
        with self._context.engine.connect() as connection:
            if not sessions.open_markets(connection, {each.market for each in listed}, self._context.clock()):
                return
        self._silences = min(self._silences + 1, 10)
        raise ProviderDown(f"no quote has come for {seconds:.0f} s: the stream is opened again")


def make_streams(context: ServiceContext, order: Mapping[AssetClass, Sequence[Provider]]) -> list[PriceStream]:
    """A stream of each provider that is the first with one for some asset class."""
    classes: dict[str, set[AssetClass]] = {}
    providers: dict[str, Provider] = {}
    for asset_class, its_providers in order.items():
        provider = next((each for each in its_providers if _streams(each, asset_class)), None)
        if provider is not None:
            providers[provider.traits.name] = provider
            classes.setdefault(provider.traits.name, set()).add(asset_class)
    return [
        PriceStream(context, provider, partial(_listed, context, provider, classes[name]))
        for name, provider in providers.items()
    ]


def _streams(provider: Provider, asset_class: AssetClass) -> bool:
    return Part.STREAM in provider.traits.parts and asset_class in provider.traits.asset_classes


def _listed(context: ServiceContext, provider: Provider, classes: set[AssetClass]) -> list[Listed]:
    """The instruments of these classes whose prices are taken, in a currency that the provider has."""
    with context.engine.connect() as connection:
        rows = instruments.wanted(connection)
    listed = [Listed(row.symbol, row.market, AssetClass(row.asset_class), row.currency) for row in rows]
    currencies = provider.traits.currencies
    return [each for each in listed if each.asset_class in classes and each.currency in (currencies or {each.currency})]


class _Reader:
    """Reads a stream in a thread of its own, so that its quotes can be taken in batches."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._quotes: queue.SimpleQueue[Quote | None] = queue.SimpleQueue()
        self._error: ProviderError | None = None
        self._thread = threading.Thread(target=self._read, name="stream reader", daemon=True)
        self._thread.start()

    def batch(self, seconds: float) -> list[Quote]:
        """The quotes of the next few milliseconds, empty if none comes within ``seconds``. Raises ProviderError."""
        quotes: list[Quote] = []
        ends = time.monotonic() + seconds
        while len(quotes) < LARGEST_BATCH:
            try:
                quote = self._quotes.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                break
            if quote is None:
                if quotes:
                    self._quotes.put(None)  # for the next call
                    break
                raise self._error or ProviderDown("the stream ended: it is opened again")
            if not quotes:
                ends = time.monotonic() + COALESCE_SECONDS
            quotes.append(quote)
        return quotes

    def close(self) -> None:
        self.stream.close()
        self._thread.join(PAUSE_SECONDS)

    def _read(self) -> None:
        try:
            for quote in self.stream:
                self._quotes.put(quote)
        except ProviderError as error:
            self._error = error
        finally:
            self._quotes.put(None)
