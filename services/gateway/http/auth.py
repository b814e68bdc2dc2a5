"""API keys: stored as salted scrypt hashes, remembered for a second once they are verified."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, text

Kept = TypeVar("Kept")
Value = TypeVar("Value")

READ = "read"
TRADE = "trade"
FUND = "fund"
OPERATE = "operate"
ADMIN = "admin"
#: The scopes that each scope includes. ``fund`` moves the cash of the key's own account.
INCLUDED = {
    READ: {READ},
    TRADE: {READ, TRADE},
    FUND: {READ, FUND},
    OPERATE: {READ, FUND, OPERATE},
    ADMIN: {READ, TRADE, FUND, OPERATE, ADMIN},
}
SESSION_LIFE = timedelta(hours=12)
REMEMBER_SECONDS = 1.0
REMEMBER_AT_MOST = 10_000


@dataclass(frozen=True)
class Principal:
    """The authenticated key: the account that it trades, and its scopes."""

    key_id: str
    account_id: UUID
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Return True if one of the key's scopes includes this one."""
        return any(scope in INCLUDED[each] for each in self.scopes)


@dataclass(frozen=True)
class Key:
    """A valid key. ``secret`` is set only if the key was just made: it is shown once and not stored."""

    key_id: str
    secret: str | None = None


def new_key_id() -> str:
    """Return a random key id, in the shape of Alpaca's paper keys."""
    return "PK" + secrets.token_hex(9).upper()


def new_secret() -> str:
    """Return a random secret of 40 characters."""
    return secrets.token_urlsafe(30)


def add_key(
    connection: Connection, key_id: str, secret: str, account_id: UUID, scopes: list[str], now: datetime
) -> None:
    """Store the key's hash. A known key gets the new secret, a revoked one stays revoked."""
    salt = secrets.token_bytes(16)
    values = {"key_id": key_id, "salt": salt, "hash": _hash(secret, salt), "account_id": account_id}
    connection.execute(_ADD_KEY, {**values, "scopes": scopes, "now": now})


def valid_key_ids(connection: Connection, account_id: UUID) -> list[str]:
    """Return the account's keys that are not revoked, the oldest first."""
    return list(connection.execute(_VALID, {"account_id": account_id}).scalars())


def revoke_keys(connection: Connection, account_id: UUID) -> list[str]:
    """Revoke the account's keys, sign out its browsers, and return the scopes that the keys had."""
    rows = connection.execute(_LOCK_VALID, {"account_id": account_id}).all()
    key_ids = [row.key_id for row in rows]
    connection.execute(_REVOKE, {"key_ids": key_ids})
    connection.execute(_CLOSE_SESSIONS, {"key_ids": key_ids})
    return sorted({scope for row in rows for scope in row.scopes})


