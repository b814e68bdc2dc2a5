"""The limits on wrong keys: how many tries, whom they concern, and what they may cost."""

import asyncio
import threading
from typing import Any, cast
from uuid import uuid4

import pytest

from services.gateway.http.auth import KeyRing, Principal
from services.gateway.http.errors import TooManyRequests
from services.gateway.http.rate_limit import HASHES_AT_ONCE, WAITING_AT_MOST, Buckets, KeyGuard, network_of

HOME, AWAY = "203.0.113.9", "198.51.100.7"


class Keys:
    """One right key, ``PK``. It notes the hashes, and those that ran together."""

    def __init__(self) -> None:
        self.hashed: list[str] = []
        self.together = self.most_together = 0
        self.begun = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()
        self._proven: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def was_proven(self, key_id: str, secret: str) -> bool:
        return (key_id, secret) in self._proven

    def knows(self, key_id: str) -> bool:
        return key_id == "PK"

    def recognized(self, key_id: str, _secret: str) -> Principal:
        return Principal(key_id, uuid4(), frozenset())

    def verify(self, key_id: str, secret: str) -> Principal | None:
        with self._lock:
            self.hashed.append(key_id)
            self.together += 1
            self.most_together = max(self.most_together, self.together)
        self.begun.release()
        assert self.open.wait(10)
        with self._lock:
            self.together -= 1
        if (key_id, secret) != ("PK", "right"):
            return None
        self._proven.add((key_id, secret))
        return Principal(key_id, uuid4(), frozenset())


class Door:
    """A guard with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.keys = Keys()
        self.guard = KeyGuard(clock=lambda: self.now)

    def ask(self, secret: str, *, key_id: str = "PK", address: str = HOME) -> int | float:
        """Return the status of the answer, or the seconds of a refused one's Retry-After with a minus."""
        return asyncio.run(self.asked(secret, key_id=key_id, address=address))

    async def asked(self, secret: str, *, key_id: str = "PK", address: str = HOME) -> int:
        try:
            found = await self.guard.verified(cast("KeyRing", self.keys), address, key_id, secret)
        except TooManyRequests as refused:
            return -int(refused.headers["Retry-After"])
        return 401 if found is None else 200


@pytest.fixture
def door() -> Door:
    return Door()


def test_ten_wrong_tries_then_one_every_six_seconds(door: Door) -> None:
    """A refused try is not hashed, and does not lengthen the wait."""
    assert [door.ask("wrong") for _ in range(13)] == [401] * 10 + [-6] * 3
    assert len(door.keys.hashed) == 10
    door.now += 4
    assert door.ask("wrong") == -2
    door.now += 2
    assert [door.ask("wrong"), door.ask("wrong")] == [401, -6]


def test_many_key_ids_from_one_address_are_limited_together(door: Door) -> None:
    """Known and unknown ones alike."""
    found = [door.ask("wrong", key_id=f"PK{n % 20}") for n in range(40)]
    assert found == [401] * 30 + [-1] * 10


def test_who_knows_a_key_id_does_not_lock_out_its_owner(door: Door) -> None:
    """Neither at another address, nor at the same one if the owner's key was right before."""
    assert door.ask("right") == 200
    assert [door.ask("wrong") for _ in range(11)][-1] == -6
    assert door.ask("right") == 200
    assert door.ask("right", address=AWAY) == 200
    assert len(door.keys.hashed) == 11


def test_an_owner_who_was_not_there_before_gets_in_beside_a_guesser(door: Door) -> None:
    """The wrong tries of another address are not counted against this one."""
    assert [door.ask("wrong", address=AWAY) for _ in range(11)][-1] == -6
    assert door.ask("right") == 200


def test_guesses_at_one_key_id_from_many_addresses_are_limited(door: Door) -> None:
    """The owner's address may go on to sign in, here with a second secret of the same key."""
    assert door.ask("right") == 200
    spread = [door.ask("wrong", address=f"10.0.0.{n % 50}") for n in range(110)]
    assert spread == [401] * 100 + [-2] * 10
    assert door.ask("wrong") == 401


def test_a_right_key_gives_nothing_to_count(door: Door) -> None:
    """A hundred clients of one address sign in at once."""

    def right(key_id: str, secret: str) -> Principal | None:
        return Principal(key_id, uuid4(), frozenset({secret}))

    door.keys.verify = right  # type: ignore[method-assign]

    async def together() -> list[int]:
        return await asyncio.gather(*(door.asked("right", key_id=f"PK{n}") for n in range(100)))

    assert asyncio.run(together()) == [200] * 100


def test_at_most_two_keys_are_hashed_at_once_and_a_bounded_number_waits(door: Door) -> None:
    """A key that finds the queue full is refused at once. Those in it are refused unhashed once it is clear."""

    async def guesses() -> list[int]:
        door.keys.open.clear()
        tries = [asyncio.create_task(door.asked("wrong", key_id=f"PK{n}")) for n in range(WAITING_AT_MOST + 5)]
        for _ in range(HASHES_AT_ONCE):
            assert await asyncio.to_thread(door.keys.begun.acquire, timeout=10)
        assert [task.result() for task in tries if task.done()] == [-1] * 5
        door.keys.open.set()
        return await asyncio.gather(*tries)

    found = asyncio.run(guesses())
    assert door.keys.most_together == HASHES_AT_ONCE
    assert len(door.keys.hashed) == found.count(401) <= 30 + HASHES_AT_ONCE


def test_a_failure_of_the_database_is_no_wrong_key(door: Door) -> None:
    """The error is raised, and the next tries are not limited."""

    def away(*_given: Any) -> None:
        raise ConnectionError

    verify, door.keys.verify = door.keys.verify, away  # type: ignore[assignment,method-assign]
    for _ in range(20):
        with pytest.raises(ConnectionError):
            door.ask("right")
    door.keys.verify = verify  # type: ignore[method-assign]
    assert door.ask("right") == 200


def test_the_memory_of_the_limits_is_bounded() -> None:
    """The names used last are kept."""
    buckets = Buckets(1, 60.0, at_most=3)
    for name in ("a", "b", "a", "c", "d"):
        buckets.take(name, 0)
    assert buckets.names == ["a", "c", "d"]
    assert (buckets.wait("b", 0) > 0, buckets.wait("d", 0) > 0) == (False, True)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("x" * 100, "x" * 64),
    ],
)
def test_an_ipv6_address_counts_with_its_network(host: str, network: str) -> None:
    """One client has 2**64 of them."""
    assert network_of(host) == network


def test_a_key_id_is_cut_unless_a_key_has_it(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """It may be a secret in the wrong field. An address is logged once a minute."""
    for key_id in ("PK", "a-secret-in-the-wrong-field"):
        assert door.ask("a-wrong-secret", key_id=key_id) == 401
    tries = door.guard.wrong_keys.take()
    assert tries == {("PK", HOME): 1, ("a-secret…", HOME): 1}
    assert len(caplog.records) == 1
    door.now += 61
    door.ask("a-wrong-secret", key_id="a-secret-in-the-wrong-field")
    assert len(caplog.records) == 2
    assert "wrong-field" not in caplog.text
    assert "a-wrong-secret" not in str([record.__dict__ for record in caplog.records])


def test_a_batch_of_wrong_keys_has_a_bounded_number_of_rows(door: Door) -> None:
    """Those beyond it are counted together."""
    for n in range(300):
        door.ask("wrong", key_id="PK", address=f"10.0.{n // 250}.{n % 250}")
    tries = door.guard.wrong_keys.take()
    assert (len(tries), sum(tries.values()), tries["(others)", "(others)"]) == (201, 300, 100)
