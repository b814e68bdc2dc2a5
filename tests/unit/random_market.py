"""Random markets, drawn by a seed: the steps of traders and prices. ``in_memory_exchange`` takes them."""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import Side, TimeInForce
from shared.money import CENT
from tests.unit.trading_examples import MARGIN

SYMBOLS = ("AAPL", "IBM", "SAP")
#: The currency of the symbols that are not in the accounts' currency.
ABROAD = {"SAP": "EUR"}
#: Senders choose the ids, so two accounts may use the same one.
OWNERS = tuple(UUID(int=100 + number) for number in range(5))
BAR, SHARE = {"fills_on": "bar"}, {"participation": "0.5"}
PER_SHARE = {"kind": "per_share", "rate": "0.01", "minimum": "1"}
PERCENT = {"kind": "percent", "rate": "0.25"}
FIXED = {"kind": "fixed", "rate": "5"}
#: Most accounts may trade with themselves, so that more orders rest on both sides.
WASH = {"allow_wash_trades": True}
#: One account of each kind: cash or margin, and every model of fills and costs.
KINDS: dict[UUID, AccountSettings] = {
    owner: AccountSettings.model_validate(settings)
    for owner, settings in zip(
        OWNERS,
        (
            {},
            {**WASH, "fills": {**BAR, **SHARE, "commission": PER_SHARE, "slippage": FIXED}},
            {
                **WASH,
                "fills": {
                    **SHARE,
                    "latency": "0.5",
                    "commission": PERCENT,
                    "slippage": {"kind": "spread", "rate": "0.5"},
                },
            },
            {**MARGIN, "fills": {**BAR, "slippage": {"kind": "volume_share", "rate": "0.1"}}},
            {**MARGIN, **WASH, "multiplier": 4, "margin_grace": 0, "fills": {**SHARE, "commission": PERCENT}},
        ),
        strict=True,
    )
}


@dataclass(frozen=True)
class Submit:
    owner: UUID
    terms: str


@dataclass(frozen=True)
class Quotes:
    """Pairs of a quote and its other fields: sizes, volume, and the age of its bar at the previous update."""

    each: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True)
class Rated:
    """The euro's ask, bid and last rate, or None where it becomes stale."""

    sides: tuple[Decimal, Decimal, Decimal] | None


@dataclass(frozen=True)
class Sweep:
    """The same prices again."""


@dataclass(frozen=True)
class Cancel:
    nth: int


@dataclass(frozen=True)
class Replace:
    nth: int
    changes: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Close:
    """The end of the session."""


@dataclass(frozen=True)
class Transfer:
    owner: UUID
    amount: Decimal


Step = Submit | Quotes | Rated | Sweep | Cancel | Replace | Close | Transfer


def market_of(seed: int, length: int) -> list[Step]:
    """The steps for a seed. A shorter market is the beginning of a longer one."""
    random = Random(seed)
    return [_step(random) for _ in range(length)]


def _step(random: Random) -> Step:
    kind = random.choices(
        [Submit, Quotes, Replace, Cancel, Rated, Sweep, Transfer, Close], [50, 40, 15, 5, 5, 3, 2, 1]
    )[0]
    if kind is Submit:
        return Submit(random.choice(OWNERS), terms_of(random))
    if kind is Quotes:
        return Quotes(tuple(quote_of(random, symbol) for symbol in random.sample(SYMBOLS, random.randint(1, 3))))
    if kind is Rated:
        return Rated(_sides(random) if random.random() < 0.8 else None)
    if kind in {Replace, Cancel}:
        nth = random.randint(0, 19)
        return Replace(nth, changes_of(random)) if kind is Replace else Cancel(nth)
    if kind is Transfer:
        return Transfer(random.choice(OWNERS), random.randint(1, 200_000) * CENT)
    return Sweep() if kind is Sweep else Close()


def _sides(random: Random) -> tuple[Decimal, Decimal, Decimal]:
    """The sides around 1.1 with a spread, to the twelfth decimal. Now and then they jump."""
    last = random.randint(10**12, 12 * 10**11) * Decimal("1E-12") * random.choice([1] * 9 + [2])
    half = random.randint(0, 10**10) * Decimal("1E-12")
    return last + half, last - half, last


