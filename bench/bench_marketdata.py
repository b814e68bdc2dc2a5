"""Market data: prices stored and published, and the history of bars, each beside bare SQL in the same run.

prices    a batch of 500 quotes, from the provider's answer to the commit with its event
decoded   a batch of 500 quotes, from the bytes of the provider's answer to the commit with its event
poll      a round of 20,000 symbols on one replica within the limits of a provider
stream    5,000 quotes a second of a provider's websocket, each from when it was sent to the commit with its event
backfill  bars stored in bulk, with duplicates handled, beside COPY into the same table
latest    the newest 200 bars of a symbol among millions, as the API reads them
rollup    minutes into hours, beside the bare INSERT … SELECT
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import marketdata_fetched, marketdata_history, marketdata_prices, marketdata_stream
from bench.bus_servers import quiet_logs
from bench.report import Row, run_benchmark


@dataclass(frozen=True)
class Sizes:
    """The size of a measurement.

    Its runs, rounds of polls, seconds of a stream, the bars of a backfill, those in the table, and those to roll up.
    """

    runs: int
    rounds: int
    streamed: float
    backfilled: int
    stored: int
    rolled_up: int


USUAL = Sizes(runs=7, rounds=3, streamed=10, backfilled=200_000, stored=10_000_000, rolled_up=1_000_000)
QUICK = Sizes(runs=3, rounds=1, streamed=4, backfilled=50_000, stored=500_000, rolled_up=200_000)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_marketdata",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="fewer bars and runs")
    parser.add_argument("--only", metavar="ROW", choices=_measures(QUICK), help="one of the rows above")
    arguments = parser.parse_args()
    measures = _measures(QUICK if arguments.quick else USUAL)
    quiet_logs()
    if arguments.only is None:
        return run_benchmark("marketdata", measures.values())
    return run_benchmark(f"marketdata-{arguments.only}", [measures[arguments.only]])


def _measures(sizes: Sizes) -> dict[str, Callable[[], Sequence[Row]]]:
    return {
        "prices": partial(marketdata_prices.measure, runs=20 * sizes.runs),
        "decoded": partial(marketdata_fetched.measure_decoded, runs=10 * sizes.runs),
        "poll": partial(marketdata_fetched.measure_poll, runs=sizes.rounds),
        "stream": partial(marketdata_stream.measure, runs=sizes.runs, seconds=sizes.streamed),
        "backfill": partial(marketdata_history.measure_backfill, runs=sizes.runs, bars=sizes.backfilled),
        "latest": partial(marketdata_history.measure_latest, runs=20 * sizes.runs, bars=sizes.stored),
        "rollup": partial(marketdata_history.measure_roll_up, runs=sizes.runs, bars=sizes.rolled_up),
    }


if __name__ == "__main__":
    sys.exit(main())
