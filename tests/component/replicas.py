"""Several replicas of a service that work at the same time."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from shared.bus.unit_of_work import ServiceContext
from shared.clock import Clock
from tests.component.watching import context_of

T = TypeVar("T")
ROUNDS = 20
THREADS = 8


@contextmanager
def two_replicas(service: str, urls: dict[str, str], clock: Clock) -> Iterator[list[ServiceContext]]:
    """Two contexts, each with an engine of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(context_of(service, urls, clock)) for _ in range(2)]


def together(work: Callable[[int], T], threads: int = THREADS) -> list[T]:
    """The results of the work for each number, done by as many threads that begin at the same time."""
    ready = threading.Barrier(threads)

    def begin(number: int) -> T:
        ready.wait(15)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(begin, range(threads)))
