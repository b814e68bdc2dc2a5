"""Backtests of the SMA crossover, beside backtesting.py and NautilusTrader. `make bench-strategy`."""

import argparse
import sys
from functools import partial

from bench import strategy_backtests
from bench.report import run_benchmark


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    options = parser.parse_args()
    runs, copies = (1, 5) if options.quick else (7, 20)
    return run_benchmark("strategy", [partial(strategy_backtests.measure, runs=runs, copies=copies)])


if __name__ == "__main__":
    sys.exit(main())
