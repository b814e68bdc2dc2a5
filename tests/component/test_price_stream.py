"""The price stream: batches, gaps, silence, and who streams."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from services.marketdata import price_stream
from services.marketdata.domain.bar import Bar
from services.marketdata.domain.quote import Quote
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.price_stream import PriceStream, make_streams
from services.marketdata.providers.alpaca import Alpaca
from services.marketdata.providers.provider import Listed, Part, Provider, ProviderDown, Stream, Traits
from services.marketdata.providers.settings import AlpacaSettings
from services.marketdata.service import prepare
from services.marketdata.usecases.ask_provider import ask
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.resilience.breakers import BreakerOpen
from tests.component.scripted_prices import made_up_quote
from tests.component.watching import context_of, outbox
from tests.conftest import FakeClock
from tests.servers.provider_alpaca import KEY, SECRET, AlpacaServer, snapshot
from tests.servers.provider_streams import AlpacaStreamServer, quote, stamp, trade
from tests.support import rows, value

MINUTE = timedelta(minutes=1)
AAPL, IBM = (Listed(symbol, "DEMO", AssetClass.US_EQUITY, "USD") for symbol in ("AAPL", "IBM"))


class ScriptedStream(Stream):
    """A stream of the quotes that a test sends."""

    def __init__(self, provider: "Streaming", instruments: Sequence[Listed]) -> None:
        self.provider = provider
        self.sent: queue.Queue[Quote | ProviderDown | None] = queue.Queue()
        self.subscribe(instruments)

    def __iter__(self) -> Iterator[Quote]:
        while (item := self.sent.get()) is not None:
            if isinstance(item, ProviderDown):
                raise item
            yield item

    def subscribe(self, instruments: Sequence[Listed]) -> None:
        self.provider.tell(f"subscribed {' '.join(sorted(each.symbol for each in instruments))}")

    def close(self) -> None:
        self.sent.put(None)


class Streaming(Provider):
    """A provider of scripted streams and bars."""

    traits = Traits(
        name="streaming",
        parts=frozenset({Part.STREAM, Part.BARS}),
        asset_classes=frozenset({AssetClass.US_EQUITY}),
        intervals=("1m",),
    )

    def __init__(self) -> None:
        self.streams: list[ScriptedStream] = []
        self.told: list[str] = []
        self.minutes: list[Bar] = []
        self._changed = threading.Condition()

    def stream(self, instruments: Sequence[Listed]) -> Stream:
        self.streams.append(ScriptedStream(self, instruments))
        return self.streams[-1]

    def bars(self, instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[list[Bar]]:  # noqa: ARG002
        yield [bar for bar in self.minutes if bar.symbol == instrument.symbol and begin <= bar.start < end]

    def tell(self, what: str) -> None:
        with self._changed:
            self.told.append(what)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, 20), self.told


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with context_of("marketdata", urls, clock) as context:
        prepare(context)
        yield context


@pytest.fixture
def provider() -> Streaming:
    return Streaming()


@pytest.fixture
def stream(marketdata: ServiceContext, provider: Streaming, monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceStream]:
    """A running stream of AAPL and IBM, whose pauses are short."""
    monkeypatch.setattr(price_stream, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(price_stream, "LOOK_SECONDS", 0.02)
    listed = [AAPL, IBM]
    running = PriceStream(marketdata, provider, lambda: listed)
    running.start()
    provider.wait_for(lambda: provider.streams)
    yield running
    running.stop()


def wait_for_last(context: ServiceContext, symbol: str, last: str) -> None:
    for _ in range(1000):
        if value(
            context.engine, "SELECT last_price FROM marketdata.instruments WHERE symbol = :symbol", symbol=symbol
        ) == (Decimal(last)):
            return
        threading.Event().wait(0.02)
    raise AssertionError(f"{symbol} is not at {last}")


def published(context: ServiceContext) -> list[list[tuple[str, str]]]:
    """The symbols and last prices of each event."""
    events = [message.body for message in outbox(context) if message.name.startswith("PricesUpdated")]
    return [[(each["symbol"], each["last"]) for each in (event.get("message") or event)["prices"]] for event in events]


def test_quotes_of_a_few_milliseconds_are_one_batch(
    marketdata: ServiceContext,
    provider: Streaming,
    stream: PriceStream,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Repeated and older quotes change nothing. The bar has all trades of the batch."""
    monkeypatch.setattr(price_stream, "COALESCE_SECONDS", 0.3)
    at = clock.now - timedelta(seconds=1)
    second = made_up_quote("AAPL", "102", at + timedelta(milliseconds=2), volume=30)
    for each in (
        made_up_quote("AAPL", "100", at, volume=10),
        made_up_quote("AAPL", "103", at + timedelta(milliseconds=1), volume=20),
        second,
        second,
        made_up_quote("AAPL", "1", at - timedelta(seconds=1)),
        made_up_quote("IBM", "200", at),
    ):
        provider.streams[0].sent.put(each)
    wait_for_last(marketdata, "IBM", "200")
    assert published(marketdata) == [[("AAPL", "102"), ("IBM", "200")]]
    (bar,) = rows(
        marketdata.engine, "SELECT open, high, low, close, volume FROM marketdata.market_data WHERE symbol = 'AAPL'"
    )
    assert tuple(bar) == (100, 103, 100, 102, 60)


