"""The bars that a worker remembers: the new ones are read, and whatever changes reaches the strategies."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest

from services.strategy.persistence import market
from services.strategy.usecases.memory import AGAIN, KEEP, Memory, Remembered
from shared.bus.unit_of_work import ServiceContext
from tests.component.paper_exchange import Exchange
from tests.component.test_corporate_actions import enter
from tests.component.watching import context_of

KEY, WANTED = ("AAPL", "1m"), 20
_STORE = """
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider)
VALUES ('AAPL', '1m', %(at)s, %(close)s, %(close)s, %(close)s, %(close)s, 100, 'test')
ON CONFLICT (symbol, interval, start_at) DO UPDATE SET
  open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close
"""


@dataclass
class Remembering:
    """A memory over stored minutes of AAPL. ``read`` counts the bars that come from the database."""

    exchange: Exchange
    strategy: ServiceContext
    memory: Memory
    fetched: int = 0

    def store(self, *closes: str, back: int = 0) -> None:
        """Store a minute for each close, the last of which is over now, or correct the one ``back`` minutes before."""
        for number, close in enumerate(closes):
            minutes = back + len(closes) - number
            at = self.exchange.clock.now.replace(second=0, microsecond=0) - timedelta(minutes=minutes)
            with self.exchange.marketdata.engine.begin() as connection:
                connection.exec_driver_sql(_STORE, {"at": at, "close": Decimal(close)})

    def read(self) -> Remembered:
        with self.strategy.engine.begin() as connection:
            known = market.instruments(connection, ["AAPL"])
            return self.memory.read(connection, {KEY: WANTED}, known, self.exchange.clock.now)[KEY]

    def closes(self) -> list[Decimal]:
        """The closes, which are the same as bars and as columns."""
        found = self.read()
        closes = [bar.close for bar in found.bars]
        assert found.columns.closes.tolist() == [float(close) for close in closes]
        return closes


@pytest.fixture
def remembering(urls: dict[str, str], exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remembering]:
    with context_of("strategy", urls, exchange.clock) as strategy:
        made = Remembering(exchange, strategy, Memory())
        bars = market.bars

        def counted(*arguments: object) -> object:
            found = bars(*arguments)  # type: ignore[arg-type]
            made.fetched = sum(map(len, found.values()))
            return found

        monkeypatch.setattr(market, "bars", counted)
        made.store(*map(str, range(1, 11)))
        yield made


def test_only_the_last_bars_and_new_ones_are_read_again(remembering: Remembering) -> None:
    first = remembering.read()
    assert remembering.fetched == 10
    assert remembering.read() is first
    assert remembering.fetched == AGAIN
    remembering.exchange.clock.move(minutes=1)
    remembering.store("11")
    assert remembering.closes() == list(range(1, 12))
    assert remembering.fetched == AGAIN + 1


def test_a_correction_of_the_last_bars_is_seen_at_once(remembering: Remembering) -> None:
    remembering.read()
    remembering.store("9.5", back=1)
    assert remembering.closes() == [*range(1, 9), Decimal("9.5"), 10]


def test_a_correction_further_back_is_seen_after_a_while(remembering: Remembering) -> None:
    """Or as soon as another bar that is read again has changed."""
    remembering.read()
    remembering.store("2.5", back=8)
    assert remembering.closes()[1] == 2
    remembering.exchange.clock.move(seconds=KEEP.total_seconds())
    assert remembering.closes()[1] == Decimal("2.5")
    remembering.store("1.5", back=19)
    minutes = KEEP // timedelta(minutes=1)
    remembering.store("10.5", back=minutes)
    assert remembering.closes()[-1] == Decimal("10.5")
    assert remembering.closes()[0] == Decimal("1.5")


def test_a_split_changes_all_bars(remembering: Remembering) -> None:
    """They are read in shares of after it."""
    remembering.read()
    enter(remembering.exchange, "split", "2")
    assert remembering.closes() == [Decimal(close) / 2 for close in range(1, 11)]
