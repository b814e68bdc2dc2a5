"""Alpaca's websockets, by alpaca-py: a frame for each trade and each quote.

alpaca-py would open a broken connection again by itself, and say nothing of it. Here the iteration raises, so that the
caller knows of the gap and fills it.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alpaca.data.enums import DataFeed
from alpaca.data.live import CryptoDataStream, StockDataStream
from websockets.exceptions import WebSocketException

from services.marketdata.domain.quote import Quote
from services.marketdata.providers.numbers import decimal_of, positive
from services.marketdata.providers.provider import KeyRefused, Listed, ProviderDown, ProviderError, Stream, Throttled
from shared.clock import Clock, utc_now
from shared.contracts.instruments import AssetClass
from shared.contracts.prices import AHEAD

if TYPE_CHECKING:
    from services.marketdata.providers.settings import AlpacaSettings

#: Trades at prices that are not the market's: averages, other days' and earlier prices (the tapes' sale conditions).
NOT_LAST = frozenset("479BCGHMNPQRUVWZ")
#: Frames that wait. Beyond that the reader is too slow, and the stream is opened again.
MOST_WAITING = 100_000


@dataclass
class _Newest:
    """The newest of a symbol. ``at`` is the time of its newest frame, ``frames`` the frames of that time."""

    last: Decimal | None
    bid: Decimal | None = None
    ask: Decimal | None = None
    bid_size: Decimal | None = None
    ask_size: Decimal | None = None
    trade_at: datetime | None = None
    quote_at: datetime | None = None
    trade_id: object = None


class AlpacaStream(Stream):
    """An open stream of shares, of coins, or of both. ``lasts`` are the last prices at its start."""

    def __init__(
        self,
        settings: "AlpacaSettings",
        instruments: Sequence[Listed],
        lasts: Mapping[str, Decimal],
        clock: Clock = utc_now,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._waiting: queue.SimpleQueue[Quote | ProviderError | None] = queue.SimpleQueue()
        self._overrun = False
        self._newest = {symbol: _Newest(last) for symbol, last in lasts.items()}
        self._sockets: dict[AssetClass, Any] = {}
        self._threads: list[threading.Thread] = []
        self._symbols: dict[AssetClass, set[str]] = {}
        self.subscribe(instruments)

    def subscribe(self, instruments: Sequence[Listed]) -> None:
        for asset_class in (AssetClass.US_EQUITY, AssetClass.CRYPTO):
            wanted = {each.symbol for each in instruments if each.asset_class is asset_class}
            try:
                self._subscribe(asset_class, wanted)
            except (OSError, RuntimeError, WebSocketException) as error:
                raise ProviderDown("Alpaca's stream broke off: it is opened again") from error

    def _subscribe(self, asset_class: AssetClass, wanted: set[str]) -> None:
        known = self._symbols.get(asset_class, set())
        added, dropped = sorted(wanted - known), sorted(known - wanted)
        self._symbols[asset_class] = wanted
        socket = self._sockets.get(asset_class)
        if socket is not None and dropped:
            socket.unsubscribe_trades(*dropped)
            socket.unsubscribe_quotes(*dropped)
        if added:
            socket = socket or self._open(asset_class)
            socket.subscribe_trades(self._trade, *added)
            socket.subscribe_quotes(self._quote, *added)
            self._start(asset_class, socket)

    def __iter__(self) -> Iterator[Quote]:
        while (item := self._waiting.get()) is not None:
            if self._overrun:
                raise ProviderDown("Alpaca's stream is faster than its reader: it is opened again")
            if isinstance(item, ProviderError):
                raise item
            yield item

    def close(self) -> None:
        for socket in self._sockets.values():
            socket.end()
        for thread in self._threads:
            thread.join(10)
        self._put(None)

    def _open(self, asset_class: AssetClass) -> Any:
        key, secret = self._settings.key.get_secret_value(), self._settings.secret.get_secret_value()
        if asset_class is AssetClass.CRYPTO:
            return _Coins(self._put, key, secret, raw_data=True, url_override=self._settings.crypto_stream_url)
        feed = DataFeed.SIP if self._settings.feed == "sip" else DataFeed.IEX
        return _Shares(self._put, key, secret, raw_data=True, feed=feed, url_override=self._settings.stream_url)

    def _start(self, asset_class: AssetClass, socket: Any) -> None:
        if asset_class in self._sockets:
            return
        self._sockets[asset_class] = socket
        thread = threading.Thread(target=socket.run, name=f"alpaca-{asset_class}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _put(self, item: Quote | ProviderError | None) -> None:
        if self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(item)
        else:
            self._overrun = True

    async def _trade(self, frame: dict[str, Any]) -> None:
        symbol, price, at = str(frame.get("S")), positive(frame.get("p")), _moment(frame.get("t"))
        newest = self._newest.setdefault(symbol, _Newest(None))
        if price is None or at is None or self._is_ahead(at):
            return
        repeated = newest.trade_at == at and newest.trade_id == frame.get("i")
        if repeated or (newest.trade_at is not None and at < newest.trade_at):
            return
        if NOT_LAST.intersection(frame.get("c") or ()):
            return
        newest.last, newest.trade_at, newest.trade_id = price, at, frame.get("i")
        self._put(_made(symbol, newest, at, decimal_of(frame.get("s")) or Decimal(0)))

    def _is_ahead(self, at: datetime) -> bool:
        """True for the time of a wrong clock: until then, all other frames would be older."""
        return at > self._clock() + AHEAD

    async def _quote(self, frame: dict[str, Any]) -> None:
        symbol, at = str(frame.get("S")), _moment(frame.get("t"))
        newest = self._newest.setdefault(symbol, _Newest(None))
        if at is None or self._is_ahead(at) or (newest.quote_at is not None and at <= newest.quote_at):
            return
        newest.bid, newest.ask, newest.quote_at = positive(frame.get("bp")), positive(frame.get("ap")), at
        newest.bid_size = positive(frame.get("bs")) if newest.bid is not None else None
        newest.ask_size = positive(frame.get("as")) if newest.ask is not None else None
        if newest.last is not None:
            self._put(_made(symbol, newest, at, Decimal(0)))


class _Reporting:
    """alpaca-py's stream that reports a broken connection, and opens none again."""

    def __init__(self, report: Any, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.closing = False
        self._report = report

    def end(self) -> None:
        """Close the connection. It may be called from another thread, also before there is one."""
        self.closing = True
        loop: asyncio.AbstractEventLoop | None = self._loop  # type: ignore[attr-defined]
        if loop is not None and loop.is_running():
            asyncio.run_coroutine_threadsafe(self._end(), loop)

    def run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            super().run()  # type: ignore[misc]

    async def _end(self) -> None:
        self._should_run = False
        await self.close()  # type: ignore[attr-defined]

    async def _start_ws(self) -> None:
        if self.closing:  # before there was a connection
            raise asyncio.CancelledError
        try:
            await super()._start_ws()  # type: ignore[misc]
        except (OSError, ValueError, WebSocketException) as error:
            self._stop(_refusal(error))
            raise

    async def _wait_before_reconnect(self, retries: int) -> None:  # noqa: ARG002
        self._stop(ProviderDown("Alpaca's stream broke off: it is opened again"))

    def _stop(self, error: ProviderError) -> None:
        """Report the first error, and end."""
        self._should_run = False
        if not self.closing:
            self.closing = True
            self._report(error)


class _Shares(_Reporting, StockDataStream):  # type: ignore[misc]
    pass


class _Coins(_Reporting, CryptoDataStream):  # type: ignore[misc]
    pass


def _refusal(error: Exception) -> ProviderError:
    """The error to raise for that of alpaca-py, which is a ValueError with Alpaca's own words."""
    said = str(error) if isinstance(error, ValueError) else ""
    if "auth" in said or "insufficient subscription" in said:
        return KeyRefused(
            "Alpaca's stream refuses the key: check PAPERPROFIT_ALPACA_KEY, PAPERPROFIT_ALPACA_SECRET and the feed"
        )
    if "connection limit" in said:
        return Throttled("Alpaca allows one stream a key: end the other program that uses the key", 60.0)
    return ProviderDown("Alpaca's stream broke off: it is opened again")


def _made(symbol: str, newest: _Newest, at: datetime, volume: Decimal) -> Quote:
    last = newest.last or Decimal(0)
    return Quote(
        symbol=symbol,
        bid=newest.bid,
        ask=newest.ask,
        bid_size=newest.bid_size,
        ask_size=newest.ask_size,
        last=last,
        open=last,
        high=last,
        low=last,
        close=last,
        volume=volume,
        quoted_at=at,
        provider="alpaca",
        currency="USD",
    )


def _moment(stamp: Any) -> datetime | None:
    """The time of a frame, which msgpack knows in nanoseconds."""
    try:
        moment: datetime = stamp.to_datetime()
    except (AttributeError, ValueError, OverflowError):
        return None
    return moment
