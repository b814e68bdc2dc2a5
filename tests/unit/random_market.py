"""Random markets: accounts that submit, prices that come, cancels between them."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
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


levels = st.integers(min_value=9_500, max_value=10_500).map(lambda whole: whole * CENT)
qtys = st.one_of(
    st.integers(min_value=1, max_value=200).map(Decimal),
    st.decimals(min_value=Decimal("1E-9"), max_value=50, places=9),
)
kinds = st.one_of(
    st.just("market"),
    levels.map(lambda level: f"limit {level}"),
    levels.map(lambda level: f"stop {level}"),
)
submits = st.builds(
    lambda owner, side, qty, symbol, kind: Submit(owner, f"{side} {qty:f} {symbol} {kind}"),
    st.sampled_from(OWNERS),
    st.sampled_from(Side),
    qtys,
    st.sampled_from(SYMBOLS),
    kinds,
)


@st.composite
def quote_texts(draw: st.DrawFn, symbol: str) -> str:
    """A quote around a level, or a last price alone."""
    last = draw(levels)
    half = draw(st.integers(min_value=1, max_value=50)) * CENT
    return draw(st.sampled_from([f"{symbol} {last - half}/{last + half} {last}", f"{symbol} {last}"]))


batches = st.one_of(
    st.tuples(quote_texts("AAPL")), st.tuples(quote_texts("IBM")), st.tuples(quote_texts("AAPL"), quote_texts("IBM"))
).map(Quotes)
cancels = st.integers(min_value=0, max_value=9).map(Cancel)
markets = st.lists(st.one_of(submits, submits, batches, batches, cancels), max_size=40)
starts = st.fixed_dictionaries(
    {owner: st.integers(min_value=0, max_value=5_000_000).map(lambda whole: whole * CENT) for owner in OWNERS}
)


def after(start: dict[UUID, Decimal], market: list[Step]) -> Desk:
    desk = Desk(start)
    for step in market:
        desk.take(step)
    return desk
