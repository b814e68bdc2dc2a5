"""Wrong keys: counted, logged at most once a minute for each address, and written to the database in batches."""

from collections.abc import Callable
from datetime import timedelta

import structlog
from prometheus_client import Counter
from sqlalchemy import text

from services.gateway.http.auth import KeyRing
from shared.bus.unit_of_work import ServiceContext

log = structlog.get_logger(__name__)

WRONG = Counter("paperprofit_keys_wrong", "Tries with a wrong key, and those refused after too many of them")

FLUSH_SECONDS = 5.0
LOG_SECONDS = 60.0
#: Addresses whose last log line is remembered. While all of them are younger than a minute, others are not logged.
LOG_AT_MOST = 100
#: Rows of one batch. Tries beyond it are counted together.
ROWS_AT_MOST = 200
OTHERS = ("(others)", "(others)")
#: A row counts tries with pauses shorter than this. After a longer one it starts again.
PAUSE = timedelta(minutes=5)
#: The characters that are shown of a key id that no key has. It might be a secret in the wrong field.
SHOWN = 8


class WrongKeys:
    """``clock`` is in seconds, from any moment on. Used on the event loop, but for ``flush``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tries: dict[tuple[str, str], int] = {}
        self._logged: dict[str, float] = {}

    def add(self, keys: KeyRing, key_id: str, address: str) -> None:
        """Count a wrong or refused try."""
        WRONG.inc()
        pair = (key_id if keys.knows(key_id) else shortened(key_id), address)
        if pair not in self._tries and len(self._tries) >= ROWS_AT_MOST:
            pair = OTHERS
        self._tries[pair] = self._tries.get(pair, 0) + 1
        self._log(key_id, address)

    def _log(self, key_id: str, address: str) -> None:
        now = self._clock()
        if now - self._logged.get(address, now - LOG_SECONDS) < LOG_SECONDS:
            return
        if len(self._logged) >= LOG_AT_MOST:
            self._logged = {known: at for known, at in self._logged.items() if now - at < LOG_SECONDS}
        if len(self._logged) < LOG_AT_MOST:
            self._logged[address] = now
            log.warning("wrong key", address=address, key_id=shortened(key_id))

    def take(self) -> dict[tuple[str, str], int]:
        """Return the tries since the last call, by key id and address."""
        tries, self._tries = self._tries, {}
        return tries


def flush(context: ServiceContext, tries: dict[tuple[str, str], int]) -> None:
    """Add the tries to the rows of ``gateway.wrong_keys``."""
    pairs = sorted(tries)
    values = {
        "key_ids": [key_id for key_id, _ in pairs],
        "addresses": [address for _, address in pairs],
        "tries": [tries[pair] for pair in pairs],
        "now": context.clock(),
        "pause": PAUSE,
    }
    with context.engine.begin() as connection:
        connection.execute(_ADD, values)


def shortened(key_id: str) -> str:
    """Return the first characters of a key id."""
    return key_id if len(key_id) <= SHOWN else f"{key_id[:SHOWN]}…"


_ADD = text("""
INSERT INTO gateway.wrong_keys AS known (key_id, address, tries, first_at, last_at)
SELECT key_id, address, tries, :now, :now
FROM unnest(CAST(:key_ids AS text[]), CAST(:addresses AS text[]), CAST(:tries AS bigint[]))
  AS added (key_id, address, tries)
ON CONFLICT (key_id, address) DO UPDATE SET
  tries = excluded.tries + CASE WHEN known.last_at > :now - CAST(:pause AS interval) THEN known.tries ELSE 0 END,
  first_at = CASE WHEN known.last_at > :now - CAST(:pause AS interval) THEN known.first_at ELSE :now END,
  last_at = :now
""")
