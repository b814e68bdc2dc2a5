"""Strategies: evaluations beside bare statements, and backtests beside backtesting.py and NautilusTrader.

`make bench-strategy`.
"""

import argparse
import sys
from functools import partial

from bench import strategy_backtests, strategy_evaluations
from bench.report import run_benchmark


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    options = parser.parse_args()
    runs, copies, symbols = (1, 5, 50) if options.quick else (7, 20, 500)
    return run_benchmark(
        "strategy",
        [
            partial(strategy_evaluations.measure, runs=runs, symbols=symbols),
            partial(strategy_backtests.measure_sets, runs=1 if options.quick else 3),
            partial(strategy_backtests.measure, runs=runs, copies=copies),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
