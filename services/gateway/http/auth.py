"""API keys: their scopes, their salted scrypt hashes, and their verification, remembered for half a second."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine, Row, text

from services.gateway.http.sessions import Sessions
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

Kept = TypeVar("Kept")
Value = TypeVar("Value")

READ = "read"
TRADE = "trade"
FUND = "fund"
OPERATE = "operate"
ADMIN = "admin"
#: A handler with this scope tells by itself if the key trades its own account or operates all.
TRADE_OR_OPERATE = "trade or operate"
#: The scopes that each scope includes. ``fund`` moves the cash of the key's own account.
INCLUDED = {
    READ: {READ},
    TRADE: {READ, TRADE, TRADE_OR_OPERATE},
    FUND: {READ, FUND},
    OPERATE: {READ, FUND, OPERATE, TRADE_OR_OPERATE},
    ADMIN: {READ, TRADE, FUND, OPERATE, ADMIN, TRADE_OR_OPERATE},
}
#: All scopes, for the key of the demo account.
SCOPES = [READ, TRADE, FUND, OPERATE, ADMIN]
REMEMBER_SECONDS = 0.5
REMEMBER_AT_MOST = 10_000
#: The time of a key's last use is written at most this often.
NOTE_USE_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Principal:
    """The authenticated key: the account that it trades, and its scopes.

    ``proof`` is the stored hash of the secret that was sent, empty for a session.
    """

    key_id: str
    account_id: UUID
    scopes: frozenset[str]
    proof: bytes = field(default=b"", repr=False, compare=False)

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
    connection: Connection,
    key_id: str,
    secret: str,
    account_id: UUID,
    scopes: Sequence[str],
    now: datetime,
    name: str = "",
) -> bool:
    """Store a new key as a hash. Return False if the key id is known: its key, valid or revoked, is left alone."""
    salt = secrets.token_bytes(16)
    values = {"key_id": key_id, "salt": salt, "hash": _hash(secret, salt), "account_id": account_id}
    added = connection.execute(_ADD_KEY, {**values, "scopes": list(scopes), "now": now, "name": name})
    return added.rowcount == 1


def has_secret(connection: Connection, key_id: str, secret: str) -> bool:
    """Return True if the key is valid and this is its secret."""
    row = connection.execute(_KEY, {"key_id": key_id}).first()
    return row is not None and hmac.compare_digest(_hash(secret, row.salt), bytes(row.secret_hash))


def valid_key_ids(connection: Connection, account_id: UUID) -> list[str]:
    """Return the account's keys that are not revoked, the oldest first."""
    return list(connection.execute(_VALID, {"account_id": account_id}).scalars())


def lock_key(connection: Connection, key_id: str) -> Row[Any] | None:
    """Lock the key, and return its row, or None if the id is unknown."""
    return connection.execute(_LOCK_KEY, {"key_id": key_id}).first()


def set_secret(connection: Connection, key_id: str, secret: str) -> None:
    """Give a valid key another secret, and sign out its browsers."""
    salt = secrets.token_bytes(16)
    connection.execute(_SET_SECRET, {"key_id": key_id, "salt": salt, "hash": _hash(secret, salt)})
    connection.execute(_CLOSE_SESSIONS, {"key_ids": [key_id]})


def rename(connection: Connection, key_id: str, name: str) -> None:
    connection.execute(_RENAME, {"key_id": key_id, "name": name})


def revoke(connection: Connection, key_ids: Sequence[str], now: datetime) -> None:
    """Revoke the keys, and sign out their browsers."""
    connection.execute(_REVOKE, {"key_ids": list(key_ids), "now": now})
    connection.execute(_CLOSE_SESSIONS, {"key_ids": list(key_ids)})


def revoke_keys(connection: Connection, account_id: UUID, now: datetime) -> list[str]:
    """Revoke the account's keys, sign out its browsers, and return the scopes that the keys had."""
    rows = connection.execute(_LOCK_VALID, {"account_id": account_id}).all()
    revoke(connection, [row.key_id for row in rows], now)
    return sorted({scope for row in rows for scope in row.scopes})


def lock_admin_keys(connection: Connection) -> set[str]:
    """Lock the valid keys with the scope ``admin``, so that no other transaction revokes one, and return their ids."""
    return set(connection.execute(_LOCK_ADMINS).scalars())


