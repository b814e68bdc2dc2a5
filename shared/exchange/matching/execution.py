"""What a batch of prices does to the open orders: fills, cash, lots and round trips, decided in memory.

What happened first is settled first: at the bar's open, inside of it, at the quote. At one stage, orders at the market
come before limits, a better limit before a worse one, and then the earlier order. What is in another currency than its
account fills only while there is a rate of exchange; what must fill at once ends without one. The result holds only
what changed, ready to be written in a constant number of statements.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import uuid5

from shared.contracts.accounts import Slippage
from shared.contracts.orders import AT_ONCE, OrderStatus, Side, TimeInForce
from shared.contracts.prices import Price
from shared.exchange import costs
from shared.exchange.acceptance.risk_checks import Refusal
from shared.exchange.fx import Rate
from shared.exchange.ledger import Entry, Kind
from shared.exchange.lots import Closed, closing_qty, cost_of, held, trade
from shared.exchange.matching.book import Book, Canceled, Execution, Fill, RoundTrip
from shared.exchange.matching.contingent_orders import after_end, after_fill, by_order_group, released
from shared.exchange.matching.matching import MarketRules, Match, Stage, match, usable
from shared.exchange.order import Order
from shared.exchange.values import changed
from shared.money import CENT, ZERO, cents, plain


def execute(
    orders: Iterable[Order],
    prices: Mapping[str, Price],
    book: Book,
    now: datetime,
    rules: MarketRules,
    *,
    known_at: datetime | None = None,
) -> Execution:
    """Fill what can fill, and refuse what the account can no longer pay.

    ``known_at`` is when the prices became known, where that is not now.
    """
    orders = list(orders)
    matches = [
        match(order, prices[order.symbol], rules, on_bar=_fills_on_bar(order, book))
        for order in orders
        if order.works and order.symbol in prices and usable(prices[order.symbol], order, known_at or now, rules)
    ]
    return execute_matches(orders, matches, prices, book, now)


def execute_matches(
    orders: Iterable[Order], matches: Iterable[Match], prices: Mapping[str, Price], book: Book, now: datetime
) -> Execution:
    """Fill what is matched of these orders, which are all of their order_groups."""
    orders = list(orders)
    book.orders.update({order.key: order for order in orders})
    book.order_groups.update(by_order_group(orders))
    settling = _Executing(book, now)
    for each in sorted(matches, key=lambda m: _precedence(m, prices[m.order.symbol])):
        settling.apply(each, prices[each.order.symbol])
    return settling.execution


def _fills_on_bar(order: Order, book: Book) -> bool:
    return book.accounts[order.account_id].settings.fills.fills_on == "bar"


def _precedence(found: Match, price: Price) -> tuple[object, ...]:
    """At one stage: what trades at the market, such as a stop that was reached, then the better limit, then time."""
    order = found.order
    eager = Decimal("Infinity")
    if order.limit_price is not None:
        eager = order.limit_price / price.last if order.buys else price.last / order.limit_price
    return (found.stage, -eager, order.accepted_at, order.id.int, order.account_id.int)


@dataclass
class _Executing:
    book: Book
    now: datetime
    execution: Execution = field(default_factory=Execution)

    def apply(self, found: Match, price: Price) -> None:
        order = self.book.orders[found.order.key]  # one of its order_group may have changed it meanwhile
        if not order.works:
            return
        if (found.order.hwm, found.order.triggered) != (order.hwm, order.triggered):
            order = changed(order, hwm=found.order.hwm, triggered=found.order.triggered)
            self._keep(order)
        why, rate = str(order.time_in_force), self.book.rate(order)
        if found.price is not None and rate is not None:
            order = self._execute(order, found, found.price, price, rate)
        elif found.price is not None:
            why = "no_exchange_rate"
        if order.works and order.time_in_force in AT_ONCE:
            self._end(order, Canceled(why))

    def _keep(self, order: Order) -> None:
        self.book.orders[order.key] = self.execution.changed[order.key] = order

    def _execute(self, order: Order, found: Match, at: Decimal, price: Price, conversion: Rate) -> Order:
        """The order as it is afterwards."""
        model, liquidity = self.book.accounts[order.account_id].settings.fills, self.book.liquidity
        rate = conversion.of(buys=order.buys)
        wanted, share = order.open_qty(at * rate), None if found.unlimited else model.participation
        qty = wanted if share is None else liquidity.there(found, price, wanted, share)
        if not qty or (order.time_in_force is TimeInForce.FOK and qty < wanted):
            return order
        worse = _slipped(model.slippage, found, at, price, qty)
        qty = min(qty, order.open_qty(worse.price * rate))
        fill = self._fill(order, found.stage, qty, worse, price, conversion)
        filled = _filled(order, fill)
        refusal = self._unaffordable(fill, filled)
        if refusal is not None:
            return self._end(order, refusal)
        if share is not None:
            liquidity.take(found, price, fill.qty)
        return self._book_fill(fill, filled)

    def _fill(
        self, order: Order, stage: Stage, qty: Decimal, worse: costs.Worse, price: Price, conversion: Rate
    ) -> Fill:
        account = self.book.accounts[order.account_id]
        number = order.fills + 1
        amount = cents(qty * worse.price * conversion.of(buys=order.buys))
        fee = costs.fee(
            account.settings.fills.commission,
            qty=qty,
            amount=order.spent + amount,
            filled=order.filled_qty + qty,
            charged=order.fees,
        )
        return Fill(
            id=uuid5(order.account_id, f"{order.id}/{number}"),
            order=order,
            number=number,
            qty=qty,
            price=worse.price,
            amount=amount,
            fee=fee,
            slippage=worse.slippage,
            stage=stage,
            quote=price,
            at=max(self.now, price.quoted_at),  # clocks of two machines differ; a fill never precedes its quote
            account_cash=account.cash + (-amount if order.buys else amount) - fee,
            position_qty=self.book.held(order) + (qty if order.buys else -qty),
            conversion=conversion,
        )

    def _unaffordable(self, fill: Fill, filled: Order) -> Refusal | None:
        """A part may spend what was reserved for it and what is free."""
        order, account = fill.order, self.book.accounts[fill.order.account_id]
        opening = fill.qty - closing_qty(self.book.held(order), order.side, fill.qty)
        if order.side is Side.SELL and opening and not account.settings.shorting:
            return Refusal("insufficient_shares", f"only {plain(self.book.held(order))} shares are left to sell")
        if not opening:
            return None
        needed = (fill.amount if opening == fill.qty else cents(fill.amount * opening / fill.qty)) + fill.fee
        spendable = account.buying_power + order.reserved - filled.reserved
        if needed <= spendable:
            return None
        return Refusal(
            "insufficient_buying_power",
            f"insufficient buying power when it would have filled "
            f"(needed: {plain(needed)}, available: {plain(spendable)})",
        )

    def _book_fill(self, fill: Fill, filled: Order) -> Order:
        order = fill.order
        closed, cost = self._move_shares(fill)
        account = self.book.accounts[order.account_id]
        self.book.accounts[account.id] = changed(
            account, cash=account.cash + fill.cash, reserved=account.reserved - (order.reserved - filled.reserved)
        )
        self.execution.entries.append(
            Entry(
                account.id,
                account.generation,
                Kind.FILL,
                fill.at,
                fill.id,
                cash=fill.cash,
                symbol=order.symbol,
                qty=fill.qty if order.buys else -fill.qty,
                cost=cost,
                fee=fill.fee,
                realized=sum((part.realized for part in closed), ZERO),
            )
        )
        self.execution.round_trips += [RoundTrip(fill, part) for part in closed]
        self.execution.outcomes.append((filled, fill))
        self._keep(filled)
        self._spread(after_fill(order, filled, self.book.order_group(filled), fill.quote.quoted_at), "oco")
        return filled

    def _move_shares(self, fill: Fill) -> tuple[tuple[Closed, ...], Decimal]:
        """What was closed, and what that and what was opened did to the cost of what is held."""
        order = fill.order
        holding = (order.account_id, order.symbol)
        before = self.book.lots.get(holding, ())
        after, closed = trade(
            before,
            order.side,
            fill.qty,
            fill.amount,
            fill_id=fill.id,
            at=fill.quote.quoted_at,  # the market's time: splits and dividends ask for it, whenever the fill is booked
            strategy_id=order.strategy_id,
        )
        self.book.lots[holding] = after
        account = self.book.accounts[order.account_id]
        if account.is_marked:
            was, is_, mark = held(before), held(after), fill.quote.last * fill.conversion.last
            self.book.accounts[account.id] = changed(
                account,
                long_value=account.long_value + cents((max(is_, ZERO) - max(was, ZERO)) * mark),
                short_value=account.short_value + cents((min(is_, ZERO) - min(was, ZERO)) * mark),
            )
        return closed, cost_of(after) - cost_of(before)

    def _end(self, order: Order, why: Refusal | Canceled) -> Order:
        if isinstance(why, Refusal) and order.filled_qty:
            why = Canceled(why.reason)  # a part of it has filled, which no refusal undoes
        ended = self._released(order, OrderStatus.REJECTED if isinstance(why, Refusal) else OrderStatus.CANCELED)
        self.execution.outcomes.append((ended, why))
        reason = "entry_ended" if ended.leg is None else "oco"
        self._spread(after_end(order, self.book.order_group(ended), self.now), reason)
        return ended

    def _released(self, order: Order, status: OrderStatus) -> Order:
        account = self.book.accounts[order.account_id]
        self.book.accounts[account.id] = changed(account, reserved=account.reserved - order.reserved)
        ended = released(order, status)
        self._keep(ended)
        return ended

    def _spread(self, others: Iterable[Order], reason: str) -> None:
        """What happened to one order happens to its order_group."""
        for other in others:
            freed = self.book.orders[other.key].reserved - other.reserved
            account = self.book.accounts[other.account_id]
            self.book.accounts[account.id] = changed(account, reserved=account.reserved - freed)
            self._keep(other)
            if other.status is OrderStatus.CANCELED:
                self.execution.outcomes.append((other, Canceled(reason)))


def _slipped(model: Slippage, found: Match, at: Decimal, price: Price, qty: Decimal) -> costs.Worse:
    """A limit never slips: its fill is at the limit or better."""
    if not found.takes:
        return costs.Worse(at, ZERO)
    return costs.slipped(model, found.order.side, at, price, qty, in_bar=found.stage is not Stage.QUOTE)


def _filled(order: Order, fill: Fill) -> Order:
    left = order.open_qty(fill.price * fill.rate) - fill.qty
    filled = changed(
        order,
        filled_qty=order.filled_qty + fill.qty,
        filled_avg_price=(order.paid + fill.price * fill.qty) / (order.filled_qty + fill.qty),
        filled_avg_rate=_average_rate(order, fill),
        fills=fill.number,
        fees=order.fees + fill.fee,
    )
    if not left or (order.notional is not None and filled.unspent < CENT):
        return released(filled, OrderStatus.FILLED)
    return changed(
        filled,
        status=OrderStatus.PARTIALLY_FILLED,
        reserved=_still_reserved(order, fill, left),
        held_for_orders=_still_promised(order, fill.qty),
    )


def _average_rate(order: Order, fill: Fill) -> Decimal:
    """At which the fills were converted, by what was paid at each rate; where all were at one rate, just that."""
    if not order.filled_qty or fill.rate == order.filled_avg_rate:
        return fill.rate
    paid = fill.price * fill.qty
    return (order.spent + paid * fill.rate) / (order.paid + paid)


def _still_reserved(order: Order, fill: Fill, left: Decimal) -> Decimal:
    """By how much is left to open, of a notional order what is not spent; what only closes has reserved nothing."""
    if order.notional is not None and not order.closing:
        return max(order.reserved - fill.amount - fill.fee, ZERO)
    before, after = left + fill.qty - order.closing, left - max(order.closing - fill.qty, ZERO)
    return cents(order.reserved * after / before) if ZERO < after < before else order.reserved


def _still_promised(order: Order, qty: Decimal) -> Decimal:
    return order.held_for_orders + qty if order.is_entry else max(order.held_for_orders - qty, ZERO)
