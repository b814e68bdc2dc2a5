"""Bars a second of CPU time of the SMA crossover, beside backtesting.py and NautilusTrader on the same bars.

The bars are GOOG's recorded days as minutes, also many copies of them. Each side has them in memory and computes its
own averages. Ours and NautilusTrader's keep an account to the cent. All must come to the same number of fills.
"""

import csv
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from bench.jobs_environments import install, python_of
from bench.report import Goal, NotMeasured, Row, comparison, figure, interleaved
from services.marketdata.providers.replay import recording
from services.strategy.backtest.optimise import trial
from services.strategy.backtest.run import run
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Setup
from services.strategy.strategies.library.crossover import Averages, SmaCrossover
from services.strategy.strategies.view import Bar
from shared.contracts.backtests import OptimisationRequest
from shared.exchange.market_rules import MarketRules

HERE = Path(__file__).parent
MINUTE, BEGIN = timedelta(minutes=1), datetime(2000, 1, 1, tzinfo=UTC)
NAUTILUS = HERE.parent / ".venv-nautilus" / "bin" / "python"
BACKTESTING = ("backtesting==0.6.5",)
LEAST, GOAL = 50_000, Goal("ratio", ">=", 1)


def measure(*, runs: int, copies: int) -> Sequence[Row]:
    """``runs`` pairs with each reference, on the recording and on so many ``copies`` of it one after the other."""
    install("backtesting", BACKTESTING)
    if not NAUTILUS.exists():
        raise NotMeasured("NautilusTrader has an environment of its own, which make bench-strategy makes")
    whole = minutes(1)
    least = Goal("ours", ">=", LEAST)
    rows = [figure("backtest of the SMA crossover", "bars/s", [_rate(whole) for _ in range(runs)], least)]
    for name, python in (("backtesting.py", python_of("backtesting")), ("NautilusTrader", NAUTILUS)):
        for series in (whole, minutes(copies)):
            print(f"{name}: {len(series.bars):,} bars, {runs} runs", flush=True)
            with _peer(python, name, series) as process:
                theirs = partial(_their_rate, process, _fills(series))
                theirs()
                pairs = interleaved(partial(_rate, series), theirs, runs)
            rows.append(comparison(f"the same on {len(series.bars):,} bars, beside {name}", "bars/s", pairs, GOAL))
    return rows


def measure_sets(*, runs: int, sets: int = 100) -> Sequence[Row]:
    """``sets`` sets of parameters on two processes, beside all of them on one."""
    context = get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for _ in pool.map(_trials, [(0, 2), (2, 4)]):
            """Both have started and read the bars."""
        alone = partial(_sets_a_second, pool, [(0, sets)])
        both = partial(_sets_a_second, pool, [(0, sets // 2), (sets // 2, sets)])
        pairs = interleaved(both, alone, runs)
    name = f"{sets} sets of parameters on two workers, beside one"
    return [comparison(name, "sets/s", pairs, Goal("ratio", ">=", 1.8))]


def _sets_a_second(pool: ProcessPoolExecutor, parts: Sequence[tuple[int, int]]) -> float:
    begun = time.perf_counter()
    done = sum(pool.map(_trials, parts))
    return done / (time.perf_counter() - begun)


def _trials(part: tuple[int, int]) -> int:
    """Run these sets, as a part of the job ``optimise`` does."""
    series = minutes(1)
    for number in range(*part):
        trial(_SETS, {"fast": 5 + number % 10, "slow": 20 + number // 10}, [series])
    return part[1] - part[0]


_SETS = OptimisationRequest.model_validate(
    {
        "strategy": {"kind": "sma_crossover"}, "symbols": ["GOOG"], "interval": "1m", "from": "1999-12-01T00:00:00Z",
        "to": "2010-01-01T00:00:00Z", "search": {"parameters": {"fast": [5]}},
    }
)  # fmt: skip


def minutes(copies: int) -> Series:
    days = [day for _ in range(copies) for day in recording()["GOOG"]]
    bars = [
        Bar(BEGIN + number * MINUTE, day.open, day.high, day.low, day.close, day.volume)
        for number, day in enumerate(days)
    ]
    return Series("GOOG", bars, MINUTE)


def _setup() -> Setup:
    rules = MarketRules(half_spread=Decimal(0))
    return Setup(strategy=SmaCrossover(Averages(fast=10, slow=20)), cash=Decimal(1_000_000), rules=rules)


def _fills(series: Series) -> int:
    return len(run(_setup(), [series]).exchange.fills)


def _rate(series: Series) -> float:
    begun = time.process_time()
    run(_setup(), [series])
    return len(series.bars) / (time.process_time() - begun)


@contextmanager
def _peer(python: Path, name: str, series: Series) -> Iterator["subprocess.Popen[str]"]:
    """A process that has read the bars, and answers each line of its input with seconds and fills of a run."""
    script = {"backtesting.py": "strategy_backtesting.py", "NautilusTrader": "strategy_nautilus.py"}[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["start", "open", "high", "low", "close", "volume"])
            writer.writerows(
                [f"{bar.start:%Y-%m-%d %H:%M}", bar.open, bar.high, bar.low, bar.close, bar.volume]
                for bar in series.bars
            )
        command = [str(python), str(HERE / script), str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.terminate()


def _their_rate(process: "subprocess.Popen[str]", fills: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("run\n")
    process.stdin.flush()
    answer = process.stdout.readline().split()
    if len(answer) != 3:
        raise NotMeasured("a reference did not answer")
    bars, seconds, theirs = int(answer[0]), float(answer[1]), int(answer[2])
    if abs(theirs - fills) > 1:  # backtesting.py closes an open trade at the end
        raise NotMeasured(f"a reference came to {theirs} fills, ours to {fills}")
    return bars / seconds
