"""Count and log the prices that were refused. A provider that repeats a fault fills no log."""

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from services.marketdata.domain.price_checks import Refusal
from services.marketdata.domain.quote import Quote
from shared.bus.metrics import REFUSED_PRICES

log = structlog.get_logger(__name__)

#: A fault of a provider is logged this often.
LOG_EVERY = timedelta(minutes=1)


class RefusedLog:
    """Logs the first refused price of each provider and fault, and then their number once in LOG_EVERY. Thread-safe."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, str], datetime] = {}
        self._silent: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, now: datetime, quote: Quote, refusal: Refusal) -> None:
        key = quote.provider, refusal.fault.value
        with self._lock:
            last = self._logged.get(key)
            if last is not None and last <= now < last + LOG_EVERY:
                self._silent[key] += 1
                return
            self._logged[key] = now
            others = self._silent.pop(key, 0)
        log.warning(
            "price refused",
            provider=quote.provider,
            symbol=quote.symbol,
            reason=refusal.fault.value,
            why=refusal.message,
            others_meanwhile=others,
        )


_log = RefusedLog()


def count_refused(now: datetime, refused: Sequence[tuple[Quote, Refusal]]) -> None:
    """Count the refused prices by provider and reason, and log them now and then."""
    for quote, refusal in refused:
        REFUSED_PRICES.labels(quote.provider, refusal.fault.value).inc()
        _log.add(now, quote, refusal)
