"""A batch of quotes stored and published, beside the same rows in two bare statements."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine, event, text

from bench.marketdata_database import marketdata_database
from bench.report import Goal, Row, comparison, figure
from services.marketdata.domain.quote import Quote
from services.marketdata.persistence.columns import columns
from services.marketdata.persistence.instruments import lock_known
from services.marketdata.persistence.partitions import ensure_partitions
from services.marketdata.usecases.update_prices import store
from shared.bus.unit_of_work import ServiceContext
from shared.storage import driver

SYMBOLS = 500


def measure(*, runs: int) -> Sequence[Row]:
    """``runs`` batches of each, in turn. Every batch is of a later minute."""
    print(f"prices: {runs} batches of {SYMBOLS} quotes", flush=True)
    with marketdata_database(SYMBOLS) as engine:
        batches = _Batches(engine)
        for _ in range(5):
            batches.ours(), batches.bare()
        pairs = [(batches.ours(), batches.bare()) for _ in range(runs)]
        statements = batches.statements()
    name = f"{SYMBOLS} quotes stored and published, beside bare unnest of the same rows"
    return [
        comparison(name, "ms", pairs, Goal("ratio", "<=", 3)),
        figure("the same, ours alone", "ms", [ours for ours, _ in pairs], Goal("ours", "<=", 15)),
        figure("its statements, without the commit", "statements", [statements], Goal("ours", "<=", 4)),
    ]


class _Batches:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.now = datetime.now(UTC).replace(second=0, microsecond=0)
        self._context = ServiceContext("marketdata", engine, lambda: self.now)
        with engine.begin() as connection:
            ensure_partitions(connection, self.now)

    def ours(self) -> float:
        quotes = self._quotes()
        begun = time.perf_counter()
        with self._context.unit_of_work() as uow:
            known = lock_known(uow.connection, [quote.symbol for quote in quotes], uow.now)
            results = store(uow, quotes, known)
        taken = (time.perf_counter() - begun) * 1000
        assert len(results) == SYMBOLS
        self._tidy()
        return taken

    def bare(self) -> float:
        names = ("symbol", "last", "bid", "ask", "bid_size", "ask_size", "open", "high", "low", "volume", "quoted_at")
        given = columns(self._quotes(), *names)
        begun = time.perf_counter()
        with self._engine.begin() as connection:
            store_bare(connection, given)
        return (time.perf_counter() - begun) * 1000

    def statements(self) -> int:
        """The statements of one batch."""
        seen: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        def counted(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> Any:
            seen.extend(statement for statement, _ in calls)
            return run(used, prepared, calls)

        event.listen(self._engine, "before_cursor_execute", note)
        run, driver.run_prepared = driver.run_prepared, counted
        quotes = self._quotes()
        with self._context.unit_of_work() as uow:
            store(uow, quotes, lock_known(uow.connection, [quote.symbol for quote in quotes], uow.now))
        event.remove(self._engine, "before_cursor_execute", note)
        driver.run_prepared = run
        return len([each for each in seen if "FROM" in each or "INSERT" in each])

    def _quotes(self) -> list[Quote]:
        self.now += timedelta(minutes=1)
        price, size = Decimal("123.45"), Decimal(100)
        return [
            Quote(
                symbol=f"S{number}", bid=price - 1, ask=price + 1, bid_size=size, ask_size=size, last=price, open=price,
                high=price + 1, low=price - 1, close=price, volume=size, quoted_at=self.now, provider="bench",
            )
            for number in range(SYMBOLS)
        ]  # fmt: skip

    def _tidy(self) -> None:
        """Do as the relay does, which removes what it has published."""
        with self._engine.begin() as connection:
            connection.execute(text("DELETE FROM marketdata.outbox"))


def store_bare(connection: Connection, given: Mapping[str, Sequence[Any]]) -> None:
    """Store the columns of a batch with nothing around it: no lock, no check, no event."""
    connection.execute(_PRICES, given)
    connection.execute(_BARS, given)


_ROWS = """
FROM unnest(CAST(:symbol AS text[]), CAST(:last AS numeric[]), CAST(:bid AS numeric[]), CAST(:ask AS numeric[]),
            CAST(:bid_size AS numeric[]), CAST(:ask_size AS numeric[]), CAST(:open AS numeric[]),
            CAST(:high AS numeric[]), CAST(:low AS numeric[]), CAST(:volume AS numeric[]),
            CAST(:quoted_at AS timestamptz[]))
  AS v (symbol, last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at)
"""
_PRICES = text(f"""
UPDATE marketdata.instruments i SET sequence = i.sequence + 1, last_price = v.last, bid = v.bid, ask = v.ask,
  bid_size = v.bid_size, ask_size = v.ask_size, open = v.open, high = v.high, low = v.low, volume = v.volume,
  quoted_at = v.quoted_at, provider = 'bench'
{_ROWS} WHERE i.symbol = v.symbol
""")
_BARS = text(f"""
INSERT INTO marketdata.market_data AS bar (symbol, interval, start_at, open, high, low, close, volume, provider)
SELECT symbol, '1m', date_trunc('minute', quoted_at), open, high, low, last, volume, 'bench' {_ROWS}
ON CONFLICT (symbol, interval, start_at) DO UPDATE SET
  high = GREATEST(bar.high, excluded.high), low = LEAST(bar.low, excluded.low), close = excluded.close,
  volume = bar.volume + excluded.volume
""")
