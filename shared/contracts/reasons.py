"""The reasons for rejecting an order, a change of it or a transfer, and for canceling an order.

On the wire a reason is its string. A message keeps a reason that this version does not know as a plain string, so that
consumers can be deployed before or after the publisher that adds one.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field


class RejectReason(StrEnum):
    """A rejection changed nothing. ``http_status`` is how HTTP answers it."""

    DUPLICATE_CLIENT_ORDER_ID = "duplicate_client_order_id"
    INVALID = "invalid"
    SUB_PENNY = "sub_penny"
    EXIT_PRICE = "exit_price"
    POSITION_INTENT = "position_intent"
    QTY = "qty"
    NOTIONAL = "notional"
    TRAIL = "trail"
    TIME_IN_FORCE = "time_in_force"
    UNKNOWN_ORDER = "unknown_order"
    NOT_CANCELABLE = "not_cancelable"
    NOT_REPLACEABLE = "not_replaceable"
    UNKNOWN_SYMBOL = "unknown_symbol"
    NOT_TRADABLE = "not_tradable"
    SYMBOL_HALTED = "symbol_halted"
    MARKET_CLOSED = "market_closed"
    NO_AUCTION = "no_auction"
    AUCTION_CLOSED = "auction_closed"
    NO_PRICE = "no_price"
    CLOSING_ENTRY = "closing_entry"
    FRACTIONAL_SHORT = "fractional_short"
    NOT_SHORTABLE = "not_shortable"
    NO_EXCHANGE_RATE = "no_exchange_rate"
    INSUFFICIENT_SHARES = "insufficient_shares"
    INSUFFICIENT_BUYING_POWER = "insufficient_buying_power"
    INSUFFICIENT_CASH = "insufficient_cash"
    TRADING_BLOCKED = "trading_blocked"
    ACCOUNT_HALTED = "account_halted"
    ACCOUNT_CLOSED = "account_closed"
    SYMBOL_BLOCKED = "symbol_blocked"
    SYMBOL_NOT_ALLOWED = "symbol_not_allowed"
    TOO_MANY_ORDERS = "too_many_orders"
    ORDER_TOO_LARGE = "order_too_large"
    ORDER_TOO_SMALL = "order_too_small"
    POSITION_LIMIT = "position_limit"
    PRICE_COLLAR = "price_collar"
    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    WASH_TRADE = "wash_trade"
    OPPOSITE_ORDER = "opposite_order"
    UNDER_MARGIN_CALL = "under_margin_call"
    #: The command that asked for it failed whenever it was tried.
    PROCESSING_FAILED = "processing_failed"
    #: The exchange did not take the order in time.
    SUBMITTED_TOO_LONG_AGO = "submitted_too_long_ago"

    @property
    def http_status(self) -> int:
        """403 where the account's state or limits forbid it, as at Alpaca; else 422."""
        return 403 if self in _OF_THE_ACCOUNT else 422


#: The same request could succeed for another account, or for this one at another time.
_OF_THE_ACCOUNT = frozenset(
    {
        RejectReason.NO_EXCHANGE_RATE,
        RejectReason.INSUFFICIENT_SHARES,
        RejectReason.INSUFFICIENT_BUYING_POWER,
        RejectReason.INSUFFICIENT_CASH,
        RejectReason.TRADING_BLOCKED,
        RejectReason.ACCOUNT_HALTED,
        RejectReason.ACCOUNT_CLOSED,
        RejectReason.SYMBOL_BLOCKED,
        RejectReason.SYMBOL_NOT_ALLOWED,
        RejectReason.TOO_MANY_ORDERS,
        RejectReason.ORDER_TOO_LARGE,
        RejectReason.ORDER_TOO_SMALL,
        RejectReason.POSITION_LIMIT,
        RejectReason.PRICE_COLLAR,
        RejectReason.DAILY_LOSS,
        RejectReason.DRAWDOWN,
        RejectReason.WASH_TRADE,
        RejectReason.OPPOSITE_ORDER,
        RejectReason.UNDER_MARGIN_CALL,
    }
)


class CancelReason(StrEnum):
    """The cause that ended an accepted order. A partly filled order may also end by a ``RejectReason``."""

    REQUESTED = "requested"
    RESET = "reset"
    CLOSED = "closed"
    SPLIT = "split"
    MARGIN_CALL = "margin_call"
    #: The account reached a risk limit.
    RISK_LIMIT = "risk_limit"
    #: Another order of its group was filled, canceled or expired.
    OCO = "oco"
    ORDER_GROUP = "order_group"
    ENTRY_ENDED = "entry_ended"
    #: Time in force: what could not be filled at once, or in its auction.
    IOC = "ioc"
    FOK = "fok"
    OPG = "opg"
    CLS = "cls"


#: The types of ``reason`` in messages.
WireRejectReason = Annotated[RejectReason | str, Field(union_mode="left_to_right")]
WireCancelReason = Annotated[CancelReason | RejectReason | str, Field(union_mode="left_to_right")]
