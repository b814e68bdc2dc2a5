"""What is checked before an order is accepted; each refusal has a name.

What only closes a position is free of the limits on positions and losses: nobody is kept from getting out.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from shared.contracts.accounts import RiskLimits
from shared.contracts.orders import AUCTIONS, OrderClass, OrderTerms, OrderType, Side, TimeInForce
from shared.exchange import costs
from shared.exchange.fx import SAME, Rate
from shared.exchange.lots import closing_qty
from shared.exchange.order import Account, Order, shares_for
from shared.exchange.trading_days import CUTOFFS, OVERDUE, Auction, is_closed
from shared.money import ZERO, cents, plain

#: A market or stop order reserves this much above its reference price, since it may fill above it; a short more.
ALLOWANCE = Decimal("1.01")
SHORT_ALLOWANCE = Decimal("1.03")


@dataclass(frozen=True)
class Refusal:
    """Why an order is not accepted: a name for programs, a sentence for people."""

    reason: str
    message: str


DUPLICATE = Refusal("duplicate_client_order_id", "client_order_id must be unique")


@dataclass(frozen=True)
class Halt:
    """The instrument is halted: ``since`` when, and why."""

    since: datetime
    reason: str


@dataclass(frozen=True)
class Instrument:
    """What is known about an instrument when an order comes in; no quote is there before the first price.

    ``is_open``: its market trades now. ``session_end``: when orders of the day end; None where no session is known.
    ``auction``: the one that the order is for, where it is for one and that is known.
    """

    tradable: bool
    ask: Decimal | None = None
    bid: Decimal | None = None
    last: Decimal | None = None
    currency: str = "USD"
    is_open: bool = True
    session_end: datetime | None = None
    auction: Auction | None = None
    #: Of its currency in the account's, where they differ and there is one.
    rate: Rate | None = None
    halt: Halt | None = None

    def rate_in(self, currency: str) -> Rate | None:
        return SAME if self.currency == currency else self.rate


@dataclass(frozen=True)
class Exposure:
    """What an account has of a symbol and has done: shares held and held_for_orders to open orders that close them.

    ``buying`` and ``selling`` are the shares that open orders would add to what is held, long and short.
    ``day_start`` and ``peak`` are its equity then, None where no day was summed up yet; ``recent`` the orders of the
    last minute, ``recent_of_strategy`` those of them that came from the same strategy.
    """

    held: Decimal = ZERO
    held_for_orders: Decimal = ZERO
    buying: Decimal = ZERO
    selling: Decimal = ZERO
    recent: int = 0
    recent_of_strategy: int = 0
    day_start: Decimal | None = None
    peak: Decimal | None = None


@dataclass(frozen=True)
class Asked:
    """An order's size in numbers: shares, what of it closes, its reference price, and what the opening part costs.

    Money is in the account's currency. ``price`` is None before the instrument's first price, and without a rate.
    """

    qty: Decimal
    closing: Decimal
    price: Decimal | None
    needed: Decimal

    @property
    def opening(self) -> Decimal:
        return self.qty - self.closing


def unknown_symbol(symbol: str) -> Refusal:
    return Refusal("unknown_symbol", f"symbol {symbol} is not an instrument here")


def size_up(order: OrderTerms, instrument: Instrument, account: Account, exposure: Exposure) -> Asked:
    """The order in numbers. ``needed`` is the buying power that its opening part and its commission take.

    Of an instrument without a price nothing is known: such an order is checked when it fills.
    """
    price = _worth(order, instrument, account)
    free = (
        exposure.held - exposure.held_for_orders
        if order.side is Side.SELL
        else exposure.held + exposure.held_for_orders
    )
    qty = order.qty if order.qty is not None else _shares(order, price, free)
    closing = closing_qty(free, order.side, qty)
    opening = qty - closing
    cost = cents(opening * (price or ZERO))
    if order.notional is not None and order.side is Side.BUY and not closing:
        cost = order.notional
    return Asked(qty, closing, price, cost + _commission(account, opening, cost))


def _commission(account: Account, qty: Decimal, cost: Decimal) -> Decimal:
    model = account.settings.fills.commission
    return costs.fee(model, qty=qty, amount=cost, filled=qty, charged=ZERO)


def _shares(order: OrderTerms, price: Decimal | None, free: Decimal) -> Decimal:
    """As many as the money comes to; where they close what is held, some more, since the price may move till then."""
    if price is None or order.notional is None:
        return ZERO
    qty, more = (shares_for(order.notional * part, price) for part in (Decimal(1), ALLOWANCE))
    return max(qty, closing_qty(free, order.side, more))


def _worth(order: OrderTerms, instrument: Instrument, account: Account) -> Decimal | None:
    """The price to reckon with, in the account's currency."""
    price, rate = _reference(order, instrument), instrument.rate_in(account.currency)
    if price is None or rate is None:
        return None
    return price * rate.of(buys=order.side is Side.BUY or order.notional is None)  # a short sale will be bought back


