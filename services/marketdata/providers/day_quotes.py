"""Quotes of providers whose figures are of the whole day: each gets the bar since the quote before."""

import threading
from datetime import datetime
from decimal import Decimal

import structlog

from services.marketdata.domain.day_figures import DayFigures, traded_between
from services.marketdata.domain.quote import Quote
from services.marketdata.providers.provider import Listed
from shared.contracts.prices import AHEAD

log = structlog.get_logger(__name__)


class DayQuotes:
    """Makes a provider's quotes, and remembers each symbol's figures for the next. Thread-safe."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._newest: dict[str, DayFigures] = {}
        self._lock = threading.Lock()

    def quote(
        self,
        instrument: Listed,
        figures: DayFigures,
        now: datetime,
        *,
        bid: Decimal | None = None,
        ask: Decimal | None = None,
        bid_size: Decimal | None = None,
        ask_size: Decimal | None = None,
        currency: str | None = None,
        delayed: bool = False,
    ) -> Quote:
        """The quote. A side without a price has no size. Figures that are ahead of the clock are not remembered."""
        with self._lock:
            before = self._newest.get(instrument.symbol)
            if figures.at <= now + AHEAD and (before is None or figures.at > before.at):
                self._newest[instrument.symbol] = figures
        traded = traded_between(before, figures)
        return Quote(
            symbol=instrument.symbol,
            bid=bid,
            ask=ask,
            bid_size=bid_size if bid is not None else None,
            ask_size=ask_size if ask is not None else None,
            last=figures.last,
            open=traded.open,
            high=traded.high,
            low=traded.low,
            close=figures.last,
            volume=traded.volume,
            quoted_at=figures.at,
            provider=self._provider,
            bar_start=traded.start,
            currency=currency,
            delayed=delayed,
        )

    def left_out(self, instrument: Listed, reason: str) -> None:
        """Log that an instrument has no quote in this answer, and why. The rest of the answer is kept."""
        log.warning("quote left out", provider=self._provider, symbol=instrument.symbol, reason=reason)
