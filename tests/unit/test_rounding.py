"""Nobody gains from rounding: at constant prices no sequence of trades adds a fraction of a cent to an account."""

from collections.abc import Iterable
from decimal import Decimal
from random import Random
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.exchange.lots import held
from shared.money import CENT, ZERO
from tests.unit.in_memory_exchange import InMemoryExchange
from tests.unit.random_market import ABROAD, OWNERS, SYMBOLS, Cancel, Quotes, Rated, Replace, Step, Submit, starts

#: In whole cents, in fractions of a cent, and far below a cent.
PRICES = tuple(map(Decimal, ("100", "33.33", "9.99", "1.01", "0.9999", "0.0123", "0.0001")))


def constant_market(random: Random, length: int) -> tuple[dict[str, Decimal], list[Step]]:
    """The value of a share in the accounts' currency, and trades of all sizes at that. Quotes have no spread."""
    prices = {symbol: random.choice(PRICES) for symbol in SYMBOLS}
    euro = random.randint(10**12, 13 * 10**11) * Decimal("1E-12")
    values = {symbol: price * (euro if symbol in ABROAD else 1) for symbol, price in prices.items()}
    steps: list[Step] = [Rated((euro, euro, euro)), _quotes(random, prices, SYMBOLS)]
    for _ in range(length):
        symbol = random.choice(SYMBOLS)
        steps.append(Submit(random.choice(OWNERS), _terms(random, symbol, prices[symbol])))
        if random.random() < 0.1:
            steps.append(Replace(random.randint(0, 9), {"qty": Decimal(random.randint(1, 40))}))
        if random.random() < 0.1:
            steps.append(Cancel(random.randint(0, 9)))
        steps.append(_quotes(random, prices, [symbol]))
    return values, steps


def _terms(random: Random, symbol: str, price: Decimal) -> str:
    """Shares whose value ends in the middle of a cent, or just above or below."""
    side = random.choice(["buy", "sell"])
    kind = random.choice(["market", f"limit {price}", f"stop {price}"])
    match random.choice(["whole", "share", "half a cent", "money"]):
        case "whole":
            return f"{side} {random.randint(1, 60)} {symbol} {kind} {random.choice(['day', 'gtc'])}"
        case "share":
            return f"{side} {random.randint(1, 10**10) * Decimal('1E-9'):f} {symbol} {kind} day"
        case "half a cent":
            qty = (Decimal(random.randint(0, 300)) + Decimal("0.5")) * CENT / price
            return f"{side} {max(qty, CENT).quantize(Decimal('1E-9')):f} {symbol} {kind} day"
    return f"{side} ${random.randint(100, 5000) * CENT} {symbol} market"


def _quotes(random: Random, prices: dict[str, Decimal], symbols: Iterable[str]) -> Quotes:
    """Small sizes split the orders of some accounts into many fills."""
    each = []
    for symbol in symbols:
        size = random.choice([None, Decimal(random.randint(1, 30))])
        price = prices[symbol]
        fields = {"bid_size": size, "ask_size": size, "volume": Decimal(10), "began": None, "started": None}
        each.append((f"{symbol} {price}/{price} {price}", fields))
    return Quotes(tuple(each))


def worth(exchange: InMemoryExchange, owner: UUID, values: dict[str, Decimal]) -> Decimal:
    """Cash and the exact value of the shares, without any rounding."""
    shares = sum((held(exchange.book.lots[owner, symbol]) * value for symbol, value in values.items()), ZERO)
    return exchange.book.accounts[owner].cash + shares


@settings(max_examples=100)
@given(starts, st.integers(0, 2**32))
def test_no_trade_at_a_constant_price_makes_an_account_richer(start: dict[UUID, Decimal], seed: int) -> None:
    """This holds for fractions, prices below a cent, partial fills, notional orders, other currencies and shorts."""
    values, market = constant_market(Random(seed), length=60)
    exchange = InMemoryExchange(start)
    before = {owner: worth(exchange, owner, values) for owner in OWNERS}
    for step in market:
        exchange.take(step)
        for owner in OWNERS:
            after = worth(exchange, owner, values)
            assert after <= before[owner]
            before[owner] = after


def test_such_markets_trade() -> None:
    """Every account buys and sells, in parts and in whole, and sells shares that it does not have."""
    fills, shorts, owners = 0, 0, set()
    for seed in range(8):
        _, market = constant_market(Random(seed), length=60)
        exchange = InMemoryExchange(dict.fromkeys(OWNERS, Decimal(5000)))
        for step in market:
            exchange.take(step)
        fills += len(exchange.fills)
        shorts += sum(held(lots) < 0 for lots in exchange.book.lots.values())
        owners |= {fill.order.account_id for fill in exchange.fills}
    assert owners == set(OWNERS)
    assert fills > 100
    assert shorts
