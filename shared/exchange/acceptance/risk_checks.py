"""The checks that an order passes before it is accepted. Each names the reason for which it rejects.

An order that only closes a position is exempt from all limits but those on the rate of orders and on their prices, so
that a position can always be closed.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain

from shared.contracts.accounts import RiskLimits
from shared.contracts.orders import AUCTIONS, OrderTerms, Side, TimeInForce
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.position_checks import broken_position_rules
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.sizing import Size
from shared.exchange.order import Account, Order
from shared.exchange.refusal import Refusal
from shared.exchange.trading_days import CUTOFFS, OVERDUE, is_closed
from shared.money import ZERO, cents, plain

DUPLICATE = Refusal(RejectReason.DUPLICATE_CLIENT_ORDER_ID, "client_order_id must be unique")


def unknown_symbol(symbol: str) -> Refusal:
    return Refusal(RejectReason.UNKNOWN_SYMBOL, f"symbol {symbol} is not a known instrument")


def refuse(
    order: OrderTerms,
    size: Size,
    instrument: Instrument,
    account: Account,
    exposure: Exposure,
    limits: RiskLimits,
    *,
    is_exit: bool = False,
) -> Refusal | None:
    """The first reason to reject the order, or None. ``limits`` are those of the account or of the order's strategy."""
    broken = chain(
        _broken_permissions(order, size, instrument, account),
        _broken_lots(order, size, instrument),
        broken_position_rules(order, size, account, exposure, is_exit=is_exit),
        () if limits.is_empty else _broken_rates(order, instrument, exposure, limits),
        () if limits.is_empty or size.only_closes else _broken_limits(order, size, account, exposure, limits),
    )
    refusal = next(broken, None)
    if refusal is not None or not size.needed or size.needed <= account.buying_power:
        return refusal
    return Refusal(
        RejectReason.INSUFFICIENT_BUYING_POWER,
        f"insufficient buying power (needed: {plain(size.needed)}, available: {plain(account.buying_power)})",
    )


def refuse_halted(symbol: str, instrument: Instrument) -> Refusal | None:
    """Reject a new or changed order while the symbol is halted. Open orders wait, and may be canceled."""
    if instrument.halt is None:
        return None
    since = _clock(instrument.halt.since)
    return Refusal(
        RejectReason.SYMBOL_HALTED, f"trading in {symbol} has been halted since {since}: {instrument.halt.reason}"
    )


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def refuse_auction(order: OrderTerms, instrument: Instrument, now: datetime) -> Refusal | None:
    """Reject an opg or cls order that has no auction, or comes after its cutoff (Alpaca: orders-at-alpaca)."""
    if order.time_in_force not in AUCTIONS:
        return None
    if instrument.auction is None:
        return Refusal(
            RejectReason.NO_AUCTION,
            f"{order.symbol} has no auction: its market never closes, or its sessions are not known",
        )
    if not is_closed(order.time_in_force, instrument.auction.at, now):
        return None
    return Refusal(
        RejectReason.AUCTION_CLOSED,
        f"{order.time_in_force} orders must be submitted at least {_cutoff(order.time_in_force)} minutes before the "
        f"auction, which was due at {instrument.auction.at:%Y-%m-%d %H:%M} UTC",
    )


def refuse_change(order: Order, now: datetime) -> Refusal | None:
    """Reject a cancel or replace of an open order of a margin call, or of one whose auction is about to be held.

    An hour after the auction was due the order can be changed again, in case no price came (Alpaca: orders-at-alpaca).
    """
    if order.liquidation:
        return Refusal(
            RejectReason.UNDER_MARGIN_CALL, "the order answers a margin call: it can be neither canceled nor replaced"
        )
    if order.auction_at is None or not is_closed(order.time_in_force, order.auction_at, now):
        return None
    if now >= order.auction_at + OVERDUE:
        return None
    return Refusal(
        RejectReason.AUCTION_CLOSED,
        f"{order.time_in_force} orders cannot be canceled or replaced from {_cutoff(order.time_in_force)} minutes "
        "before the auction until it is over",
    )


def _cutoff(time_in_force: TimeInForce) -> int:
    return CUTOFFS[time_in_force] // timedelta(minutes=1)


def _broken_permissions(order: OrderTerms, size: Size, instrument: Instrument, account: Account) -> Iterator[Refusal]:
    """The account or the market does not accept any such order now."""
    symbol = order.symbol
    if account.settings.trading_blocked:
        yield Refusal(RejectReason.TRADING_BLOCKED, "trading is blocked for this account (trading_blocked)")
    if account.halted_at is not None and not size.only_closes:
        yield Refusal(
            RejectReason.ACCOUNT_HALTED,
            f"the account has been halted since {_clock(account.halted_at)}: {account.halt_reason}; orders that close "
            "a position are accepted, and POST /api/account/risk-limits/resume ends the halt",
        )
    if not instrument.tradable and not size.only_closes:
        yield Refusal(RejectReason.NOT_TRADABLE, f"symbol {symbol} is not tradable")
    if order.time_in_force in {TimeInForce.IOC, TimeInForce.FOK} and not instrument.is_open:
        yield Refusal(RejectReason.MARKET_CLOSED, f"{order.time_in_force} orders need an open market")
    halted = refuse_halted(symbol, instrument)
    if halted is not None:
        yield halted
    # an order that only closes shares may wait for a rate
    if instrument.rate_in(account.currency) is None and (size.opening or order.notional is not None):
        yield Refusal(
            RejectReason.NO_EXCHANGE_RATE,
            f"{symbol} trades in {instrument.currency}, for which there is no exchange rate in {account.currency} yet",
        )


