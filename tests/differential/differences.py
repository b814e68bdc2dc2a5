"""The difference of two engines on an order: the first fill, or the end, that they do not share."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from tests.differential.outcome import Filled, Outcome
from tests.differential.tape import Event, Quote, Replace, Submit

Outcomes = Mapping[int, Outcome]
#: Quote → (order, fill) on it.
Fills = Mapping[int, Sequence[tuple[int, Filled]]]


@dataclass(frozen=True)
class Terms:
    """An order as it stands at a quote, after the changes that the tape has before it."""

    buys: bool
    kind: str
    time_in_force: str
    qty: Decimal
    limit: Decimal | None
    stop: Decimal | None
    trail: Decimal | None

    def pays(self, quote: Quote) -> Decimal:
        """The ask for a buy, the bid for a sell."""
        return quote.ask if self.buys else quote.bid

    def size(self, quote: Quote) -> Decimal:
        return Decimal(quote.ask_size if self.buys else quote.bid_size)

    def reached(self, price: Decimal) -> bool:
        """True if the price is at its stop or beyond."""
        return self.stop is not None and (price >= self.stop if self.buys else price <= self.stop)

    def acts(self, price: Decimal) -> bool:
        """True if an order that arrives at the price does anything but rest."""
        return self.reached(price) if self.stop is not None else self.within(price)

    def within(self, price: Decimal) -> bool:
        """True if its limit allows the price."""
        return self.limit is None or (price <= self.limit if self.buys else price >= self.limit)

    def changed(self, change: Replace) -> "Terms":
        qty = self.qty if change.qty is None else Decimal(change.qty)
        return replace(self, qty=qty, limit=change.limit or self.limit, stop=change.stop or self.stop)


@dataclass(frozen=True)
class Tape:
    """The events by symbol and by order, and what both engines made of them."""

    ours: Outcomes
    theirs: Outcomes
    orders: Mapping[int, Submit]
    quotes: Mapping[int, Quote]
    of_symbol: Mapping[str, Sequence[Quote]]
    changes: Mapping[int, Sequence[Replace]]

    @cached_property
    def fills(self) -> tuple[Fills, Fills]:
        """The outcomes of ours and of theirs."""
        return _by_quote(self.ours), _by_quote(self.theirs)

    def terms(self, number: int, quote: Quote) -> Terms:
        terms = _terms(self.orders[number], number - self.orders[number].id)
        for change in self.taken(number):
            if change.at < quote.at:
                terms = terms.changed(change)
        return terms

    def taken(self, number: int) -> list[Replace]:
        """The changes that neither refuses: to more than had filled. One may fill the order on the quote before it."""
        both = self.ours[number].fills, self.theirs[number].fills
        return [
            change
            for change in self.changes.get(number, ())
            if change.qty is None or change.qty > min(self._filled(fills, change) for fills in both)
        ]

    def _filled(self, fills: Iterable[Filled], change: Replace) -> Decimal:
        return sum((fill.qty for fill in fills if self.quotes[fill.quote].at < change.at), Decimal(0))


def _by_quote(outcomes: Outcomes) -> Fills:
    found: dict[int, list[tuple[int, Filled]]] = defaultdict(list)
    for number, outcome in outcomes.items():
        for fill in outcome.fills:
            found[fill.quote].append((number, fill))
    return found


def read_tape(events: Iterable[Event], ours: Outcomes, theirs: Outcomes) -> Tape:
    quotes: dict[int, Quote] = {}
    of_symbol: dict[str, list[Quote]] = defaultdict(list)
    orders: dict[int, Submit] = {}
    changes: dict[int, list[Replace]] = defaultdict(list)
    for event in events:
        match event:
            case Quote():
                quotes[event.number] = event
                of_symbol[event.symbol].append(event)
            case Submit():
                orders.update(dict.fromkeys(range(event.id, event.id + (3 if event.is_bracket else 1)), event))
            case Replace():
                changes[event.id].append(event)
    return Tape(ours, theirs, orders, quotes, of_symbol, changes)


@dataclass(frozen=True)
class Difference:
    """``shared`` are the fills that both have. Then ``a`` is ours and ``b`` theirs on ``quote``, where there is one.

    ``quote`` is None where the fills are the same and only the ends differ.
    """

    tape: Tape
    number: int
    shared: Sequence[Filled]
    quote: Quote | None
    a: Filled | None
    b: Filled | None

    @property
    def order(self) -> Submit:
        return self.tape.orders[self.number]

    @property
    def leg(self) -> int:
        """0 for an order or an entry, 1 for the exit that takes the gain, 2 for the one that stops the loss."""
        return self.number - self.order.id

    @property
    def ours(self) -> Outcome:
        return self.tape.ours[self.number]

    @property
    def theirs(self) -> Outcome:
        return self.tape.theirs[self.number]

    @property
    def filled(self) -> Decimal:
        return sum((fill.qty for fill in self.shared), Decimal(0))

    @property
    def place(self) -> tuple[float, int]:
        """When it was, for the order within a order_group."""
        return (self.quote.number if self.quote else float("inf")), self.leg

    @cached_property
    def life(self) -> list[Quote]:
        """The quotes that the order saw up to this one. An exit sees those from its entry's fill on."""
        quotes = self.tape.of_symbol[self.order.symbol]
        since = self.tape.theirs[self.order.id].fills if self.leg else ()
        begun = self.tape.quotes[since[-1].quote].at if since else self.order.at
        last = self.quote or quotes[-1]
        return [quote for quote in quotes if begun <= quote.at <= last.at]

    @property
    def terms(self) -> Terms:
        return self.terms_at(self.quote or self.life[-1])

    def terms_at(self, quote: Quote) -> Terms:
        return self.tape.terms(self.number, quote)

    @property
    def changes(self) -> list[Replace]:
        return self.tape.taken(self.number)

    @property
    def came(self) -> datetime:
        """When it came, or was changed for the last time before the quote."""
        changes = [change.at for change in self.changes if self.quote is None or change.at < self.quote.at]
        return max([self.order.at, *changes])

    @property
    def our_price(self) -> Decimal:
        """The price of our fill on the quote: its limit if it rests, else the market's."""
        assert self.quote is not None
        return self.terms.limit if self.rests and self.terms.limit is not None else self.terms.pays(self.quote)

    @cached_property
    def rests(self) -> bool:
        """True if the quote was outside its limit when it came or was changed, or an earlier quote triggered it."""
        quote, terms, came = self.quote, self.terms, self.came
        if quote is None or terms.limit is None or terms.time_in_force in {"ioc", "fok"}:
            return False
        known = [each for each in self.tape.of_symbol[self.order.symbol] if each.at < came][-1]
        rests = self.leg > 0 or not terms.within(terms.pays(known))
        if terms.kind == "stop_limit":
            triggers = [each.at for each in self.life if each.at < quote.at and self.terms_at(each).reached(each.last)]
            rests = bool(triggers) and (rests or triggers[0] > came)
        took = [fill.price for fill in self.shared if self.tape.quotes[fill.quote].at > came]
        return rests and all(price == terms.limit for price in took)

    def before(self, change: Replace) -> Quote:
        """The newest quote when the change came."""
        return [quote for quote in self.tape.of_symbol[change.symbol] if quote.at < change.at][-1]

    @property
    def consumed_by_others(self) -> Decimal:
        """The quantity that other orders of ours consumed of the same size of the quote."""
        assert self.quote is not None
        return sum((fill.qty for _, fill in self._others(self.tape.fills[0], self.quote)), Decimal(0))

    @property
    def by_change(self) -> bool:
        """True if theirs filled only when it was changed, after the quote."""
        return self.b is not None and any(
            self.before(change) == self.quote and change.qty == self.filled + self.b.qty
            for change in self.tape.changes.get(self.number, ())
        )

    @property
    def stale(self) -> Decimal | None:
        """The price before, to which their market goes back for what arrives when a change has filled there."""
        quotes = self.tape.of_symbol[self.order.symbol]
        if self.quote is None or self.quote != self.life[0]:
            return None
        before = quotes[quotes.index(self.quote) - 1]
        changed = [
            change for number, _ in self.tape.fills[1].get(before.number, ()) for change in self.tape.taken(number)
        ]
        return self.terms.pays(before) if any(self.before(change) == before for change in changed) else None

    def moved(self, quote: Quote) -> list[Decimal]:
        """The prices behind the quote's that they take for the market's while others fill on it."""
        prices = set()
        for number, fill in self._others(self.tape.fills[1], quote):
            prices |= {fill.price, self.tape.terms(number, quote).limit or fill.price}
        at, buys = self.terms.pays(quote), self.terms.buys
        return sorted(price for price in prices if (price > at if buys else price < at))

    def _others(self, fills: Fills, quote: Quote) -> Iterator[tuple[int, Filled]]:
        buys = self.terms.buys
        for number, fill in fills.get(quote.number, ()):
            if number != self.number and self.tape.terms(number, quote).buys == buys:
                yield number, fill


