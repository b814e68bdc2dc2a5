"""Quotes a second, with orders that rest far from the market and without."""

import time
from collections.abc import Sequence
from itertools import cycle, islice

from bench.orders_database import MARKET, OrdersDatabase, orders_database
from bench.report import Goal, Row, comparison, figure

SYMBOLS = 500
ACCOUNTS = 1000
#: Resting orders → the part of the rate without any that must be left.
GOALS = {100_000: 0.5, 1_000_000: 0.25}
RATE = 50_000


def measure(*, runs: int, batches: int, most: int) -> Sequence[Row]:
    """``runs`` runs of ``batches`` messages with a quote of each symbol, for up to ``most`` resting orders."""
    rows: list[Row] = []
    with orders_database(SYMBOLS) as empty, orders_database(SYMBOLS) as full:
        resting = 0
        accounts = full.open_accounts(ACCOUNTS)
        for count, goal in GOALS.items():
            if count > most:
                continue
            print(f"quotes: {count:,} resting orders, {runs} runs of {batches} x {SYMBOLS} quotes", flush=True)
            rest(full, accounts, count - resting)
            resting = count
            _rate(full, batches), _rate(empty, batches)
            pairs = [(_rate(full, batches), _rate(empty, batches)) for _ in range(runs)]
            name = f"quotes with {count:,} resting orders beside none; {SYMBOLS} symbols in a message, durable"
            rows.append(comparison(name, "quotes/s", pairs, Goal("ratio", ">=", goal)))
            if goal >= 0.5:
                rows.append(
                    figure(
                        f"the same with {count:,} resting", "quotes/s", [a for a, _ in pairs], Goal("ours", ">=", RATE)
                    )
                )
    return rows


def rest(made: OrdersDatabase, accounts: Sequence[object], count: int) -> None:
    """Limits to buy at half the price and to sell at twice of it, over all symbols."""
    wanted = (
        (account, symbol, "buy" if number % 2 else "sell", MARKET / 2 if number % 2 else MARKET * 2)
        for number, (account, symbol) in enumerate(
            zip(cycle(accounts), (made.symbols[n // 2 % SYMBOLS] for n in range(count)), strict=False)
        )
    )
    while chunk := list(islice(wanted, 20_000)):
        made.place(chunk)  # type: ignore[arg-type]
    made.tidy()


def _rate(made: OrdersDatabase, batches: int) -> float:
    bodies = [made.prices() for _ in range(batches)]
    begun = time.perf_counter()
    for body in bodies:
        made.handle(body)
    return batches * SYMBOLS / (time.perf_counter() - begun)
