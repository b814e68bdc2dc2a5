"""Work that goes on beside the actors, on a thread of its own, until it is stopped."""

import threading
from abc import ABC, abstractmethod

STOP_SECONDS = 3.0


class Background(ABC):
    """A subclass writes ``run``, which returns soon after ``stopping`` is set."""

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    @abstractmethod
    def run(self) -> None:
        """The work itself."""

    @property
    def alive(self) -> bool:
        """Whether it still works; one that ended unasked makes its replica unhealthy."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end, and wait a moment until it has."""
        self.stopping.set()
        self._thread.join(STOP_SECONDS)