def _reference(order: OrderTerms, instrument: Instrument) -> Decimal | None:
    """The price to reckon with: the worst that the order is likely to get."""
    if order.side is Side.SELL:
        return _sell_reference(order, instrument)
    if order.limit_price is not None:
        return order.limit_price
    market = instrument.ask or instrument.last
    if order.type is OrderType.TRAILING_STOP and market is not None:
        market += order.trail_price if order.trail_price is not None else market * (order.trail_percent or ZERO) / 100
    base = order.stop_price or market
    return None if base is None else base if order.notional is not None else base * ALLOWANCE


def _sell_reference(order: OrderTerms, instrument: Instrument) -> Decimal | None:
    if order.notional is not None:
        return instrument.bid or instrument.last
    market = instrument.ask or instrument.last
    prices = [order.limit_price, market and market * SHORT_ALLOWANCE, order.stop_price]
    return max((price for price in prices if price is not None), default=None)


def refuse(
    order: OrderTerms, instrument: Instrument, account: Account, exposure: Exposure, limits: RiskLimits
) -> Refusal | None:
    """The first reason not to accept the order."""
    asked = size_up(order, instrument, account, exposure)
    return (
        _refuse_instrument(order, instrument, account, limits)
        or refuse_halted(order.symbol, instrument)
        or _refuse_unrated(order, instrument, account, asked)
        or _refuse_shares(order, account, asked)
        or _refuse_rate(exposure, limits)
        or _refuse_size(asked, limits)
        or _refuse_price(order, instrument, limits)
        or (_refuse_exposure(order, account, exposure, asked, limits) if asked.opening else None)
        or _refuse_cost(account, asked)
    )


def refuse_auction(order: OrderTerms, instrument: Instrument, now: datetime) -> Refusal | None:
    """Why the order cannot go to the auction that it is for."""
    if order.time_in_force not in AUCTIONS:
        return None
    if instrument.auction is None:
        return Refusal(
            "no_auction", f"{order.symbol} has no auction: its market never closes, or its sessions are not known"
        )
    if not is_closed(order.time_in_force, instrument.auction.at, now):
        return None
    return Refusal(
        "auction_closed",
        f"an order that is {order.time_in_force} comes at the latest {_minutes(order.time_in_force)} minutes before "
        f"its auction, which was due at {instrument.auction.at:%Y-%m-%d %H:%M} UTC",
    )


def refuse_change(order: Order, now: datetime) -> Refusal | None:
    """Why the order can be neither canceled nor replaced now, although it is open: its auction is about to be held.

    An hour after it was due it can be again, should no price have come.
    """
    if order.auction_at is None or not is_closed(order.time_in_force, order.auction_at, now):
        return None
    if now >= order.auction_at + OVERDUE:
        return None
    return Refusal(
        "auction_closed",
        f"an order that is {order.time_in_force} stays from {_minutes(order.time_in_force)} minutes before its auction "
        f"until that is over",
    )


def refuse_halted(symbol: str, instrument: Instrument) -> Refusal | None:
    """Nothing new comes while the symbol is halted; what is there waits, and may be canceled."""
    if instrument.halt is None:
        return None
    since = f"{instrument.halt.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Refusal("symbol_halted", f"trading of {symbol} is halted since {since}: {instrument.halt.reason}")


def _minutes(time_in_force: TimeInForce) -> int:
    return CUTOFFS[time_in_force] // timedelta(minutes=1)


def _refuse_instrument(
    order: OrderTerms, instrument: Instrument, account: Account, limits: RiskLimits
) -> Refusal | None:
    symbol = order.symbol
    at_once = order.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}
    found = (
        (account.settings.trading_blocked, "trading_blocked", "trading is blocked for this account"),
        (not instrument.tradable, "not_tradable", f"symbol {symbol} is not tradable"),
        (symbol in limits.blocked_symbols, "symbol_blocked", f"orders for {symbol} are blocked"),
        (
            bool(limits.allowed_symbols) and symbol not in limits.allowed_symbols,
            "symbol_not_allowed",
            f"{symbol} is not among the allowed symbols",
        ),
        (at_once and not instrument.is_open, "market_closed", f"an {order.time_in_force} order needs an open market"),
    )
    return next((Refusal(reason, message) for broken, reason, message in found if broken), None)