def test_a_broken_stream_is_opened_again_and_the_minutes_it_missed_are_filled(
    marketdata: ServiceContext, provider: Streaming, stream: PriceStream, clock: FakeClock
) -> None:
    """Whole minutes after the last price are stored and published in their order. The minute of that price is not."""
    clock.now = clock.now.replace(second=30, microsecond=0)
    before = clock.now
    provider.streams[0].sent.put(made_up_quote("AAPL", "100", before))
    wait_for_last(marketdata, "AAPL", "100")
    first = before.replace(second=0)
    provider.minutes = [
        Bar("AAPL", "1m", first + number * MINUTE, *(Decimal(100 + number),) * 4, Decimal(50), "streaming")
        for number in range(5)
    ]
    clock.move(minutes=3)
    provider.streams[0].sent.put(ProviderDown("broke off"))
    provider.wait_for(lambda: len(provider.streams) == 2)
    wait_for_last(marketdata, "AAPL", "102")
    provider.streams[1].sent.put(made_up_quote("AAPL", "110", clock.now))
    wait_for_last(marketdata, "AAPL", "110")
    assert published(marketdata) == [[("AAPL", last)] for last in ("100", "101", "102", "110")]
    (at,) = [message.body for message in outbox(marketdata) if "101" in str(message.body)]
    assert (first + 2 * MINUTE).isoformat().replace("+00:00", "Z") in str(at)


def test_a_stream_that_stops_silently_is_opened_again(
    marketdata: ServiceContext, provider: Streaming, stream: PriceStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo market is always open, so a stream without quotes has stopped."""
    monkeypatch.setattr(price_stream, "SILENCE_SECONDS", 0.1)
    provider.wait_for(lambda: len(provider.streams) > 1)


def test_a_stream_that_cannot_be_opened_does_not_keep_polls_away(
    marketdata: ServiceContext, provider: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A websocket has a server of its own, and so a breaker of its own."""

    def refuse(_instruments: Sequence[Listed]) -> Stream:
        raise ProviderDown("connection refused")

    monkeypatch.setattr(provider, "stream", refuse)
    broken = PriceStream(marketdata, provider, lambda: [AAPL])
    for _ in range(5):
        with marketdata.engine.connect() as lock, pytest.raises(ProviderDown):
            broken._stream_while_locked(lock)
    with marketdata.engine.connect() as lock, pytest.raises(BreakerOpen, match="streaming:stream"):
        broken._stream_while_locked(lock)
    assert ask(marketdata, provider, lambda: "answer") == "answer"


def test_a_closed_market_may_be_silent(marketdata: ServiceContext, provider: Streaming) -> None:
    closed = Listed("SPY", "XNYS", AssetClass.US_EQUITY, "USD")
    silent = PriceStream(marketdata, provider, lambda: [closed])
    silent._check_silence(10_000, [closed])
    with pytest.raises(ProviderDown, match="opened again"):
        silent._check_silence(10_000, [closed, AAPL])


def test_one_replica_streams(
    marketdata: ServiceContext, provider: Streaming, stream: PriceStream, urls: dict[str, str], clock: FakeClock
) -> None:
    """The other waits. It takes over when the first has ended."""
    with context_of("marketdata", urls, clock) as other:
        waiting = PriceStream(other, provider, lambda: [IBM])
        waiting.start()
        try:
            provider.streams[0].sent.put(made_up_quote("AAPL", "100", clock.now))
            wait_for_last(marketdata, "AAPL", "100")
            assert provider.told == ["subscribed AAPL IBM"]
            stream.stop()
            provider.wait_for(lambda: provider.told[-1] == "subscribed IBM")
        finally:
            waiting.stop()


def test_a_new_instrument_is_subscribed(
    marketdata: ServiceContext, provider: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The streams follow the instruments of their asset classes."""
    monkeypatch.setattr(price_stream, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(price_stream, "LOOK_SECONDS", 0.02)
    (running,) = make_streams(marketdata, {each: [provider] for each in AssetClass})
    running.start()
    try:
        provider.wait_for(lambda: provider.told == ["subscribed AAPL FB GOOG IBM MSFT"])
        with marketdata.engine.begin() as connection:
            add_instruments(
                connection, [Instrument("SPY", "S&P 500"), Instrument("BTC/USD", "Bitcoin", "24/7", "crypto")]
            )
        provider.wait_for(lambda: provider.told[-1] == "subscribed AAPL FB GOOG IBM MSFT SPY")
        assert len(provider.streams) == 1
    finally:
        running.stop()


def test_alpacas_stream_reaches_the_database(urls: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """From frames of msgpack, over alpaca-py, to a stored price with its sides. A cut connection is opened again."""
    monkeypatch.setattr(price_stream, "PAUSE_SECONDS", 0.02)
    server, streams = AlpacaServer(), AlpacaStreamServer()
    server.snapshots["AAPL"] = snapshot(190.0, "2024-06-05T14:59:58Z")
    alpaca = Alpaca(AlpacaSettings(key=KEY, secret=SECRET, url=server.url, stream_url=streams.url))
    with context_of("marketdata", urls) as context:
        prepare(context)
        running = PriceStream(context, alpaca, lambda: [AAPL])
        running.start()
        try:
            streams.wait_for(lambda: streams.received)
            streams.send(streams.frames(quote("AAPL", 190.9, 191.1), trade("AAPL", 191.0)))
            wait_for_last(context, "AAPL", "191")
            streams.cut()
            streams.wait_for(lambda: streams.connected == 2 and len(streams.received) == 2)
            streams.send(streams.frames(trade("AAPL", 192.0, number=2, at=stamp())))
            wait_for_last(context, "AAPL", "192")
        finally:
            running.stop()
            alpaca.close()
            server.close()
            streams.close()
