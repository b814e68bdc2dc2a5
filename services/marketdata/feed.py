"""The feed: pushes a bar of every symbol at a steady speed, beside the polls of update_market_data.

Each bar, the feed's place in the recording and the event about it commit together, so a killed feed goes on where it
was. One of several replicas pushes: the one that holds the advisory lock.
"""

import time
from zlib import crc32

import structlog
from sqlalchemy import Connection, text

from services.marketdata.providers.stateful import StatefulProvider
from services.marketdata.settings import current
from services.marketdata.usecases.update_prices import update_prices
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

INTERVAL = "replay"
_LOCK = text("SELECT pg_try_advisory_lock(:key)")
_KEY = crc32(b"marketdata:feed")
_CONTROL = text("""
SELECT COALESCE(CAST(state ->> 'paused' AS boolean), false) AS paused, state ->> 'speed' AS speed
FROM marketdata.provider_states WHERE provider = :provider
""")
PAUSE_SECONDS = 1.0
#: A change of the speed is noticed after this time.
LOOK_SECONDS = 1.0


class Feed(Background):
    """Pushes ``speed`` bars a second, unless the provider's state has another speed, or is paused."""

    def __init__(self, context: ServiceContext, provider: StatefulProvider, *, speed: float) -> None:
        super().__init__("feed")
        self._context = context
        self._provider = provider
        self._period = 1 / speed
        self._waiting = False

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with self._context.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as lock:
                    self._push_while_locked(lock)
            except DATABASE_ERRORS as error:
                self._log_change(waiting=True, error=str(error).splitlines()[0])
            self.stopping.wait(PAUSE_SECONDS)

    def _log_change(self, *, waiting: bool, error: str = "") -> None:
        """Log once per change of state, not once per attempt."""
        if waiting != self._waiting:
            self._waiting = waiting
            report = log.warning if waiting else log.info
            report("feed waits for the database" if waiting else "feed goes on", error=error)

    def _push_while_locked(self, lock: Connection) -> None:
        """Push at a steady speed for as long as ``lock``, the session that holds the advisory lock, lives."""
        locked = lock.execute(_LOCK, {"key": _KEY}).scalar_one()
        self._log_change(waiting=False)
        if not locked:
            return
        try:
            due = time.monotonic()
            while not self.stopping.wait(min(LOOK_SECONDS, max(0.0, due - time.monotonic()))):
                period = self._current_period(lock)  # a lost session means a lost lock
                if period is None:
                    due = time.monotonic() + LOOK_SECONDS
                    continue
                due = min(due, time.monotonic() + period)
                if due <= time.monotonic():
                    due = max(due + period, time.monotonic())
                    self.push()
        finally:
            lock.invalidate()  # the advisory lock must not go back to the pool

    def _current_period(self, lock: Connection) -> float | None:
        """The seconds between two bars, as an operator may have changed them. None while the replay is paused."""
        control = lock.execute(_CONTROL, {"provider": self._provider.name}).first()
        if control is not None and control.paused:
            return None
        return self._period if control is None or control.speed is None else 1 / float(control.speed)

    def push(self) -> int:
        """Push one bar of every symbol, and return the number of prices."""
        return update_prices(
            self._context,
            self._provider,
            self._provider.advance,
            interval=INTERVAL,
            length=None,
            but_of=current().own_providers(),
            most_jump=current().max_price_jump,
        )
