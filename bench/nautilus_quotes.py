"""NautilusTrader's backtest engine with orders that rest far from the market; runs in its own environment.

``python nautilus_quotes.py SYMBOLS RESTING`` places RESTING limits on each symbol, half of them to buy at half the
price and half to sell at twice of it, and says ``ready``. Each line of its input is a number of quotes of each symbol;
the answer is how many a second it took in.
"""

import sys
import time

from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("SIM")
SECOND = 10**9


class Resting(Strategy):
    def __init__(self, symbols: list[InstrumentId], count: int) -> None:
        super().__init__()
        self._symbols = symbols
        self._count = count

    def on_start(self) -> None:
        one, low, high = Quantity.from_int(1), Price.from_str("50.00"), Price.from_str("200.00")
        for symbol in self._symbols:
            for number in range(self._count):
                side, price = (OrderSide.BUY, low) if number % 2 else (OrderSide.SELL, high)
                self.submit_order(self.order_factory.limit(symbol, side, one, price))


def main() -> None:
    count, resting = map(int, sys.argv[1:])
    symbols = [InstrumentId(Symbol(f"S{number}"), VENUE) for number in range(count)]
    engine = _engine(symbols)
    engine.add_strategy(Resting(symbols, resting))
    _rate(engine, _quotes(symbols, 0, 1))
    if engine.cache.orders_open_count() != count * resting:
        sys.exit(f"{engine.cache.orders_open_count()} orders are open")
    print("ready", flush=True)
    begun = 1
    for line in sys.stdin:
        rounds = int(line)
        print(_rate(engine, _quotes(symbols, begun, rounds)), flush=True)
        begun += rounds


def _rate(engine: BacktestEngine, quotes: list[QuoteTick]) -> float:
    engine.add_data(quotes)
    begun = time.perf_counter()
    engine.run(streaming=True)
    seconds = time.perf_counter() - begun
    engine.clear_data()
    return len(quotes) / seconds


def _quotes(symbols: list[InstrumentId], begun: int, rounds: int) -> list[QuoteTick]:
    bid, ask, size = Price.from_str("99.99"), Price.from_str("100.01"), Quantity.from_int(1000)
    return [
        QuoteTick(symbol, bid, ask, size, size, at * SECOND, at * SECOND)
        for at in range(begun + 1, begun + rounds + 1)
        for symbol in symbols
    ]


def _engine(symbols: list[InstrumentId]) -> BacktestEngine:
    quiet = LoggingConfig(log_level="OFF", bypass_logging=True)
    engine = BacktestEngine(BacktestEngineConfig(logging=quiet, risk_engine=RiskEngineConfig(bypass=True)))
    engine.add_venue(
        VENUE,
        OmsType.NETTING,
        AccountType.MARGIN,
        [Money(10**12, USD)],
        base_currency=USD,
        frozen_account=True,  # else each order that comes in sums up all that are open, and placing them takes hours
    )
    for symbol in symbols:
        engine.add_instrument(Equity(symbol, symbol.symbol, USD, 2, Price.from_str("0.01"), Quantity.from_int(1), 0, 0))
    return engine


if __name__ == "__main__":
    main()