class KeyRing:
    """Verify keys and browser sessions.

    A key's row is read again once a second, so a revoked key stops working within a second. Its secret is hashed
    once for as long as the row stays the same.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows: dict[str, tuple[float, Row[Any]]] = {}
        self._proven: dict[bytes, bytes] = {}

    def verify(self, key_id: str, secret: str) -> Principal | None:
        """Return the key's principal, or None. A wrong key takes as long as a right one that is new."""
        row = self._row(key_id)
        token = _token(key_id, secret)
        salt, expected = (row.salt, bytes(row.secret_hash)) if row else (b"-" * 16, b"")
        if row is None or self._proven.get(token) != expected:
            if not hmac.compare_digest(_hash(secret, salt), expected) or row is None:
                return None
            _keep(self._proven, token, expected)
        return Principal(row.key_id, row.account_id, frozenset(row.scopes))

    def was_proven(self, key_id: str, secret: str) -> bool:
        """Return True if the key was verified before. It may have been revoked since."""
        return _token(key_id, secret) in self._proven

    def recognized(self, key_id: str, secret: str) -> Principal | None:
        """Return the principal of a valid key that was verified before, or None, without hashing the secret."""
        row, expected = self._row(key_id), self._proven.get(_token(key_id, secret))
        if row is None or expected is None or not hmac.compare_digest(bytes(row.secret_hash), expected):
            return None
        return Principal(row.key_id, row.account_id, frozenset(row.scopes))

    def knows(self, key_id: str) -> bool:
        """Return True if the id is that of a valid key, as far as it was asked for."""
        return key_id in self._rows

    def _row(self, key_id: str) -> Row[Any] | None:
        """Return the row of a valid key, at most REMEMBER_SECONDS old."""
        now = time.monotonic()  # before the query: what is committed after this is seen in time
        if key_id in self._rows:
            read_at, known = self._rows[key_id]
            if now - read_at < REMEMBER_SECONDS:
                return known
        with self._engine.connect() as connection:
            row = connection.execute(_KEY, {"key_id": key_id}).first()
        if row is not None:
            _keep(self._rows, key_id, (now, row))
        return row

    def open_session(self, principal: Principal, now: datetime) -> str:
        """Open a session and return the token for the browser's cookie. Only the token's hash is stored."""
        token = secrets.token_urlsafe(32)
        values = {
            "hash": _digest(token),
            "key_id": principal.key_id,
            "expires_at": now + SESSION_LIFE,
            "now": now,
        }
        with self._engine.begin() as connection:
            connection.execute(_DROP_EXPIRED, values)
            connection.execute(_ADD_SESSION, values)
        return token

    def session(self, token: str, now: datetime) -> Principal | None:
        """Return the principal of an open session, or None if the token is unknown or has expired."""
        with self._engine.connect() as connection:
            row = connection.execute(_SESSION, {"hash": _digest(token), "now": now}).first()
        return Principal(row.key_id, row.account_id, frozenset(row.scopes)) if row else None

    def close_session(self, token: str) -> None:
        """End the session. An unknown token changes nothing."""
        with self._engine.begin() as connection:
            connection.execute(_CLOSE_SESSION, {"hash": _digest(token)})


def _keep(known: dict[Kept, Value], key: Kept, value: Value) -> None:
    if len(known) >= REMEMBER_AT_MOST:
        known.clear()
    known[key] = value


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1)


def _token(key_id: str, secret: str) -> bytes:
    return hashlib.sha256(f"{key_id}\0{secret}".encode()).digest()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_ADD_KEY = text("""
INSERT INTO gateway.api_keys (key_id, secret_hash, salt, account_id, scopes, created_at)
VALUES (:key_id, :hash, :salt, :account_id, :scopes, :now)
ON CONFLICT (key_id) DO UPDATE SET secret_hash = excluded.secret_hash, salt = excluded.salt,
  account_id = excluded.account_id, scopes = excluded.scopes
WHERE api_keys.scopes <> '{}'
""")
#: A revoked key keeps its row without scopes, so that its id is never valid again.
_VALID = text("""
SELECT key_id FROM gateway.api_keys WHERE account_id = :account_id AND scopes <> '{}' ORDER BY created_at, key_id
""")
_LOCK_VALID = text("""
SELECT key_id, scopes FROM gateway.api_keys WHERE account_id = :account_id AND scopes <> '{}' FOR UPDATE
""")
_REVOKE = text("UPDATE gateway.api_keys SET scopes = '{}' WHERE key_id = ANY(:key_ids)")
_CLOSE_SESSIONS = text("DELETE FROM gateway.sessions WHERE key_id = ANY(:key_ids)")
_KEY = text("""
SELECT key_id, secret_hash, salt, account_id, scopes FROM gateway.api_keys
WHERE key_id = :key_id AND scopes <> '{}'
""")
_ADD_SESSION = text("INSERT INTO gateway.sessions VALUES (:hash, :key_id, :expires_at)")
_DROP_EXPIRED = text("DELETE FROM gateway.sessions WHERE expires_at < :now")
_SESSION = text("""
SELECT k.key_id, k.account_id, k.scopes FROM gateway.sessions s JOIN gateway.api_keys k USING (key_id)
WHERE s.token_hash = :hash AND s.expires_at > :now AND k.scopes <> '{}'
""")
_CLOSE_SESSION = text("DELETE FROM gateway.sessions WHERE token_hash = :hash")
