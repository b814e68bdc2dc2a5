"""Executing a batch of prices on the open orders: fills, cash, lots and round trips, decided in memory.

Earlier stages of the update execute first: the bar's open, its range, the quote. At one stage market orders precede
limits, a better limit precedes a worse one, and then the earlier order (price-time priority). An order in another
currency than its account's fills only while there is an exchange rate. If it must fill at once, it ends without one.
The result holds only changes, ready to be written in a constant number of statements.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType

from shared.contracts.orders import AT_ONCE, AUCTIONS, OrderStatus, Side, TimeInForce
from shared.contracts.prices import Price
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange import costs
from shared.exchange.fx import Rate
from shared.exchange.ledger import Entry, Kind
from shared.exchange.lots import closing_qty
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.book import Book, Canceled, Execution, RoundTrip
from shared.exchange.matching.contingent_orders import after_end, after_fill, by_order_group
from shared.exchange.matching.fills import Fill, filled, make_fill
from shared.exchange.matching.matching import Match, Stage, match, oldest_fresh
from shared.exchange.order import Order, released
from shared.exchange.refusal import Refusal
from shared.exchange.trading_days import ALWAYS_OPEN, Hours
from shared.exchange.values import changed
from shared.money import ZERO, cents, plain


def execute(
    orders: Iterable[Order],
    prices: Mapping[str, Price],
    book: Book,
    now: datetime,
    rules: MarketRules,
    *,
    known_at: datetime | None = None,
    hours: Mapping[str, Hours] = MappingProxyType({}),
) -> Execution:
    """Fill the orders that can fill, and end those that their account can no longer pay.

    ``orders`` are all open orders of their groups. ``known_at`` is the time when the prices became known, by default
    now. ``hours`` has the sessions of those symbols whose market closes at times.
    """
    orders = list(orders)
    oldest = oldest_fresh(known_at or now, rules)
    fresh = {symbol: price for symbol, price in prices.items() if price.quoted_at >= oldest}
    matches = [
        match(
            order,
            fresh[order.symbol],
            rules,
            on_bar=book.accounts[order.account_id].fills_on_bar,
            hours=hours.get(order.symbol, ALWAYS_OPEN),
        )
        for order in orders
        if order.is_working and order.symbol in fresh and order.time_in_force not in AUCTIONS
    ]
    return execute_matches(orders, matches, prices, book, now)


def execute_matches(
    orders: Iterable[Order], matches: Iterable[Match], prices: Mapping[str, Price], book: Book, now: datetime
) -> Execution:
    """Fill the matched ones of these orders, which are all open orders of their groups."""
    orders = list(orders)
    book.orders.update({order.key: order for order in orders})
    book.order_groups.update(by_order_group(orders))
    executing = _Executing(book, now)
    for each in sorted(matches, key=lambda found: found.precedence(prices[found.order.symbol])):
        executing.apply(each, prices[each.order.symbol])
    return executing.execution


@dataclass
class _Executing:
    book: Book
    now: datetime
    execution: Execution = field(default_factory=Execution)

    def apply(self, found: Match, price: Price) -> None:
        order = self.book.orders[found.order.key]  # an earlier match may have changed or ended it
        if not order.is_working:
            return
        after = {name: getattr(found.order, name) for name in ("hwm", "triggered", "rests")}
        if any(value != getattr(order, name) for name, value in after.items()):
            order = changed(order, **after)
            self._keep(order)
        fx_rate = self.book.rate(order)
        if found.price is not None and fx_rate is not None:
            order = self._execute(order, found, found.price, price, fx_rate)
        if order.is_working and order.time_in_force in AT_ONCE and found.usable:
            no_rate = found.price is not None and fx_rate is None
            why = RejectReason.NO_EXCHANGE_RATE if no_rate else CancelReason(order.time_in_force.value)
            self._end(order, Canceled(why))

    def _execute(self, order: Order, found: Match, at: Decimal, price: Price, fx_rate: Rate) -> Order:
        """Fill the order as far as liquidity, its time in force and its account allow, and return it after that."""
        account, liquidity = self.book.accounts[order.account_id], self.book.liquidity
        model, rate = account.settings.fills, fx_rate.of(buys=order.buys)
        position = self.book.held(order)
        wanted, share = order.open_qty(at * rate), None if found.unlimited else model.participation
        if order.only_closes:  # it never opens a position, whatever became of the shares that it held
            wanted = closing_qty(position, order.side, wanted)
            if not wanted:
                return self._end(order, Refusal(RejectReason.INSUFFICIENT_SHARES, "no shares are left to close"))
        qty = wanted if share is None else liquidity.available(found, price, wanted, share)
        untraded = found.takes_liquidity and model.slippage.kind == "volume_share" and not price.volume
        if untraded or not qty or (order.time_in_force is TimeInForce.FOK and qty < wanted):
            return order
        worse = costs.Worse(at, ZERO)
        if found.takes_liquidity:  # a limit never slips
            in_bar = found.stage is not Stage.QUOTE
            taken = qty + liquidity.taken(price) if account.counts_volume else qty
            worse = costs.slipped(model.slippage, order.side, at, price, taken, in_bar=in_bar)
            qty = min(qty, order.open_qty(worse.price * rate))
        fill = make_fill(
            order, found.stage, qty, worse, price, fx_rate=fx_rate, account=account, position=position, now=self.now
        )
        after = filled(order, fill)
        refusal = self._unaffordable(fill, after, position)
        if refusal is not None:
            return self._end(order, refusal)
        if account.counts_volume:
            liquidity.consume(found, price, fill.qty, model)
        self._book(fill, after)
        return after

    def _unaffordable(self, fill: Fill, after: Order, position: Decimal) -> Refusal | None:
        """The refusal of a fill for which shares or buying power are missing.

        A partial fill may spend its part of the order's reservation and the free buying power.
        """
        order, account = fill.order, self.book.accounts[fill.order.account_id]
        opening = fill.qty - closing_qty(position, order.side, fill.qty)
        if order.side is Side.SELL and opening and not account.settings.shorting:
            return Refusal(RejectReason.INSUFFICIENT_SHARES, f"only {plain(position)} shares are left to sell")
        if not opening:
            return None
        needed = (fill.amount if opening == fill.qty else cents(fill.amount * opening / fill.qty)) + fill.fee
        spendable = account.buying_power + order.reserved - after.reserved
        if needed <= spendable:
            return None
        return Refusal(
            RejectReason.INSUFFICIENT_BUYING_POWER,
            f"insufficient buying power when it would have filled "
            f"(needed: {plain(needed)}, available: {plain(spendable)})",
        )

    def _book(self, fill: Fill, after: Order) -> None:
        """Book the fill in lots, account and ledger, and pass it on to the order's group."""
        order = fill.order
        closed, cost = self.book.trade(fill)
        account = self.book.accounts[order.account_id]
        self.book.accounts[account.id] = changed(account, cash=account.cash + fill.cash)
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
        self.execution.outcomes.append((after, fill))
        self._keep(after)
        others = after_fill(order, after, self.book.order_group(after), fill.quote.quoted_at)
        self._keep_others(others, CancelReason.OCO)

    def _end(self, order: Order, why: Refusal | Canceled) -> Order:
        if isinstance(why, Refusal) and order.filled_qty:
            why = Canceled(why.reason)  # a partly filled order is canceled, since its fills stand
        ended = released(order, OrderStatus.REJECTED if isinstance(why, Refusal) else OrderStatus.CANCELED)
        self._keep(ended)
        self.execution.outcomes.append((ended, why))
        others = after_end(order, self.book.order_group(ended), self.now)
        self._keep_others(others, CancelReason.ENTRY_ENDED if ended.leg is None else CancelReason.OCO)
        return ended

    def _keep(self, order: Order) -> None:
        """Keep the order's new state. The account gets back the amount that the order no longer reserves."""
        freed = self.book.orders[order.key].reserved - order.reserved
        if freed:
            account = self.book.accounts[order.account_id]
            self.book.accounts[account.id] = changed(account, reserved=account.reserved - freed)
        self.book.orders[order.key] = self.execution.changed[order.key] = order

    def _keep_others(self, others: Iterable[Order], reason: CancelReason) -> None:
        """Keep the other orders of a group after a fill or an end of one of them."""
        for other in others:
            self._keep(other)
            if other.status is OrderStatus.CANCELED:
                self.execution.outcomes.append((other, Canceled(reason)))
