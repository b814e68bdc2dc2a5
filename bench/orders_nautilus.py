"""Quotes a second past 5,000 resting orders of each symbol, beside NautilusTrader's backtest engine.

Both have the same symbols, quotes and resting limits, none of which a quote reaches. Ours takes each message of one
quote per symbol as a worker does, from its JSON to the durable commit. Theirs has its quotes and orders in memory. One
symbol alone is the worst for us: a message then holds a single quote.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from bench.orders_database import MARKET, OrdersDatabase, orders_database
from bench.report import Goal, NotMeasured, Row, comparison, interleaved

ACCOUNTS = 1000
RESTING = 5000
#: Symbols → the ratio to reach; there is none for a single one.
GOALS: dict[int, Goal | None] = {1: None, 100: Goal("ratio", ">=", 50)}
#: Rounds of a run, one quote of each symbol: so many quotes over all symbols take each side about a second.
OUR_ROUNDS, THEIR_QUOTES = 100, 2000

HERE = Path(__file__).parent
PYTHON = HERE.parent / ".venv-nautilus" / "bin" / "python"


def measure(*, runs: int, most: int) -> Sequence[Row]:
    """``runs`` pairs for each number of symbols up to ``most``."""
    return [_row(symbols, goal, runs) for symbols, goal in GOALS.items() if symbols <= most]


def _row(symbols: int, goal: Goal | None, runs: int) -> Row:
    print(f"nautilus: {symbols} symbols with {RESTING:,} resting orders each, {runs} runs", flush=True)
    with orders_database(symbols) as made, _nautilus(symbols) as theirs:
        _rest(made)
        ours, reference = partial(_rate, made), partial(_their_rate, theirs, max(THEIR_QUOTES // symbols, 1))
        ours(), reference()
        pairs = interleaved(ours, reference, runs)
    name = f"quotes past {RESTING:,} resting orders of each symbol, beside NautilusTrader; {symbols} in a message"
    return comparison(name, "quotes/s", pairs, goal)


def _rest(made: OrdersDatabase) -> None:
    """Limits to buy at half the price and to sell at twice of it, as many on each symbol."""
    accounts = cycle(made.open_accounts(ACCOUNTS))
    wanted = (
        (next(accounts), symbol, "buy" if number % 2 else "sell", MARKET / 2 if number % 2 else MARKET * 2)
        for symbol in made.symbols
        for number in range(RESTING)
    )
    while chunk := list(islice(wanted, 20_000)):
        made.place(chunk)
    made.tidy()


def _rate(made: OrdersDatabase) -> float:
    bodies = [made.prices() for _ in range(OUR_ROUNDS)]
    begun = time.perf_counter()
    for body in bodies:
        made.handle(body)
    return OUR_ROUNDS * len(made.symbols) / (time.perf_counter() - begun)


@contextmanager
def _nautilus(symbols: int) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the orders and says ``ready``."""
    if not PYTHON.exists():
        raise NotMeasured("NautilusTrader has an environment of its own, which make bench-orders makes")
    command = [str(PYTHON), str(HERE / "nautilus_quotes.py"), str(symbols), str(RESTING)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if _answer(process) != "ready":
            raise NotMeasured("NautilusTrader did not take its orders")
        yield process


def _their_rate(process: "subprocess.Popen[str]", rounds: int) -> float:
    assert process.stdin is not None
    process.stdin.write(f"{rounds}\n")
    process.stdin.flush()
    answer = _answer(process)
    if not answer:
        raise NotMeasured("NautilusTrader ended")
    return float(answer)


def _answer(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
