"""Yahoo's websocket, by yfinance: a frame for each trade, with the day's figures."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect
from yfinance.live import BaseWebSocket  # type: ignore[import-untyped]

from services.marketdata.domain.day_figures import DayFigures
from services.marketdata.domain.quote import Quote
from services.marketdata.providers.day_quotes import DayQuotes
from services.marketdata.providers.numbers import decimal_of, positive, time_of
from services.marketdata.providers.provider import Listed, ProviderDown, Stream
from services.marketdata.providers.yahoo_symbols import in_currency, yahoo_symbol
from shared.clock import Clock, utc_now

CONNECT_SECONDS = 10.0
#: Yahoo forgets a subscription that is not renewed.
RENEW_SECONDS = 15.0
#: Streamed prices name their currency seldom. Here it may be a hundredth of the instrument's, so a frame must name it.
_NAMED = ("XLON",)


class YahooStream(Stream):
    """An open websocket. The iteration raises ProviderDown when it breaks, and ends when it is closed."""

    def __init__(self, url: str, instruments: Sequence[Listed], clock: Clock = utc_now) -> None:
        self._reader = BaseWebSocket(url, verbose=False)
        self._days = DayQuotes("yahoo")
        self._clock = clock
        self._instruments: dict[str, Listed] = {}
        self._sending = threading.Lock()
        self._opened = ExitStack()
        self._closing = False
        try:
            opening = connect(url, open_timeout=CONNECT_SECONDS, max_size=2**20)
            self._socket: ClientConnection = self._opened.enter_context(opening)
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            raise ProviderDown(
                f"no stream from Yahoo ({type(error).__name__}): check the connection to the internet"
            ) from error
        self.subscribe(instruments)

    def subscribe(self, instruments: Sequence[Listed]) -> None:
        wanted = {yahoo_symbol(instrument): instrument for instrument in instruments}
        dropped = sorted(self._instruments.keys() - wanted.keys())
        self._instruments = wanted
        if dropped:
            self._send({"unsubscribe": dropped})
        self._send({"subscribe": list(wanted)})

    def __iter__(self) -> Iterator[Quote]:
        renewed = time.monotonic()
        while True:
            if time.monotonic() - renewed > RENEW_SECONDS:
                renewed = time.monotonic()
                self._send({"subscribe": list(self._instruments)})
            try:
                frame = self._socket.recv(timeout=1.0)
            except TimeoutError:
                continue
            except ConnectionClosed as error:
                if self._closing:
                    return
                raise ProviderDown("Yahoo's stream broke off: it is opened again") from error
            quote = self._quote(frame)
            if quote is not None:
                yield quote

    def close(self) -> None:
        self._closing = True
        self._opened.close()

    def _send(self, message: dict[str, list[str]]) -> None:
        try:
            with self._sending:
                self._socket.send(json.dumps(message))
        except ConnectionClosed as error:
            raise ProviderDown("Yahoo's stream broke off: it is opened again") from error

    def _quote(self, frame: str | bytes) -> Quote | None:
        """The quote in a frame. None for a frame that cannot be read, and one of another symbol."""
        try:
            message = json.loads(frame)
        except ValueError:
            return None
        encoded = message.get("message") if isinstance(message, dict) else None
        pricing: dict[str, Any] = self._reader._decode_message(encoded) if isinstance(encoded, str) else {}  # noqa: SLF001
        instrument = self._instruments.get(str(pricing.get("id")))
        at, last = _time(pricing.get("time")), positive(pricing.get("price"))
        if instrument is None or at is None or last is None:
            return None
        currency, factor = in_currency(pricing.get("currency"))
        if not currency and instrument.market in _NAMED:
            self._days.left_out(instrument, "the stream does not name its currency")
            return None
        figures = DayFigures(
            day=at.date(),
            at=at,
            last=last * factor,
            high=_scaled(pricing.get("day_high"), factor),
            low=_scaled(pricing.get("day_low"), factor),
            volume=decimal_of(pricing.get("day_volume")),
        )
        return self._days.quote(
            instrument,
            figures,
            self._clock(),
            bid=_scaled(pricing.get("bid"), factor),
            ask=_scaled(pricing.get("ask"), factor),
            currency=currency or None,
        )


def _time(milliseconds: object) -> datetime | None:
    number = positive(milliseconds)
    return None if number is None else time_of(number / 1000)


def _scaled(value: object, factor: Any) -> Any:
    number = positive(value)
    return None if number is None else number * factor
