"""Run the code of a strategy within a time limit. It may be of another package, and raise anything or never end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread, get_ident
from typing import Generic, TypeVar

from dramatiq.middleware.threading import raise_thread_exception

Result = TypeVar("Result")
Given = TypeVar("Given")

#: Seconds that a strategy has to decide.
SECONDS = 5.0
#: The characters of an error that are kept.
MOST_CHARACTERS = 500


class StrategyFailed(Exception):
    """The strategy raised an error or did not end in time. The text says which."""


class _TooLate(BaseException):
    """Raised inside of a strategy whose time is over. It is no Exception, so that the strategy does not catch it."""


class _Call(Generic[Result]):
    def __init__(self, call: Callable[[], Result]) -> None:
        self.call = call
        self.results: list[Result] = []
        self.error: str | None = None

    def __call__(self) -> None:
        try:
            self.results.append(gathered(lambda _: self.call(), None))
        except _TooLate:
            return
        except StrategyFailed as error:
            self.error = str(error)


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return what the call returns. Raises StrategyFailed.

    A call that takes longer is ended at its next line of Python. A system call in it goes on in its daemon thread.
    """
    running = _Call(call)
    thread = Thread(target=running, name="strategy", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive() and thread.ident is not None:
        raise_thread_exception(thread.ident, _TooLate)  # type: ignore[no-untyped-call]
        raise StrategyFailed(f"did not end within {seconds:g} seconds")
    if running.error is not None:
        raise StrategyFailed(running.error)
    return running.results[0]


def gathered(decide: Callable[[Given], Result], view: Given) -> Result:
    """Return what a strategy decides on the view. Raises StrategyFailed."""
    try:
        return decide(view)
    except Exception as error:
        raise StrategyFailed(f"{type(error).__name__}: {error}"[:MOST_CHARACTERS]) from error


@contextmanager
def watching(seconds: float, place: Callable[[], object]) -> Iterator[None]:
    """Run the block of this thread as long as ``place`` changes that often. Raises StrategyFailed otherwise."""
    done, lock, thread_id = Event(), Lock(), get_ident()

    def watch() -> None:
        before = place()
        while not done.wait(seconds):
            now = place()
            with lock:
                if done.is_set():
                    return
                if now == before:
                    raise_thread_exception(thread_id, _TooLate)  # type: ignore[no-untyped-call]
                    return
            before = now

    Thread(target=watch, name="strategy-watch", daemon=True).start()
    try:
        yield
    except _TooLate:
        raise StrategyFailed(f"did not end within {seconds:g} seconds") from None
    finally:
        with lock:
            done.set()
