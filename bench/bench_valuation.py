"""Valuation: all accounts revalued and summarized, and one event of prices, each beside bare SQL in the same run.

accounts   a summary of each account, with deposits, day, growth and peaks, beside the bare INSERT … SELECT … GROUP BY
positions  a value of each position with its day and the age of its price, beside the bare INSERT … SELECT
prices     an event of 500 symbols: the values of all holders read and published, beside the bare SELECT … GROUP BY
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from sqlalchemy import TextClause, text

from bench.bus_servers import quiet_logs
from bench.report import Goal, Row, comparison, figure, interleaved, run_benchmark
from bench.valuation_database import ValuationDatabase, valuation_database
from services.valuation import actors
from services.valuation.summaries import snapshot_accounts, snapshot_positions
from tests.support import price, prices

EVENT = 500


@dataclass(frozen=True)
class Sizes:
    runs: int
    accounts: int
    positions: int
    #: The positions that an event of prices concerns.
    marked: int


USUAL = Sizes(runs=5, accounts=10_000, positions=1_000_000, marked=100_000)
QUICK = Sizes(runs=3, accounts=1_000, positions=100_000, marked=10_000)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_valuation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer positions and runs")
    sizes = QUICK if parser.parse_args().quick else USUAL
    quiet_logs()
    return run_benchmark("valuation", [partial(measure_snapshots, sizes), partial(measure_event, sizes)])


def measure_snapshots(sizes: Sizes) -> Sequence[Row]:
    """Each run writes a summary, or values, as of a later second. Both write to tables with the same indexes."""
    print(f"snapshots: {sizes.positions:,} positions in {sizes.accounts:,} accounts", flush=True)
    with valuation_database(symbols=5000, accounts=sizes.accounts, positions=sizes.positions) as database:
        with database.begin() as connection:
            for table in ("account_summaries", "position_values"):
                connection.execute(text(f"CREATE TABLE valuation.bare_{table} (LIKE valuation.{table} INCLUDING ALL)"))
        bare_accounts, bare_positions = (
            partial(_bare, database, _BARE_ACCOUNTS),
            partial(_bare, database, _BARE_POSITIONS),
        )
        accounts = interleaved(partial(_ours, database, snapshot_accounts), bare_accounts, sizes.runs + 1)[1:]
        positions = interleaved(partial(_ours, database, snapshot_positions), bare_positions, sizes.runs)
    of = f"{sizes.positions:,} positions in {sizes.accounts:,} accounts"
    return [
        comparison(f"{of} revalued and summarized", "ms", accounts, Goal("ratio", "<=", 1.5)),
        comparison(f"{of}: a value of each kept", "ms", positions),
    ]


def measure_event(sizes: Sizes) -> Sequence[Row]:
    """From the event to the commit with the values of its holders."""
    accounts = sizes.accounts // 10
    print(f"an event of {EVENT} symbols, which {accounts:,} accounts hold {sizes.marked:,} times", flush=True)
    with valuation_database(symbols=EVENT, accounts=accounts, positions=sizes.marked) as database:
        event = partial(_event, database)
        pairs = interleaved(event, partial(_bare, database, _BARE_VALUES), 4 * sizes.runs + 1)[1:]
    of = f"{EVENT} prices mark {sizes.marked:,} positions in {accounts:,} accounts"
    return [
        figure(of, "ms", [ours for ours, _ in pairs], Goal("ours", "<=", 100)),
        comparison("the same, beside the bare SELECT … GROUP BY", "ms", pairs),
    ]


def _ours(database: ValuationDatabase, write: Callable[..., int]) -> float:
    begun = time.perf_counter()
    with database.begin() as connection:
        written = write(connection, uuid4(), database.pass_time())
    taken = (time.perf_counter() - begun) * 1000
    assert written
    return taken


def _bare(database: ValuationDatabase, statement: TextClause) -> float:
    begun = time.perf_counter()
    with database.begin() as connection:
        written = connection.execute(statement, {"run_id": uuid4(), "now": database.now})
        assert written.rowcount
        if written.returns_rows:
            written.all()
    return (time.perf_counter() - begun) * 1000


def _event(database: ValuationDatabase) -> float:
    now = database.pass_time()
    event = prices(*(price(f"S{number}", 100, at=now) for number in range(EVENT)))
    begun = time.perf_counter()
    with database.context.unit_of_work() as uow:
        actors.value_holders(event, uow)
        assert uow.outgoing
    return (time.perf_counter() - begun) * 1000


_BARE_ACCOUNTS = text("""
INSERT INTO valuation.bare_account_summaries
  (account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions)
SELECT a.id, :run_id, :now, a.cash, p.value, a.cash + p.value, p.value - p.cost, p.positions
FROM orders.accounts_v1 a JOIN (
  SELECT p.account_id, sum(round(p.qty * i.last, 2)) AS value, sum(p.cost) AS cost, count(*) AS positions
  FROM orders.positions_v1 p JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol GROUP BY p.account_id
) p ON p.account_id = a.id
""")
_BARE_POSITIONS = text("""
INSERT INTO valuation.bare_position_values
  (account_id, symbol, run_id, at, qty, price, market_value, cost, unrealized_pl)
SELECT p.account_id, p.symbol, :run_id, :now, p.qty, i.last, round(p.qty * i.last, 2), p.cost,
       round(p.qty * i.last, 2) - p.cost
FROM orders.positions_v1 p JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
""")
_BARE_VALUES = text("""
SELECT a.id, a.cash, p.value, a.cash + p.value AS equity FROM orders.accounts_v1 a JOIN (
  SELECT p.account_id, sum(round(p.qty * i.last, 2)) AS value
  FROM orders.positions_v1 p JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol GROUP BY p.account_id
) p ON p.account_id = a.id
""")

if __name__ == "__main__":
    sys.exit(main())
