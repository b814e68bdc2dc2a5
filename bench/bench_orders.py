"""The work of orders: fills, quotes past resting orders, and over RabbitMQ orders taken in. `make bench-orders`."""

import argparse
import sys
from functools import partial

from bench import orders_fills, orders_nautilus, orders_quotes, orders_wire
from bench.report import run_benchmark


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    parser.add_argument("--only", choices=("fills", "quotes", "nautilus", "wire"), help="only these figures")
    options = parser.parse_args()
    runs = 1 if options.quick else 5
    measurements = {
        "fills": partial(orders_fills.measure, runs=runs, fills=400 if options.quick else 2000),
        "quotes": partial(
            orders_quotes.measure,
            runs=runs,
            batches=20 if options.quick else 60,
            most=10**5 if options.quick else 10**6,
        ),
        "nautilus": partial(orders_nautilus.measure, runs=runs, most=1 if options.quick else 100),
        "wire": partial(orders_wire.measure, quick=options.quick),
    }
    chosen = [options.only] if options.only else list(measurements)
    return run_benchmark("orders", [measurements[name] for name in chosen])


if __name__ == "__main__":
    sys.exit(main())
