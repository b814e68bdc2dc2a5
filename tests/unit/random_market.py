"""Random markets: accounts that submit, prices that come, cancels between them."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

from hypothesis import strategies as st

from services.orders.domain.lots import held
from services.orders.domain.matching import MarketRules
from services.orders.domain.order import Account, Order
from services.orders.domain.risk import Listing, refuse, reserve_for
from services.orders.domain.settlement import Book, Fill, Settlement, settle
from shared.contracts.orders import OPEN_STATUSES, OrderStatus, Side
from shared.contracts.prices import Price
from shared.money import CENT, ZERO
from tests.unit.trading_examples import ACCEPTED, order, quote, submission

RULES = MarketRules()
SYMBOLS = ("AAPL", "IBM")
OWNERS = (UUID(int=101), UUID(int=102))
NINTH_DECIMAL = Decimal("1E-9")


@dataclass(frozen=True)
class Submit:
    owner: UUID
    terms: str


@dataclass(frozen=True)
class Quotes:
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Cancel:
    nth: int


Step = Submit | Quotes | Cancel


@dataclass
class Desk:
    """Everything that orders keeps in its tables, in memory, for as long as one random market lasts."""

    start: dict[UUID, Decimal]
    book: Book = field(init=False)
    now: datetime = ACCEPTED
    orders: dict[UUID, Order] = field(default_factory=dict)
    prices: dict[str, Price] = field(default_factory=dict)
    settlements: list[Settlement] = field(default_factory=list)

    def __post_init__(self) -> None:
        accounts = {owner: Account(owner, cash, ZERO, sequence=1) for owner, cash in self.start.items()}
        self.book = Book(accounts, {(owner, symbol): () for owner in self.start for symbol in SYMBOLS})

    def take(self, step: Step) -> None:
        self.now += timedelta(seconds=1)
        match step:
            case Submit(owner, terms):
                self._submit(owner, terms)
            case Quotes(texts):
                self._settle({price.symbol: price for price in (quote(text, at=self.now) for text in texts)})
            case Cancel(nth):
                self._cancel(nth)

    @property
    def open_orders(self) -> list[Order]:
        return [order for order in self.orders.values() if order.status in OPEN_STATUSES]

    @property
    def fills(self) -> list[Fill]:
        return [fill for settlement in self.settlements for fill in settlement.fills]

    def _submit(self, owner: UUID, terms: str) -> None:
        number = len(self.orders) + 1
        command = submission(terms, number, account_id=owner)
        price = self.prices.get(command.symbol)
        ask, last = (price.ask, price.last) if price else (None, None)
        listing = Listing(tradable=True, ask=ask, last=last)
        account = self.book.accounts[owner]
        if refuse(command, listing, account, available_qty=self._available(owner, command.symbol)):
            return
        reserved = reserve_for(command, listing)
        accepted = order(terms, number, account_id=owner, accepted_at=self.now, reserved=reserved)
        self.orders[accepted.id] = accepted
        self.book.accounts[owner] = replace(account, reserved=account.reserved + reserved)

    def _available(self, owner: UUID, symbol: str) -> Decimal:
        selling = (
            o.open_qty for o in self.open_orders if (o.account_id, o.symbol, o.side) == (owner, symbol, Side.SELL)
        )
        return held(self.book.lots[owner, symbol]) - sum(selling, ZERO)

    def _settle(self, prices: dict[str, Price]) -> None:
        self.prices.update(prices)
        settlement = settle(self.open_orders, prices, self.book, self.now, RULES)
        self.orders.update({changed.id: changed for changed in settlement.orders})
        self.settlements.append(settlement)

    def _cancel(self, nth: int) -> None:
        if not self.open_orders:
            return
        canceled = self.open_orders[nth % len(self.open_orders)]
        account = self.book.accounts[canceled.account_id]
        self.book.accounts[account.id] = replace(account, reserved=account.reserved - canceled.reserved)
        self.orders[canceled.id] = replace(canceled, status=OrderStatus.CANCELED, reserved=ZERO)


def market_of(seed: int, length: int) -> list[Step]:
    """The same steps for the same seed; a shorter market is the beginning of a longer one."""
    random = Random(seed)
    return [_step(random) for _ in range(length)]


def _step(random: Random) -> Step:
    kind = random.choices(["submit", "quotes", "cancel"], weights=[5, 4, 1])[0]
    if kind == "submit":
        return Submit(random.choice(OWNERS), _terms(random))
    if kind == "quotes":
        return Quotes(tuple(_quote(random, symbol) for symbol in random.sample(SYMBOLS, random.randint(1, 2))))
    return Cancel(random.randint(0, 9))


def _terms(random: Random) -> str:
    """Whole and fractional quantities; sells are smaller, so that more of them find the shares they need."""
    side = random.choice(list(Side))
    most = 40 if side is Side.BUY else 15
    qty = random.choice([Decimal(random.randint(1, most)), random.randint(1, most * 10**9) * NINTH_DECIMAL])
    kind = random.choice(["market", f"limit {_level(random)}", f"stop {_level(random)}"])
    return f"{side} {qty:f} {random.choice(SYMBOLS)} {kind}"


def _quote(random: Random, symbol: str) -> str:
    """A quote around a level, or a last price alone."""
    last, half = _level(random), random.randint(1, 50) * CENT
    return random.choice([f"{symbol} {last - half}/{last + half} {last}", f"{symbol} {last}"])


def _level(random: Random) -> Decimal:
    return random.randint(9_500, 10_500) * CENT


#: Drawn by a seed and not step by step: long markets, in which accounts trade often and run out of cash.
markets = st.builds(market_of, st.integers(min_value=0, max_value=2**32), st.integers(min_value=40, max_value=120))
starts = st.fixed_dictionaries(
    {owner: st.integers(min_value=400_000, max_value=3_000_000).map(lambda whole: whole * CENT) for owner in OWNERS}
)


def after(start: dict[UUID, Decimal], market: list[Step]) -> Desk:
    desk = Desk(start)
    for step in market:
        desk.take(step)
    return desk
