"""API keys: stored as salted scrypt hashes, verified once a minute and remembered in between."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine, text

TRADE = "trade"
OPERATE = "operate"
SESSION_LIFE = timedelta(hours=12)
REMEMBER_SECONDS = 60.0
REMEMBER_AT_MOST = 10_000


@dataclass(frozen=True)
class Principal:
    """Who asks: a key, the account it trades and what it may do."""

    key_id: str
    account_id: UUID
    scopes: frozenset[str]


def new_key_id() -> str:
    return "PK" + secrets.token_hex(9).upper()


def new_secret() -> str:
    return secrets.token_urlsafe(30)


def add_key(
    connection: Connection, key_id: str, secret: str, account_id: UUID, scopes: list[str], now: datetime
) -> None:
    """Store the key's hash; a key that is there gets the new secret."""
    salt = secrets.token_bytes(16)
    values = {"key_id": key_id, "salt": salt, "hash": _hash(secret, salt), "account_id": account_id}
    connection.execute(_ADD_KEY, {**values, "scopes": scopes, "now": now})


def has_key(connection: Connection, account_id: UUID) -> bool:
    return connection.execute(_HAS_KEY, {"account_id": account_id}).first() is not None


class KeyRing:
    """Verifies keys and browser sessions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[bytes, tuple[float, Principal]] = {}

    def verify(self, key_id: str, secret: str) -> Principal | None:
        """The key's principal, or None; a wrong key costs as much time as a right one."""
        token = hashlib.sha256(f"{key_id}\0{secret}".encode()).digest()
        until, known = self._known.get(token, (0.0, None))
        if known is not None and until > time.monotonic():
            return known
        with self._engine.connect() as connection:
            row = connection.execute(_KEY, {"key_id": key_id}).first()
        salt, expected = (row.salt, row.secret_hash) if row else (b"-" * 16, b"")
        if not hmac.compare_digest(_hash(secret, salt), bytes(expected)) or row is None:
            return None
        principal = Principal(row.key_id, row.account_id, frozenset(row.scopes))
        self._remember(token, principal)
        return principal

    def _remember(self, token: bytes, principal: Principal) -> None:
        if len(self._known) >= REMEMBER_AT_MOST:
            self._known.clear()
        self._known[token] = (time.monotonic() + REMEMBER_SECONDS, principal)

    def open_session(self, principal: Principal, now: datetime) -> str:
        """A token for the browser's cookie; only its hash is stored."""
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
        with self._engine.connect() as connection:
            row = connection.execute(_SESSION, {"hash": _digest(token), "now": now}).first()
        return Principal(row.key_id, row.account_id, frozenset(row.scopes)) if row else None

    def close_session(self, token: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(_CLOSE_SESSION, {"hash": _digest(token)})


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


_ADD_KEY = text("""
INSERT INTO gateway.api_keys (key_id, secret_hash, salt, account_id, scopes, created_at)
VALUES (:key_id, :hash, :salt, :account_id, :scopes, :now)
ON CONFLICT (key_id) DO UPDATE SET secret_hash = excluded.secret_hash, salt = excluded.salt,
  account_id = excluded.account_id, scopes = excluded.scopes
""")
_HAS_KEY = text("SELECT 1 FROM gateway.api_keys WHERE account_id = :account_id")
_KEY = text("SELECT key_id, secret_hash, salt, account_id, scopes FROM gateway.api_keys WHERE key_id = :key_id")
_ADD_SESSION = text("INSERT INTO gateway.sessions VALUES (:hash, :key_id, :expires_at)")
_DROP_EXPIRED = text("DELETE FROM gateway.sessions WHERE expires_at < :now")
_SESSION = text("""
SELECT k.key_id, k.account_id, k.scopes FROM gateway.sessions s JOIN gateway.api_keys k USING (key_id)
WHERE s.token_hash = :hash AND s.expires_at > :now
""")
_CLOSE_SESSION = text("DELETE FROM gateway.sessions WHERE token_hash = :hash")
