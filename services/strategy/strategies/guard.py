"""Run the code of a strategy within a time limit. It may be of another package, and raise anything or never end."""

from collections.abc import Callable
from threading import Event, Lock, Thread, get_ident
from typing import Generic, Self, TypeVar

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


class Watchdog:
    """Ends each decision of a strategy that takes longer than ``seconds``, and lets the strategy go on after it.

    All decisions are made in the thread that enters the block.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock, self._done, self._thread_id = Lock(), Event(), 0
        self._made = 0
        #: The number of the decision under way, None between two.
        self._present: int | None = None

    def __enter__(self) -> Self:
        self._thread_id = get_ident()
        Thread(target=self._watch, name="strategy-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def decide(self, decide: Callable[[Given], Result], view: Given) -> Result:
        """Return what a strategy decides on the view. Raises StrategyFailed."""
        self._made += 1
        self._present = self._made
        try:
            try:
                return gathered(decide, view)
            finally:
                with self._lock:
                    self._present = None
        except _TooLate:
            self._present = None
            raise StrategyFailed(f"did not end within {self._seconds:g} seconds") from None

    def _watch(self) -> None:
        before = None
        while not self._done.wait(self._seconds):
            with self._lock:
                present = self._present
                if present is not None and present == before:
                    raise_thread_exception(self._thread_id, _TooLate)  # type: ignore[no-untyped-call]
            before = present
