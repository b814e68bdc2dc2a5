"""Fixtures and helpers of the tests of the network providers."""

import threading
from datetime import datetime
from decimal import Decimal

from services.marketdata.domain.bar import Bar
from services.marketdata.domain.quote import Quote
from services.marketdata.providers.provider import Listed, Stream
from shared.contracts.instruments import AssetClass

SPY = Listed("SPY", "XNYS", AssetClass.US_EQUITY, "USD")
BRK = Listed("BRK.B", "XNYS", AssetClass.US_EQUITY, "USD")
VOD = Listed("VOD", "XLON", AssetClass.EQUITY, "GBP")
BTC = Listed("BTC/USD", "24/7", AssetClass.CRYPTO, "USD")
EUR = Listed("EUR/USD", "24/7", AssetClass.CURRENCY_PAIR, "USD")


def numbers(text: str) -> tuple[Decimal, ...]:
    """``1 2.5`` as decimals."""
    return tuple(map(Decimal, text.split()))


def bar_of(symbol: str, interval: str, start: datetime, text: str, provider: str) -> Bar:
    """A bar of open, high, low, close and volume."""
    opened, high, low, close, volume = numbers(text)
    return Bar(symbol, interval, start, opened, high, low, close, volume, provider)


class Reader:
    """Reads a stream in a thread of its own, to its end or its error."""

    def __init__(self, stream: Stream) -> None:
        self.quotes: list[Quote] = []
        self.error: Exception | None = None
        self.stream = stream
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for each in self.stream:
                with self._changed:
                    self.quotes.append(each)
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001
            self.error = error

    def wait_for(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.quotes) >= number, 10), self.quotes

    def join(self) -> Exception | None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.error
