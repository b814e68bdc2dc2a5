"""Background work on a thread of its own, beside the actors, until it is stopped."""

import threading
from abc import ABC, abstractmethod

STOP_SECONDS = 3.0


class Background(ABC):
    """A subclass implements ``run``, which returns soon after ``stopping`` is set."""

    def __init__(self, name: str) -> None:
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    @abstractmethod
    def run(self) -> None:
        """Do the work until ``stopping`` is set."""

    @property
    def alive(self) -> bool:
        """True while the thread runs. A thread that ends before ``stop`` makes its replica unhealthy."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, and wait for it for at most STOP_SECONDS."""
        self.stopping.set()
        self._thread.join(STOP_SECONDS)
