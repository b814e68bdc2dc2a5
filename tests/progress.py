"""``pytest -p tests.progress``: says what the tests wait for, whenever no result came for five seconds."""

import os
import threading
import time

import pytest

SECONDS = 5.0


class Progress(threading.Thread):
    """Writes to the terminal beside pytest, which captures the output while it imports and collects."""

    def __init__(self) -> None:
        super().__init__(name="progress", daemon=True)
        self.terminal = os.dup(1)
        self.begun = self.spoke = time.monotonic()
        self.results = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            now = time.monotonic()
            if now - self.spoke >= SECONDS:
                doing = (
                    f"{self.results} results so far"
                    if self.results
                    else "collecting the tests and starting their servers"
                )
                os.write(self.terminal, f"\n  … {doing}: {now - self.begun:.0f} s\n".encode())
                self.spoke = now


_progress = Progress()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _progress.start()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _progress.results += 1
        _progress.spoke = time.monotonic()


def pytest_unconfigure() -> None:
    _progress.ended.set()