def _terms(order: Submit, leg: int) -> Terms:
    qty, buys = Decimal(order.qty), order.side == "buy"
    if not leg:
        return Terms(buys, order.type, order.time_in_force, qty, order.limit, order.stop, order.trail)
    if leg == 1:
        return Terms(not buys, "limit", "gtc", qty, order.gain, None, None)
    return Terms(not buys, "stop", "gtc", qty, None, order.loss, None)


def differences(tape: Tape) -> Iterator[Difference]:
    for number, ours in tape.ours.items():
        theirs = tape.theirs[number]
        if ours != theirs:
            yield _difference(tape, number, ours.fills, theirs.fills)


def _difference(tape: Tape, number: int, ours: Sequence[Filled], theirs: Sequence[Filled]) -> Difference:
    same = 0
    while same < min(len(ours), len(theirs)) and ours[same] == theirs[same]:
        same += 1
    a, b = (fills[same] if same < len(fills) else None for fills in (ours, theirs))
    first = min((fill.quote for fill in (a, b) if fill is not None), default=None)
    on = [fill if fill is not None and fill.quote == first else None for fill in (a, b)]
    return Difference(tape, number, ours[:same], None if first is None else tape.quotes[first], *on)


def order_groups(found: Iterable[Difference]) -> list[list[Difference]]:
    """The differences of orders that end together, the earliest first: the later ones follow from it."""
    known: dict[int, list[Difference]] = defaultdict(list)
    for each in found:
        known[each.order.id].append(each)
    return [sorted(each, key=lambda difference: difference.place) for each in known.values()]