def _refuse_unrated(order: OrderTerms, instrument: Instrument, account: Account, asked: Asked) -> Refusal | None:
    """Shares that only close may wait for a rate: nobody is kept from getting out."""
    if instrument.rate_in(account.currency) is not None or not (asked.opening or order.notional is not None):
        return None
    return Refusal(
        "no_exchange_rate",
        f"{order.symbol} trades in {instrument.currency}, of which there is no rate in {account.currency}",
    )


def _refuse_shares(order: OrderTerms, account: Account, asked: Asked) -> Refusal | None:
    if order.order_class is OrderClass.OCO and asked.opening:
        return _too_few(asked, "an oco order only closes what is held")
    if order.order_class in {OrderClass.BRACKET, OrderClass.OTO} and asked.closing:
        return Refusal("closing_entry", f"an order of class {order.order_class} only opens a position")
    return _refuse_sale(order, account, asked) if order.side is Side.SELL else None


def _refuse_sale(order: OrderTerms, account: Account, asked: Asked) -> Refusal | None:
    if order.notional is not None and asked.price is None:
        return Refusal("no_price", f"without a price of {order.symbol} nobody knows how many shares these are")
    if not asked.opening:
        return None
    if not account.settings.shorting:
        return _too_few(asked, "insufficient qty available for order")
    if order.notional is not None or asked.opening % 1:
        return Refusal("fractional_short", "only whole shares can be sold short")
    return None


def _too_few(asked: Asked, why: str) -> Refusal:
    return Refusal("insufficient_shares", f"{why} (requested: {plain(asked.qty)}, available: {plain(asked.closing)})")


def _refuse_rate(exposure: Exposure, limits: RiskLimits) -> Refusal | None:
    if limits.orders_per_minute is None or exposure.recent < limits.orders_per_minute:
        return None
    return Refusal("too_many_orders", f"more than {limits.orders_per_minute} orders in a minute")


def _refuse_size(asked: Asked, limits: RiskLimits) -> Refusal | None:
    value = cents(asked.qty * (asked.price or ZERO))
    return _over("order_too_large", "order quantity", asked.qty, limits.max_order_qty) or _over(
        "order_too_large", "order value", value, limits.max_order_notional
    )


def _refuse_price(order: OrderTerms, instrument: Instrument, limits: RiskLimits) -> Refusal | None:
    """A limit far from the market is a slip of the hand."""
    if limits.price_collar is None or order.limit_price is None or instrument.last is None:
        return None
    away = abs(order.limit_price - instrument.last) / instrument.last
    if away <= limits.price_collar:
        return None
    return Refusal(
        "price_collar",
        f"limit_price {plain(order.limit_price)} is more than {plain(limits.price_collar * 100)} % "
        f"away from the last price {plain(instrument.last)}",
    )


def _refuse_exposure(
    order: OrderTerms, account: Account, exposure: Exposure, asked: Asked, limits: RiskLimits
) -> Refusal | None:
    buys = order.side is Side.BUY
    after = abs(exposure.held + (exposure.buying + asked.qty if buys else -exposure.selling - asked.qty))
    value = cents(after * (asked.price or ZERO))
    share = None if limits.max_position_share is None else cents(limits.max_position_share * account.equity)
    return (
        _over("position_limit", "position", after, limits.max_position_qty)
        or _over("position_limit", "position value", value, limits.max_position_notional)
        or _over("position_limit", "position value", value, share)
        or _refuse_losses(account, exposure, limits)
    )


def _refuse_losses(account: Account, exposure: Exposure, limits: RiskLimits) -> Refusal | None:
    for name, allowed, was in (
        ("daily_loss", limits.max_daily_loss, exposure.day_start),
        ("drawdown", limits.max_drawdown, exposure.peak),
    ):
        if allowed is not None and was is not None and account.equity < was * (1 - allowed):
            return Refusal(
                name, f"{name.replace('_', ' ')}: equity {plain(cents(account.equity))} has fallen by more than "
                f"{plain(allowed * 100)} % from {plain(cents(was))}",
            )  # fmt: skip
    return None


def _refuse_cost(account: Account, asked: Asked) -> Refusal | None:
    if not asked.needed or asked.needed <= account.buying_power:
        return None
    return Refusal(
        "insufficient_buying_power",
        f"insufficient buying power (needed: {plain(asked.needed)}, available: {plain(account.buying_power)})",
    )


def _over(reason: str, what: str, value: Decimal, limit: Decimal | None) -> Refusal | None:
    if limit is None or value <= limit:
        return None
    return Refusal(reason, f"{what} {plain(value)} would be over the limit of {plain(limit)}")
