"""A trader's answers while 60 clients guess keys, beside the same answers while nobody does.

The guessers run in processes of their own, each on a connection that it keeps, and never pause. The trader asks with a
right key. Both are measured in turn on one embedded run, whose memory is read at the end. ``--quick`` takes two pairs.
"""

import argparse
import http.client
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from bench.embedded_run import EmbeddedRun
from bench.report import Goal, NotMeasured, Row, comparison, figure, interleaved, run_benchmark

GUESSERS, PROCESSES = 60, 2
PAIRS, QUICK_PAIRS = 5, 2
REQUESTS = 100
MEGABYTE = 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_guessing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two pairs only")
    quick: bool = parser.parse_args().quick
    return run_benchmark("guessing", [partial(measure, pairs=QUICK_PAIRS if quick else PAIRS)])


def measure(*, pairs: int) -> Sequence[Row]:
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder, EmbeddedRun(Path(os.path.realpath(folder))) as run:
        server = psutil.Process(run.process.pid)
        _median_answer(run)
        before = server.memory_info().rss / MEGABYTE
        memory: list[float] = []

        def beside_guessers() -> float:
            with _guessers(run):
                answer = _median_answer(run)
                memory.append(server.memory_info().rss / MEGABYTE)
            return answer

        answers = interleaved(beside_guessers, lambda: _median_answer(run), pairs)
    return [
        comparison(f"GET /v2/account beside {GUESSERS} guessers", "ms", answers, Goal("ours", "<=", 250)),
        figure("resident memory before", "MB", [before]),
        figure(f"resident memory beside {GUESSERS} guessers", "MB", memory, Goal("max", "<", 400)),
    ]


def _median_answer(run: EmbeddedRun) -> float:
    """Milliseconds until the trader has its answer. Raises NotMeasured if it is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", run.port, timeout=30)
    taken = []
    for _ in range(REQUESTS):
        begun = time.perf_counter()
        connection.request("GET", "/v2/account", headers=run.key_headers)
        answer = connection.getresponse()
        answer.read()
        taken.append(1000 * (time.perf_counter() - begun))
        if answer.status != 200:
            raise NotMeasured(f"the trader's answer was {answer.status}")
    connection.close()
    return median(taken)


@contextmanager
def _guessers(run: EmbeddedRun) -> Iterator[None]:
    spawn = multiprocessing.get_context("spawn")
    begun, ended = spawn.Event(), spawn.Event()
    guess = partial(_guess_together, run.port, run.key_id, GUESSERS // PROCESSES, begun, ended)
    processes = [spawn.Process(target=guess, args=[number]) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    try:
        if not begun.wait(30):
            raise NotMeasured("the guessers did not begin")
        yield
    finally:
        ended.set()
        for process in processes:
            process.join()


def _guess_together(port: int, key_id: str, number: int, begun: Event, ended: Event, process: int) -> None:
    """Half of the guessers know a key id."""
    threads = [
        threading.Thread(target=_guess, args=[port, key_id if each % 2 else f"PK{process}{each}", begun, ended])
        for each in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _guess(port: int, key_id: str, begun: Event, ended: Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    tries = 0
    while not ended.is_set():
        tries += 1
        headers = {"APCA-API-KEY-ID": key_id, "APCA-API-SECRET-KEY": f"wrong-{tries}"}
        connection.request("GET", "/v2/account", headers=headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status not in {401, 429}:
            raise NotMeasured(f"a guesser's answer was {answer.status}")
        begun.set()
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
