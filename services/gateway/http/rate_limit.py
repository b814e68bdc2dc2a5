"""The check of a key for one request, with limits on wrong keys.

A key that was verified before is recognized without hashing, and is never limited. Any other key is refused with 429,
before it is hashed, after too many wrong tries:

    of one key id from one address   10, then one every 6 s
    of all key ids from one address  30, then one a second
    of one key id from all addresses 100, then one every 2 s, but for addresses from which it was once right

Nobody locks out the owner of a key by knowing its id. An IPv6 address counts with its whole /64. Hashing costs
16 MiB and 50 ms, so two threads of its own do it, and keys that find the queue full are refused at once.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, IPv6Network, ip_address

from prometheus_client import Counter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from services.gateway.http.auth import KeyRing, Principal
from services.gateway.http.errors import TooManyRequests
from services.gateway.http.wrong_keys import WrongKeys

REFUSED = Counter("paperprofit_keys_refused", "Keys refused with 429 before they were hashed", ["limit"])

#: Threads of their own keep the 16 MiB that a hash leaves behind in the allocator to these two.
HASHES_AT_ONCE = 2
#: Further keys are refused, so that nobody waits for more than about three seconds.
WAITING_AT_MOST = 128
REMEMBER_AT_MOST = 10_000
#: A client that repeats a refused key without a pause would otherwise cost as much as one that trades.
REFUSED_AFTER_SECONDS = 0.25


class Buckets:
    """Token buckets by name: ``burst`` tries at once, then one every ``seconds``. The names used last are kept.

    A bucket is the time at which it is full again, and one that is full is forgotten.
    """

    def __init__(self, burst: int, seconds: float, *, at_most: int = REMEMBER_AT_MOST) -> None:
        self._allowance = (burst - 1) * seconds
        self._seconds = seconds
        self._at_most = at_most
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """Return the seconds until the next try is allowed, at most 0 if it is allowed now."""
        return self._full_at.get(name, now) - now - self._allowance

    def take(self, name: str, now: float) -> None:
        """Count a try."""
        self._full_at[name] = max(self._full_at.pop(name, now), now) + self._seconds
        if len(self._full_at) > self._at_most:
            self._full_at.popitem(last=False)

    @property
    def names(self) -> list[str]:
        """The names that are remembered."""
        return list(self._full_at)


class KeyGuard:
    """The limits of one process. ``clock`` is in seconds, from any moment on."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.wrong_keys = WrongKeys(clock)
        self._clock = clock
        self._of_pair = Buckets(10, 6.0)
        self._of_address = Buckets(30, 1.0)
        self._of_key_id = Buckets(100, 2.0)
        self._owners: OrderedDict[str, None] = OrderedDict()
        self._hashers = ThreadPoolExecutor(HASHES_AT_ONCE, thread_name_prefix="key-hash")
        self._turns = asyncio.Semaphore(HASHES_AT_ONCE)
        self._waiting = 0

    async def verified(self, keys: KeyRing, address: str, key_id: str, secret: str) -> Principal | None:
        """Return the principal of the key, None if it is wrong. Raises TooManyRequests."""
        if keys.was_proven(key_id, secret):
            principal = await run_in_threadpool(keys.recognized, key_id, secret)
            if principal is not None:
                return principal
        self._refuse_guesses(keys, address, key_id)
        if self._waiting >= WAITING_AT_MOST:
            REFUSED.labels("hashing").inc()
            raise TooManyRequests("too many keys are being checked; retry in a moment", retry_after=1)
        self._waiting += 1
        try:
            async with self._turns:
                self._refuse_guesses(keys, address, key_id)  # others may have been wrong meanwhile
                loop = asyncio.get_running_loop()
                principal = await loop.run_in_executor(self._hashers, keys.verify, key_id, secret)
        finally:
            self._waiting -= 1
        self._count(keys, address, key_id, wrong=principal is None)
        return principal

    def _refuse_guesses(self, keys: KeyRing, address: str, key_id: str) -> None:
        """Raise TooManyRequests if there were too many wrong tries."""
        now, pair = self._clock(), f"{address} {key_id}"
        waits = {"pair": self._of_pair.wait(pair, now), "address": self._of_address.wait(address, now)}
        if pair not in self._owners:
            waits["key_id"] = self._of_key_id.wait(key_id, now)
        limit = max(waits, key=waits.__getitem__)
        if waits[limit] > 0:
            REFUSED.labels(limit).inc()
            self.wrong_keys.add(keys, key_id, address)
            raise TooManyRequests(
                "too many wrong keys; check the key ID and the secret key, and retry after the time in Retry-After",
                retry_after=waits[limit],
            )

    def _count(self, keys: KeyRing, address: str, key_id: str, *, wrong: bool) -> None:
        now, pair = self._clock(), f"{address} {key_id}"
        if wrong:
            self.wrong_keys.add(keys, key_id, address)
            for buckets, name in ((self._of_pair, pair), (self._of_address, address), (self._of_key_id, key_id)):
                buckets.take(name, now)
        else:
            self._owners[pair] = None
            self._owners.move_to_end(pair)
            if len(self._owners) > REMEMBER_AT_MOST:
                self._owners.popitem(last=False)


async def verified(keys: KeyRing, request: Request, key_id: str, secret: str) -> Principal | None:
    """Return the principal of the key, or None if the id or the secret is wrong. Raises TooManyRequests."""
    guard: KeyGuard = request.app.state.key_guard
    stored = key_id if key_id.isprintable() else "?"  # PostgreSQL cannot store a NUL, so no key has such an id
    try:
        return await guard.verified(keys, address_of(request), stored, secret)
    except TooManyRequests:
        await asyncio.sleep(REFUSED_AFTER_SECONDS)
        raise


def address_of(request: Request) -> str:
    """Return the client's network. It is that of the socket's peer unless a proxy is trusted."""
    return network_of(request.client.host if request.client else "unknown")


def network_of(host: str) -> str:
    """Return an IPv4 address as it is, and of an IPv6 one its /64, which one client may have as a whole."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Network((address, 64), strict=False))
    return str(address)
