"""NautilusTrader's run of the SMA crossover; runs in its own environment, for ``strategy_backtests.py``."""

import csv
import sys
import time
from datetime import UTC, datetime

from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

FAST, SLOW, QTY = 10, 20, 10
VENUE = Venue("SIM")
GOOG = InstrumentId(Symbol("GOOG"), VENUE)
MINUTES = BarType.from_str("GOOG.SIM-1-MINUTE-LAST-EXTERNAL")
NANOSECONDS = 10**9


class Crossover(Strategy):
    def __init__(self) -> None:
        super().__init__()
        self.fast, self.slow = SimpleMovingAverage(FAST), SimpleMovingAverage(SLOW)
        self.was_above: bool | None = None
        self.fills = 0

    def on_start(self) -> None:
        self.register_indicator_for_bars(MINUTES, self.fast)
        self.register_indicator_for_bars(MINUTES, self.slow)
        self.subscribe_bars(MINUTES)

    def on_reset(self) -> None:
        self.fast.reset()
        self.slow.reset()
        self.was_above, self.fills = None, 0

    def on_bar(self, _bar: Bar) -> None:
        if not self.slow.initialized:
            return
        above = self.fast.value > self.slow.value
        if self.was_above is False and above and self.portfolio.is_flat(GOOG):
            self.submit_order(self.order_factory.market(GOOG, OrderSide.BUY, Quantity.from_int(QTY)))
        elif self.was_above and not above and self.portfolio.is_net_long(GOOG):
            self.submit_order(self.order_factory.market(GOOG, OrderSide.SELL, Quantity.from_int(QTY)))
        self.was_above = above

    def on_order_filled(self, _event: object) -> None:
        self.fills += 1


def main() -> None:
    quiet = LoggingConfig(log_level="OFF", bypass_logging=True)
    engine = BacktestEngine(BacktestEngineConfig(logging=quiet, risk_engine=RiskEngineConfig(bypass=True)))
    engine.add_venue(VENUE, OmsType.NETTING, AccountType.CASH, [Money(1_000_000, USD)], base_currency=USD)
    engine.add_instrument(Equity(GOOG, GOOG.symbol, USD, 2, Price.from_str("0.01"), Quantity.from_int(1), 0, 0))
    bars = _bars(sys.argv[1])
    engine.add_data(bars)
    strategy = Crossover()
    engine.add_strategy(strategy)
    for _ in sys.stdin:
        begun = time.process_time()
        engine.run()
        seconds = time.process_time() - begun
        print(len(bars), seconds, strategy.fills, flush=True)
        engine.reset()


def _bars(path: str) -> list[Bar]:
    with open(path, newline="") as file:  # noqa: PTH123
        return [_bar(row) for row in csv.DictReader(file)]


def _bar(row: dict[str, str]) -> Bar:
    at = int(datetime.fromisoformat(row["start"]).replace(tzinfo=UTC).timestamp() + 60) * NANOSECONDS
    opened, high, low, close = (Price(float(row[name]), 2) for name in ("open", "high", "low", "close"))
    return Bar(MINUTES, opened, high, low, close, Quantity(float(row["volume"]), 0), at, at)


if __name__ == "__main__":
    main()
