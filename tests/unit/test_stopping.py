"""The embedded run ends by a signal that was lost in a destructor, too."""

import os
import signal
from collections.abc import Iterator

import pytest

from embedded import __main__ as embedded


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The signals' handlers as the embedded run sets them, and after the test as they were."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    for signum in before:
        signal.signal(signum, embedded.ask_to_stop)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)
    embedded._asked_to_stop.clear()


class Destroyed:
    """Receives the signal while it is destroyed, as a pooled connection may."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # the handler runs between two of these
            pass


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_python_drops_is_raised_again_at_the_next_tick() -> None:
    """Python prints and ignores an exception in a destructor. Without a second one the process would go on for ever."""
    embedded.stop_if_asked()
    Destroyed()
    with pytest.raises(embedded.Stop):
        embedded.stop_if_asked()