def _broken_lots(order: OrderTerms, size: Size, instrument: Instrument) -> Iterator[Refusal]:
    """A part of a lot, but for what is left of a position, and a short sale of what cannot be lent."""
    if not instrument.fractionable and not size.whole_rest:
        lot = plain(instrument.lot_size)
        if order.notional is not None:
            yield Refusal(RejectReason.NOTIONAL, f"notional: {order.symbol} is traded in lots of {lot}; send qty")
        elif size.qty % instrument.lot_size:
            yield Refusal(RejectReason.QTY, f"qty: must be a multiple of {lot}, the lot of {order.symbol}")
    if not instrument.shortable and order.side is Side.SELL and size.opening:
        yield Refusal(
            RejectReason.NOT_SHORTABLE,
            f"{order.symbol} cannot be sold short (requested: {plain(size.qty)}, available: {plain(size.closing)})",
        )


def _broken_rates(
    order: OrderTerms, instrument: Instrument, exposure: Exposure, limits: RiskLimits
) -> Iterator[Refusal]:
    """Limits on the rate of orders and on their prices (SEC Rule 15c3-5 asks brokers for them)."""
    if limits.orders_per_minute is not None and exposure.recent >= limits.orders_per_minute:
        yield Refusal(
            RejectReason.TOO_MANY_ORDERS,
            f"more than {limits.orders_per_minute} orders in a minute: wait, then submit again",
        )
    if limits.price_collar is None or order.limit_price is None or instrument.last is None:
        return
    if abs(order.limit_price - instrument.last) / instrument.last > limits.price_collar:
        yield Refusal(
            RejectReason.PRICE_COLLAR,
            f"limit_price {plain(order.limit_price)} is more than {plain(limits.price_collar * 100)} % "
            f"away from the last price {plain(instrument.last)}",
        )


def _broken_limits(
    order: OrderTerms, size: Size, account: Account, exposure: Exposure, limits: RiskLimits
) -> Iterator[Refusal]:
    """Limits on symbols, on the order, on the position with all open orders filled, and on the account's losses."""
    symbol = order.symbol
    if symbol in limits.blocked_symbols:
        yield Refusal(RejectReason.SYMBOL_BLOCKED, f"orders for {symbol} are blocked (blocked_symbols)")
    if limits.allowed_symbols and symbol not in limits.allowed_symbols:
        yield Refusal(RejectReason.SYMBOL_NOT_ALLOWED, f"{symbol} is not among the allowed symbols (allowed_symbols)")
    if size.price is None and limits.on_size(shares=order.qty is None):
        yield Refusal(RejectReason.NO_PRICE, f"{symbol} has no price yet, which the account's limits are measured by")
    price = size.price or ZERO
    after = _position_after(order, size, exposure)
    share = None if limits.max_position_share is None else cents(limits.max_position_share * account.equity)
    yield from _over(RejectReason.ORDER_TOO_LARGE, "order quantity", size.qty, limits.max_order_qty)
    yield from _over(RejectReason.ORDER_TOO_LARGE, "order value", cents(size.qty * price), limits.max_order_notional)
    yield from _over(RejectReason.POSITION_LIMIT, "position", after, limits.max_position_qty)
    yield from _over(RejectReason.POSITION_LIMIT, "position value", cents(after * price), limits.max_position_notional)
    yield from _over(RejectReason.POSITION_LIMIT, "position value", cents(after * price), share)
    for reason, allowed, before in (
        (RejectReason.DAILY_LOSS, limits.max_daily_loss, exposure.day_start),
        (RejectReason.DRAWDOWN, limits.max_drawdown, exposure.peak),
    ):
        if allowed is not None and before is not None and account.equity < before * (1 - allowed):
            yield Refusal(
                reason,
                f"{reason.replace('_', ' ')}: equity {plain(cents(account.equity))} has fallen by more than "
                f"{plain(allowed * 100)} % from {plain(cents(before))}",
            )


def _position_after(order: OrderTerms, size: Size, exposure: Exposure) -> Decimal:
    """The size of the position with the order and all open orders of its side filled, notional ones at the market."""
    if order.side is Side.SELL:
        return abs(exposure.held - exposure.selling - size.qty)
    for_money = exposure.buying_money / size.market if size.market else ZERO
    return abs(exposure.held + exposure.buying + for_money + size.qty)


def _over(reason: RejectReason, name: str, value: Decimal, limit: Decimal | None) -> Iterator[Refusal]:
    if limit is not None and value > limit:
        yield Refusal(reason, f"{name} {plain(value)} would be over the limit of {plain(limit)}")
