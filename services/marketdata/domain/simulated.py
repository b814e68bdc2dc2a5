"""Simulated prices: a random walk that the seed, the symbol, the step and the last price determine.

The generator gives whole numbers only, and all price arithmetic is decimal, so that every machine walks the same.
"""

from datetime import datetime
from decimal import Decimal
from random import Random

from services.marketdata.domain.quote import SPREAD_BPS, TICK, Quote, spread_around, tick_above, tick_below

NAME = "simulated"
#: The close stays here or above: a bid of one tick is still below it.
LOWEST = 2 * TICK
_LOT = 100
# Moves are drawn in tenths of a basis point. Four draws of up to 8 bps have a standard deviation of about
# 10 bps: a minute of a share that moves 30 % a year.
_ONE = 100_000
_DRAWS = 4
_LARGEST_DRAW = 80
_LARGEST_WICK = 30


def next_quote(
    symbol: str, last: Decimal, step: int, seed: int, now: datetime, *, spread_bps: Decimal = SPREAD_BPS
) -> Quote:
    """The quote one step after the price ``last`` (at least a tick), stamped ``now``.

    It opens at ``last``. The new price, bid and ask lie on ticks.
    """
    draws = Random(f"{seed}:{symbol}:{step}")  # noqa: S311 - play prices, repeatable on purpose
    move = sum(draws.randint(-_LARGEST_DRAW, _LARGEST_DRAW) for _ in range(_DRAWS))
    # Rounding down after a random part of a tick keeps the mean: rounded to the nearest, a low price would never move.
    part_of_tick = TICK * draws.randrange(_ONE) / _ONE
    close = max(LOWEST, tick_below(_share(last, move) + part_of_tick))
    bid, ask = spread_around(close, spread_bps)
    return Quote(
        symbol=symbol,
        bid=bid,
        ask=ask,
        bid_size=_lots(draws, 50),
        ask_size=_lots(draws, 50),
        last=close,
        open=last,
        high=tick_above(_share(max(last, close), draws.randint(0, _LARGEST_WICK))),
        low=max(TICK, tick_below(_share(min(last, close), -draws.randint(0, _LARGEST_WICK)))),
        close=close,
        volume=_lots(draws, 1000),
        quoted_at=now,
        provider=NAME,
    )


def _share(price: Decimal, more: int) -> Decimal:
    return price * (_ONE + more) / _ONE


def _lots(draws: Random, most: int) -> Decimal:
    return Decimal(draws.randint(1, most) * _LOT)
