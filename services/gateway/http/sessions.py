"""Browser sessions: the cookie, and the rows behind it. Only the hash of a cookie's token is stored."""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Row, text

SESSION_LIFE = timedelta(hours=12)
#: A key has at most this many sessions. Another one ends the oldest.
SESSIONS_PER_KEY = 20
#: Browsers take a cookie with this prefix only over https, from the host itself, and for all of its paths.
HOST_ONLY = "__Host-"


class Sessions:
    """The sessions of this instance.

    Cookies ignore ports, so the cookie's name has the instance's id: two instances on a host do not sign each other
    out.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._name = ""

    def cookie(self, *, secure: bool) -> str:
        """Return the name of the cookie. ``secure`` is True if the page is served by https."""
        if not self._name:
            with self._engine.connect() as connection:
                self._name = f"paperprofit_{connection.execute(_INSTANCE).scalar_one().hex[:12]}"
        return HOST_ONLY + self._name if secure else self._name

    def token(self, cookies: Mapping[str, str]) -> str:
        """Return the token of the cookie, empty if there is none."""
        return cookies.get(self.cookie(secure=True)) or cookies.get(self.cookie(secure=False), "")

    def open(self, key_id: str, proof: bytes, cookies: Mapping[str, str], now: datetime) -> str | None:
        """Open a session in the place of the browser's former one, and return its token.

        Returns None if the key was revoked, or has another secret than the one with this hash, which is its ``proof``.
        """
        token = secrets.token_urlsafe(32)
        values = {"hash": _digest(token), "key_id": key_id, "proof": proof, "now": now}
        values |= {"former": _digest(self.token(cookies)), "expires_at": now + SESSION_LIFE, "most": SESSIONS_PER_KEY}
        with self._engine.begin() as connection:
            if connection.execute(_LOCK_KEY, values).first() is None:
                return None
            connection.execute(_CLOSE, {"hash": values["former"]})
            connection.execute(_OPEN, values)
            connection.execute(_DROP_OLD, values)
        return token

    def find(self, cookies: Mapping[str, str], now: datetime) -> Row[Any] | None:
        """Return the key of the open session that the cookies name, or None."""
        token = self.token(cookies)
        if not token:
            return None
        with self._engine.connect() as connection:
            return connection.execute(_FIND, {"hash": _digest(token), "now": now}).first()

    def close(self, cookies: Mapping[str, str]) -> None:
        """End the session that the cookies name, if there is one."""
        with self._engine.begin() as connection:
            connection.execute(_CLOSE, {"hash": _digest(self.token(cookies))})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_INSTANCE = text("SELECT id FROM gateway.instance")
#: A change of the key waits for the session, which it then ends.
_LOCK_KEY = text("""
SELECT FROM gateway.api_keys
WHERE key_id = :key_id AND secret_hash = :proof AND revoked_at IS NULL FOR NO KEY UPDATE
""")
_OPEN = text("INSERT INTO gateway.sessions (token_hash, key_id, expires_at) VALUES (:hash, :key_id, :expires_at)")
_DROP_OLD = text("""
DELETE FROM gateway.sessions WHERE key_id = :key_id AND (expires_at <= :now OR token_hash IN (
  SELECT token_hash FROM gateway.sessions WHERE key_id = :key_id ORDER BY expires_at DESC, token_hash OFFSET :most))
""")
_FIND = text("""
SELECT k.key_id, k.account_id, k.scopes FROM gateway.sessions s JOIN gateway.api_keys k USING (key_id)
WHERE s.token_hash = :hash AND s.expires_at > :now AND k.revoked_at IS NULL
""")
_CLOSE = text("DELETE FROM gateway.sessions WHERE token_hash = :hash")
