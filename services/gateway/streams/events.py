"""The events that the gateway receives: the requests that they answer, and the parts of a page that they change."""

from collections.abc import Mapping
from enum import StrEnum

from shared.contracts.account_risk import AccountHalted, AccountResumed
from shared.contracts.accounts import (
    AccountClosed,
    AccountReset,
    CashInLieuPaid,
    CashMoved,
    CashRefused,
    DividendPaid,
    InterestCharged,
    MarginCalled,
    MarginCallEnded,
)
from shared.contracts.base import Message
from shared.contracts.halts import TradingHalted, TradingResumed
from shared.contracts.instrument_search import InstrumentsFound, InstrumentsValidated
from shared.contracts.instruments import InstrumentsChanged, InstrumentsRefused
from shared.contracts.orders import (
    CancelRejected,
    OrderAccepted,
    OrderAdjusted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    PositionChanged,
    ReplaceRejected,
)
from shared.contracts.prices import PricesPushed
from shared.contracts.rebalancing import RebalanceAnswered, RebalanceRefused
from shared.contracts.routing import LIVE
from shared.contracts.sessions import SessionsChanged
from shared.contracts.strategy import StrategyChanged, StrategyRefused


class Part(StrEnum):
    """A part of a page that is read again when an event has changed it."""

    ACCOUNT = "account"
    HALTS = "halts"
    JOBS = "jobs"
    ORDERS = "orders"
    POSITIONS = "positions"


#: The class of each wire name that the gateway subscribes to.
BY_WIRE_NAME: Mapping[str, type[Message]] = {message.wire_name(): message for message in LIVE}
#: Events that answer a request, and the field with the id that the request waits for.
ANSWERS: Mapping[type[Message], str] = {
    OrderAccepted: "order_id",
    OrderRejected: "order_id",
    OrderCanceled: "order_id",
    CancelRejected: "order_id",
    OrderReplaced: "new_order_id",
    ReplaceRejected: "new_order_id",
    CashMoved: "transfer_id",
    CashRefused: "transfer_id",
    AccountReset: "reset_id",
    AccountClosed: "closing_id",
    AccountResumed: "halt_id",
    PricesPushed: "push_id",
    InstrumentsChanged: "request_id",
    InstrumentsRefused: "request_id",
    InstrumentsFound: "request_id",
    InstrumentsValidated: "request_id",
    StrategyChanged: "request_id",
    StrategyRefused: "request_id",
    RebalanceAnswered: "request_id",
    RebalanceRefused: "request_id",
    TradingHalted: "halt_id",
    TradingResumed: "halt_id",
    SessionsChanged: "change_id",
}
#: A valuation, and the events that change the account's cash or shares.
VALUE = frozenset({Part.ACCOUNT, Part.POSITIONS})
#: An order that closes a position holds some of its shares.
ORDER = VALUE | {Part.ORDERS}
CASH = frozenset({Part.ACCOUNT})
#: The parts of the account's page that an event changes. A rejection changes none.
CHANGES: Mapping[type[Message], frozenset[Part]] = {
    OrderAccepted: ORDER,
    OrderRejected: ORDER,
    OrderCanceled: ORDER,
    OrderExpired: ORDER,
    OrderReplaced: ORDER,
    OrderFilled: ORDER,
    OrderAdjusted: ORDER,
    AccountReset: ORDER,
    AccountClosed: ORDER,
    PositionChanged: VALUE,
    CashMoved: CASH,
    DividendPaid: CASH,
    CashInLieuPaid: CASH,
    InterestCharged: CASH,
    MarginCalled: CASH,
    MarginCallEnded: CASH,
    AccountHalted: CASH,
    AccountResumed: CASH,
}
#: Events that change the page of every account.
HALTS = frozenset({TradingHalted, TradingResumed})
