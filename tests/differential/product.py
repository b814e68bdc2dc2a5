"""Our engine on the tape of the reference: what the actors of orders do with it, in memory."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from shared.contracts.official_prices import AuctionKind, OfficialPricePublished
from shared.contracts.orders import AT_ONCE as AT_ONCE_OR_AUCTION
from shared.contracts.orders import AUCTIONS, OrderStatus, ReplaceOrder
from shared.contracts.orders import TimeInForce as Tif
from shared.contracts.prices import Price
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.replace import Replaced, admit_replacement
from shared.exchange.acceptance.risk_checks import refuse_change
from shared.exchange.lots import held
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.auctions import execute_auction
from shared.exchange.matching.book import Book, Execution
from shared.exchange.matching.ending import end
from shared.exchange.matching.execution import execute
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.order import Account, Key, Order
from shared.exchange.trading_days import Hours, TradingDay, coming
from shared.money import ZERO
from tests.differential.events import Auction, Cancel, Event, Fill, Replace, Session, Submit, Trader, Update
from tests.differential.messages import command_of, price_of, settings_of

RULES, AHEAD = MarketRules(), timedelta(seconds=5)
AT_ONCE = AT_ONCE_OR_AUCTION - AUCTIONS
CASH = Decimal(10) ** 12
KINDS = {"opg": AuctionKind.OPEN, "cls": AuctionKind.CLOSE}
#: (status, fills) of an order.
Outcome = tuple[str, list[Fill]]


class Product:
    """Every order of the tape by its id there. ``number`` of an update is its sequence here."""

    def __init__(self, traders: Iterable[Trader], sessions: Sequence[Session]) -> None:
        self._sessions = sessions
        self._days = [TradingDay(each.day, each.opens, each.closes) for each in sessions]
        self._book = Book({}, {})
        self._orders: dict[Key, Order] = {}
        self._prices: dict[str, Price] = {}
        self._names: dict[UUID, str] = {}
        self._owners: dict[str, Key] = {}
        self._rejected: set[str] = set()
        self._fills: dict[str, list[Fill]] = {}
        for trader in traders:
            owner = UUID(int=trader.name)
            self._book.accounts[owner] = Account(owner, CASH, ZERO, sequence=1, settings=settings_of(trader))

    def run(self, tape: Iterable[Event]) -> dict[str, Outcome]:
        for event in tape:
            self._expire(event.at)
            match event:
                case Update():
                    self._update(event)
                case Submit():
                    self._submit(event)
                case Cancel():
                    self._cancel(event)
                case Replace():
                    self._replace(event)
                case Auction():
                    self._hold(event)
        found = {self._names[order.id]: str(order.status) for order in self._orders.values()}
        found |= dict.fromkeys(self._rejected, "rejected")
        return {name: (status, self._fills.get(name, [])) for name, status in found.items()}

    def _update(self, update: Update) -> None:
        if update.at - update.known > AHEAD:
            return
        price = self._prices[update.symbol] = price_of(update)
        hours, orders = {price.symbol: self._hours(update)}, self._open(update.symbol)
        self._keep(execute(orders, {price.symbol: price}, self._fresh(), update.known, RULES, hours=hours))
        self._expire(update.known)

    def _hours(self, update: Update) -> Hours:
        """The sessions of the bar, by its start, and of the quote, as the service finds them in the calendar."""
        bar = update.bar_start or update.since
        found: dict[str, Any] = {}
        for suffix, name in (("", "opened_at"), ("_extended", "extended_opened_at")):
            spans = [(each.begins, each.ends) if suffix else (each.opens, each.closes) for each in self._sessions]
            of_bar, of_quote = (
                next((span for span in spans if at is not None and span[0] <= at < span[1]), None)
                for at in (bar, update.at)
            )
            over = update.bar_start is None and of_bar is not None and update.at > of_bar[1]
            found |= {f"bar{suffix}": of_bar is not None and not over, f"quote{suffix}": of_quote is not None}
            opened = of_quote or of_bar
            found[name] = None if opened is None else opened[0]
        return Hours(**found)

    def _hold(self, auction: Auction) -> None:
        orders = [
            order
            for order in self._open(auction.symbol)
            if order.time_in_force == auction.tif and order.auction_day == auction.day
        ]
        held_at = OfficialPricePublished(
            symbol=auction.symbol, kind=KINDS[auction.tif], day=auction.day,
            price=auction.price, volume=auction.volume, held_at=auction.at, sequence=auction.number, provider="tape",
        )  # fmt: skip
        self._keep(execute_auction(orders, held_at, self._fresh(), auction.at))

    def _fresh(self) -> Book:
        for owner in self._book.accounts:
            for symbol in self._prices:
                self._book.lots.setdefault((owner, symbol), ())
        return Book(self._book.accounts, self._book.lots, liquidity=Liquidity())

    def _keep(self, execution: Execution) -> None:
        for fill in execution.fills:
            made = (fill.quote.sequence, fill.qty, fill.price, fill.quote.quoted_at)
            self._fills.setdefault(self._names[fill.order.id], []).append(made)
        self._orders.update({order.key: order for order in execution.orders})

    def _submit(self, asked: Submit) -> None:
        owner = UUID(int=asked.trader)
        account, command = self._book.accounts[owner], command_of(asked)
        instrument = self._instrument(asked.symbol, asked.at, command.time_in_force)
        found = admit(command, instrument, account, self._exposure(owner, asked.symbol, asked.at), asked.at)
        if not isinstance(found, Admitted):
            self._rejected.add(asked.id)
            return
        self._book.accounts[owner] = found.account
        for order in found.orders:
            role = {"take_profit": "/gain", "stop_loss": "/loss"}.get(str(order.leg), "")
            self._names[order.id] = asked.id if order.id == command.order_id else asked.id + role
            self._owners[self._names[order.id]] = order.key
            self._orders[order.key] = order

    def _cancel(self, asked: Cancel) -> None:
        order = self._find(asked.id)
        if order is not None and refuse_change(order, asked.at) is None:
            self._end([order], OrderStatus.CANCELED, asked.at)

    def _replace(self, asked: Replace) -> None:
        old = self._find(asked.id)
        if old is None:
            return
        command = ReplaceOrder(
            account_id=old.account_id, order_id=old.id, new_order_id=uuid5(NAMESPACE_OID, asked.new_id),
            requested_at=asked.at, qty=asked.qty, limit_price=asked.limit, stop_price=asked.stop, trail=asked.trail,
            time_in_force=asked.tif,
        )  # fmt: skip
        account = self._book.accounts[old.account_id]
        instrument = self._instrument(old.symbol, asked.at, command.time_in_force or old.time_in_force)
        exposure = self._exposure(old.account_id, old.symbol, asked.at)
        found = admit_replacement(self._order_group(old), command, instrument, account, exposure, asked.at)
        if isinstance(found, Replaced):
            self._book.accounts[account.id] = found.account
            self._orders[found.ended.key] = found.ended
            self._orders.update({order.key: order for order in (found.order, *found.others)})
            self._names[found.order.id] = asked.new_id
            self._owners[asked.new_id] = found.order.key

    def _expire(self, at: datetime) -> None:
        over = [order for order in self._orders.values() if order.is_open and self._is_over(order, at)]
        for status in (OrderStatus.CANCELED, OrderStatus.EXPIRED):
            ending = [each for each in over if (each.time_in_force in AT_ONCE) == (status is OrderStatus.CANCELED)]
            if ending:
                self._end(ending, status, at)

    def _is_over(self, order: Order, at: datetime) -> bool:
        """The condition of the job that expires orders."""
        ends, price = order.expires_at, self._prices.get(order.symbol)
        if ends is None or ends > at:
            return False
        if order.time_in_force in AT_ONCE or price is None or at >= ends + RULES.max_quote_age:
            return True
        return price.quoted_at >= ends or price.quoted_at < ends - RULES.max_quote_age

    def _end(self, ending: list[Order], status: OrderStatus, at: datetime) -> None:
        groups = {other.key: other for order in ending for other in self._order_group(order)}
        self._orders.update(end(ending, status, groups.values(), self._book.accounts, at).orders)

    def _find(self, name: str) -> Order | None:
        key = self._owners.get(name)
        return self._orders[key] if key is not None and self._orders[key].is_open else None

    def _open(self, symbol: str) -> list[Order]:
        return [order for order in self._orders.values() if order.symbol == symbol and order.is_open]

    def _order_group(self, order: Order) -> list[Order]:
        group = (order.account_id, order.order_group)
        own = [each for each in self._open(order.symbol) if (each.account_id, each.order_group) == group]
        return own if order.order_group is not None else [order]

    def _instrument(self, symbol: str, at: datetime, tif: Tif) -> Instrument:
        price = self._prices.get(symbol)
        session = next(each for each in self._sessions if at < each.closes)
        extended = next(each for each in self._sessions if at < each.ends)
        days = [day for day in self._days if day.close_at > at]
        return Instrument(
            True,
            ask=None if price is None else price.ask,
            bid=None if price is None else price.bid,
            last=None if price is None else price.last,
            is_open=session.opens <= at,
            session_end=session.closes,
            extended_end=extended.ends,
            auction=coming(tif, days, at) if tif in {Tif.OPG, Tif.CLS} else None,
        )

    def _exposure(self, owner: UUID, symbol: str, at: datetime) -> Exposure:
        exposure = Exposure(held(self._book.lots.get((owner, symbol), ())))
        for order in self._open(symbol):
            if order.account_id == owner:
                exposure = exposure.with_open(order, self._instrument(symbol, at, order.time_in_force))
        return exposure