class KeyRing:
    """Verify keys, and note their use.

    A key's row is read again twice a second, so a revoked key stops working within half a second. Its secret is hashed
    once for as long as the row stays the same.
    """

    def __init__(self, engine: Engine) -> None:
        self.sessions = Sessions(engine)
        self._engine = engine
        self._noted: dict[str, datetime] = {}
        self._notes = ThreadPoolExecutor(max_workers=1, thread_name_prefix="key-use")
        self._rows: dict[str, tuple[float, Row[Any]]] = {}
        self._proven: dict[bytes, bytes] = {}

    def verify(self, key_id: str, secret: str) -> Principal | None:
        """Return the key's principal, or None. A wrong key takes as long as a right one that is new."""
        row = self._row(key_id)
        token = _token(key_id, secret)
        if row is not None and self._proven.get(token) != bytes(row.secret_hash):
            row = self._row(key_id, max_age=0)  # the key may just have got this secret
        salt, expected = (row.salt, bytes(row.secret_hash)) if row else (b"-" * 16, b"")
        if row is None or self._proven.get(token) != expected:
            if not hmac.compare_digest(_hash(secret, salt), expected) or row is None:
                return None
            _keep(self._proven, token, expected)
        return Principal(row.key_id, row.account_id, frozenset(row.scopes), expected)

    def was_proven(self, key_id: str, secret: str) -> bool:
        """Return True if the key was verified before. It may have been revoked since."""
        return _token(key_id, secret) in self._proven

    def recognized(self, key_id: str, secret: str) -> Principal | None:
        """Return the principal of a valid key that was verified before, or None, without hashing the secret."""
        row, expected = self._row(key_id), self._proven.get(_token(key_id, secret))
        if row is None or expected is None or not hmac.compare_digest(bytes(row.secret_hash), expected):
            return None
        return Principal(row.key_id, row.account_id, frozenset(row.scopes), expected)

    def knows(self, key_id: str) -> bool:
        """Return True if the id is that of a valid key, as far as it was asked for."""
        return key_id in self._rows

    def signed_in(self, cookies: Mapping[str, str], now: datetime) -> Principal | None:
        """Return the principal of the session cookie, or None if there is no open session."""
        row = self.sessions.find(cookies, now)
        return Principal(row.key_id, row.account_id, frozenset(row.scopes)) if row else None

    def note_use(self, key_id: str, now: datetime) -> None:
        """Have the time of the key's use written on another thread, at most once in NOTE_USE_EVERY."""
        noted = self._noted.get(key_id)
        if noted is None or now - noted >= NOTE_USE_EVERY:
            _keep(self._noted, key_id, now)
            self._notes.submit(self._write_use, key_id, now)

    def _write_use(self, key_id: str, now: datetime) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(_NOTE_USE, {"key_id": key_id, "now": now})
        except DATABASE_ERRORS as error:
            log.warning("the use of a key was not noted", key_id=key_id, error=str(error).splitlines()[0])

    def _row(self, key_id: str, max_age: float = REMEMBER_SECONDS) -> Row[Any] | None:
        """Return the row of a valid key, at most so many seconds old."""
        now = time.monotonic()  # before the query: what is committed after this is seen in time
        if key_id in self._rows:
            read_at, known = self._rows[key_id]
            if now - read_at < max_age:
                return known
        with self._engine.connect() as connection:
            row = connection.execute(_KEY, {"key_id": key_id}).first()
        if row is not None:
            _keep(self._rows, key_id, (now, row))
        return row


def _keep(known: dict[Kept, Value], key: Kept, value: Value) -> None:
    if len(known) >= REMEMBER_AT_MOST:
        known.clear()
    known[key] = value


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1)


def _token(key_id: str, secret: str) -> bytes:
    return hashlib.sha256(f"{key_id}\0{secret}".encode()).digest()


_ADD_KEY = text("""
INSERT INTO gateway.api_keys (key_id, secret_hash, salt, account_id, scopes, created_at, name)
VALUES (:key_id, :hash, :salt, :account_id, :scopes, :now, :name)
ON CONFLICT (key_id) DO NOTHING
""")
_VALID = text("""
SELECT key_id FROM gateway.api_keys WHERE account_id = :account_id AND revoked_at IS NULL ORDER BY created_at, key_id
""")
_LOCK_VALID = text("""
SELECT key_id, scopes FROM gateway.api_keys
WHERE account_id = :account_id AND revoked_at IS NULL ORDER BY key_id FOR UPDATE
""")
_LOCK_ADMINS = text("""
SELECT key_id FROM gateway.api_keys WHERE 'admin' = ANY(scopes) AND revoked_at IS NULL ORDER BY key_id FOR UPDATE
""")
_LOCK_KEY = text("""
SELECT key_id, name, account_id, scopes, created_at, last_used_at, revoked_at FROM gateway.api_keys
WHERE key_id = :key_id FOR UPDATE
""")
_SET_SECRET = text("""
UPDATE gateway.api_keys SET secret_hash = :hash, salt = :salt WHERE key_id = :key_id AND revoked_at IS NULL
""")
_RENAME = text("UPDATE gateway.api_keys SET name = :name WHERE key_id = :key_id")
_REVOKE = text("UPDATE gateway.api_keys SET revoked_at = :now WHERE key_id = ANY(:key_ids) AND revoked_at IS NULL")
_CLOSE_SESSIONS = text("DELETE FROM gateway.sessions WHERE key_id = ANY(:key_ids)")
_KEY = text("""
SELECT key_id, secret_hash, salt, account_id, scopes FROM gateway.api_keys
WHERE key_id = :key_id AND revoked_at IS NULL
""")
_NOTE_USE = text("""
UPDATE gateway.api_keys SET last_used_at = :now
WHERE key_id = :key_id AND (last_used_at IS NULL OR last_used_at < :now)
""")
