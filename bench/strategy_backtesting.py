"""backtesting.py's run of the SMA crossover; runs in its own environment, for ``strategy_backtests.py``."""

import sys
import time
import warnings

import pandas as pd  # type: ignore[import-untyped,unused-ignore]
from backtesting import Backtest, Strategy  # type: ignore[import-not-found,unused-ignore]
from backtesting.lib import crossover  # type: ignore[import-not-found,unused-ignore]
from backtesting.test import SMA  # type: ignore[import-not-found,unused-ignore]

FAST, SLOW, QTY = 10, 20, 10


class Crossover(Strategy):  # type: ignore[misc,unused-ignore]
    def init(self) -> None:
        self.fast = self.I(SMA, self.data.Close, FAST)
        self.slow = self.I(SMA, self.data.Close, SLOW)

    def next(self) -> None:
        if crossover(self.fast, self.slow):
            self.buy(size=QTY)
        elif crossover(self.slow, self.fast):
            self.position.close()


def main() -> None:
    warnings.filterwarnings("ignore")
    bars = pd.read_csv(sys.argv[1], index_col=0, parse_dates=True)
    bars.columns = [name.title() for name in bars.columns]
    backtest = Backtest(bars, Crossover, cash=1_000_000, finalize_trades=True)
    for _ in sys.stdin:
        begun = time.process_time()
        result = backtest.run()
        print(len(bars), time.process_time() - begun, 2 * int(result["# Trades"]), flush=True)


if __name__ == "__main__":
    main()