def terms_of(random: Random) -> str:
    """An order in the words of ``trading_examples``. Sells are smaller, so that more of them find their shares."""
    side, symbol = random.choice(list(Side)), random.choice(SYMBOLS)
    if random.random() < 0.08:
        return f"{side} ${random.randint(100, 300_000) * CENT} {symbol} market"
    most = 40 if side is Side.BUY else 15
    if random.random() < 0.2:
        return f"{side} {random.randint(1, most * 10**9) * Decimal('1E-9'):f} {symbol} {_kind(random)} day"
    return f"{side} {random.randint(1, most)} {symbol} {_whole(random, side)}"


def _kind(random: Random) -> str:
    level, other = level_of(random), level_of(random)
    trail = random.choice([f"{random.randint(20, 300) * CENT}", f"{random.randint(20, 300) * CENT}%"])
    kinds = ("market", f"limit {level}", f"stop {level}", f"stop_limit {level} {other}", f"trailing_stop {trail}")
    return random.choice(kinds)


def _whole(random: Random, side: Side) -> str:
    order_class = random.choices(["simple", "bracket", "oto", "oco", "at once"], [50, 20, 5, 15, 10])[0]
    kind, tif = _kind(random), random.choice([TimeInForce.DAY, TimeInForce.GTC])
    if order_class == "at once":
        kind = random.choice(["market", f"limit {level_of(random)}"])
        return f"{kind} {random.choice([TimeInForce.IOC, TimeInForce.FOK])}"
    if order_class == "simple":
        return f"{kind} {tif}"
    sells = (side is Side.SELL) == (order_class == "oco")  # the exits
    away = [random.randint(10, 300) * CENT for _ in range(2)]
    priced = order_class != "oco" and kind.startswith(("limit", "stop"))
    base = Decimal(kind.split()[-1]) if priced else Decimal(100)
    gain, loss = (base + away[0], base - away[1]) if sells else (base - away[0], base + away[1])
    stop = f"{loss}" if random.random() < 0.7 else f"{loss}:{level_of(random)}"
    if order_class == "oco":
        return f"limit {gain} {tif} oco {gain}/{stop}"
    exits = f"{gain}/{stop}" if order_class == "bracket" else random.choice([f"{gain}/", f"/{stop}"])
    return f"{kind} {tif} {order_class} {exits}"


def changes_of(random: Random) -> dict[str, Any]:
    """Changes to an order, which may not fit it."""
    changes: dict[str, Any] = {
        "qty": Decimal(random.randint(1, 40)),
        "limit_price": level_of(random),
        "stop_price": level_of(random),
        "trail": random.randint(20, 300) * CENT,
        "time_in_force": random.choice(list(TimeInForce)),
    }
    return {name: changes[name] for name in random.sample(sorted(changes), random.randint(1, 2))}


def quote_of(random: Random, symbol: str) -> tuple[str, dict[str, Any]]:
    """A bar, and at its end a quote of both sides, of one, or none."""
    bar = [level_of(random) for _ in range(random.choice([2, 2, 4]))]
    first, last, high, low = bar[0], bar[1], max(bar), min(bar)
    half = random.randint(1, 50) * CENT
    crossed = f"{last + half}/{last - half}"
    sides = random.choice([f"{last - half}/{last + half}"] * 5 + [f"{last - half}/", f"/{last + half}", crossed, "/"])
    sizes = {
        "bid_size": random.choice([None, random.randint(0, 40)]),
        "ask_size": random.choice([None, random.randint(0, 40)]),
    }
    numbers = {name: None if size is None else Decimal(size) for name, size in sizes.items()}
    began, started = (random.choice([None, timedelta(0), timedelta(seconds=3)]) for _ in range(2))
    fields: dict[str, Any] = {
        **numbers,
        "volume": Decimal(random.randint(0, 200)),
        "began": began,
        "started": started,
    }
    return f"{symbol} {sides} {last} of {first} {high} {low}", fields


def level_of(random: Random) -> Decimal:
    """A price around a hundred. Now and then the market jumps further than the allowance."""
    away = 300 if random.random() < 0.95 else 2_000
    return random.randint(10_000 - away, 10_000 + away) * CENT


#: Long markets drawn by a seed, in which accounts trade often and run out of cash.
markets = st.builds(market_of, st.integers(min_value=0, max_value=2**32), st.integers(min_value=40, max_value=150))
starts = st.fixed_dictionaries(
    {owner: st.integers(min_value=100_000, max_value=1_000_000).map(lambda whole: whole * CENT) for owner in OWNERS}
)
