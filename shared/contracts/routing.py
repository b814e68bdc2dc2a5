"""The routing table of the bus: every message with its publishers and the queues that receive it.

Exchanges, bindings and actors are derived from it. A new consumer is a new row in ``QUEUES``, and its publisher does
not change.
"""

from dataclasses import dataclass
from functools import cache

from shared.contracts.account_alerts import AlertRaised, AlertRecovered, SetAlertRules
from shared.contracts.account_risk import (
    AccountHalted,
    AccountResumed,
    ResumeAccount,
    RiskLimitReached,
    SetRiskLimits,
)
from shared.contracts.accounts import (
    AccountClosed,
    AccountReset,
    CashInLieuPaid,
    CashMoved,
    CashRefused,
    CloseAccount,
    ConfigureAccount,
    DividendPaid,
    InterestCharged,
    MarginCalled,
    MarginCallEnded,
    MoveCash,
    OpenAccount,
    ResetAccount,
)
from shared.contracts.bars import StoreBars
from shared.contracts.base import Command, Message, routing_key
from shared.contracts.corporate_actions import CorporateActionApplied, EnterCorporateAction
from shared.contracts.halts import HaltTrading, ResumeTrading, TradingHalted, TradingResumed
from shared.contracts.indicators import AddIndicator, RemoveIndicator
from shared.contracts.instrument_search import (
    InstrumentsFound,
    InstrumentsValidated,
    SearchInstruments,
    ValidateInstruments,
)
from shared.contracts.instruments import AddInstruments, ChangeInstrument, InstrumentsChanged, InstrumentsRefused
from shared.contracts.jobs import RunJob
from shared.contracts.official_prices import EnterOfficialPrice, OfficialPricePublished
from shared.contracts.operations import DiscardDeadLetters, RequeueDeadLetters, ToService
from shared.contracts.orders import (
    CancelOrder,
    CancelOrders,
    CancelRejected,
    OrderAccepted,
    OrderAdjusted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderReplaced,
    PositionChanged,
    ReplaceOrder,
    ReplaceRejected,
    SubmitOrder,
    SubmitOrders,
)
from shared.contracts.prices import PricesPushed, PricesUpdated, PushPrices
from shared.contracts.priority import Priority
from shared.contracts.rebalancing import (
    CancelRebalance,
    KeepTargets,
    PlanRebalance,
    RebalanceAnswered,
    RebalanceRefused,
    StartRebalance,
)
from shared.contracts.replay import ControlReplay
from shared.contracts.sessions import ChangeSessions, RemoveSessionChange, SessionsChanged
from shared.contracts.strategy import (
    ControlStrategy,
    CreateStrategy,
    ReviseStrategy,
    SignalGenerated,
    StrategyChanged,
    StrategyRefused,
)
from shared.contracts.valuation import AccountsValued

EVENTS = "paperprofit.events"
COMMANDS = "paperprofit.commands"

SERVICES = ("marketdata", "orders", "valuation", "strategy", "gateway")
#: The services with jobs and queues. Each has the queues ``<service>.jobs`` and ``<service>.operations``.
WORKERS = ("marketdata", "orders", "valuation", "strategy")

#: The services that may publish each message.
PUBLISHERS: dict[type[Message], tuple[str, ...]] = {
    PricesUpdated: ("marketdata",),
    PushPrices: ("gateway",),
    PricesPushed: ("marketdata",),
    AddInstruments: ("gateway",),
    ChangeInstrument: ("gateway",),
    SearchInstruments: ("gateway",),
    InstrumentsFound: ("marketdata",),
    ValidateInstruments: ("gateway",),
    InstrumentsValidated: ("marketdata",),
    InstrumentsChanged: ("marketdata",),
    InstrumentsRefused: ("marketdata",),
    EnterCorporateAction: ("gateway",),
    CorporateActionApplied: ("marketdata",),
    EnterOfficialPrice: ("gateway",),
    OfficialPricePublished: ("marketdata",),
    AddIndicator: ("gateway",),
    RemoveIndicator: ("gateway",),
    HaltTrading: ("gateway",),
    ResumeTrading: ("gateway",),
    StoreBars: ("gateway",),
    ControlReplay: ("gateway",),
    TradingHalted: ("marketdata",),
    TradingResumed: ("marketdata",),
    ChangeSessions: ("gateway",),
    RemoveSessionChange: ("gateway",),
    SessionsChanged: ("marketdata",),
    OpenAccount: ("gateway",),
    ConfigureAccount: ("gateway",),
    MoveCash: ("gateway",),
    ResetAccount: ("gateway",),
    CloseAccount: ("gateway",),
    SubmitOrder: ("gateway", "strategy"),
    SubmitOrders: ("gateway", "strategy"),
    CancelOrder: ("gateway", "strategy"),
    CancelOrders: ("gateway",),
    ReplaceOrder: ("gateway", "strategy"),
    OrderAccepted: ("orders",),
    OrderRejected: ("orders",),
    OrderFilled: ("orders",),
    PositionChanged: ("orders",),
    OrderCanceled: ("orders",),
    CancelRejected: ("orders",),
    OrderReplaced: ("orders",),
    ReplaceRejected: ("orders",),
    OrderExpired: ("orders",),
    CashMoved: ("orders",),
    CashRefused: ("orders",),
    AccountReset: ("orders",),
    AccountClosed: ("orders",),
    OrderAdjusted: ("orders",),
    DividendPaid: ("orders",),
    CashInLieuPaid: ("orders",),
    InterestCharged: ("orders",),
    MarginCalled: ("orders",),
    MarginCallEnded: ("orders",),
    AccountsValued: ("valuation",),
    CreateStrategy: ("gateway",),
    ReviseStrategy: ("gateway",),
    ControlStrategy: ("gateway",),
    StrategyChanged: ("strategy",),
    StrategyRefused: ("strategy",),
    PlanRebalance: ("gateway",),
    StartRebalance: ("gateway",),
    CancelRebalance: ("gateway",),
    KeepTargets: ("gateway",),
    RebalanceAnswered: ("strategy",),
    RebalanceRefused: ("strategy",),
    SetAlertRules: ("gateway",),
    SetRiskLimits: ("gateway",),
    RiskLimitReached: ("valuation",),
    ResumeAccount: ("gateway",),
    AccountHalted: ("orders",),
    AccountResumed: ("orders",),
    AlertRaised: ("valuation",),
    AlertRecovered: ("valuation",),
    SignalGenerated: ("strategy",),
    RunJob: SERVICES,
    RequeueDeadLetters: ("gateway",),
    DiscardDeadLetters: ("gateway",),
}


@dataclass(frozen=True)
class Queue:
    """The messages that a queue receives, and its priority among the queues of its service."""

    priority: Priority
    messages: tuple[type[Message], ...]


#: The queues by name. The part before the dot is the consuming service.
QUEUES: dict[str, Queue] = {
    "marketdata.commands": Queue(
        Priority.HIGH,
        (
            EnterCorporateAction,
            EnterOfficialPrice,
            HaltTrading,
            ResumeTrading,
            ChangeSessions,
            RemoveSessionChange,
            AddInstruments,
            ChangeInstrument,
            SearchInstruments,
            ValidateInstruments,
            PushPrices,
            StoreBars,
            ControlReplay,
            AddIndicator,
            RemoveIndicator,
        ),
    ),
    "orders.prices": Queue(
        Priority.CRITICAL, (PricesUpdated, CorporateActionApplied, OfficialPricePublished, SessionsChanged)
    ),
    "orders.commands": Queue(
        Priority.CRITICAL,
        (
            OpenAccount,
            ConfigureAccount,
            MoveCash,
            ResetAccount,
            CloseAccount,
            SubmitOrder,
            SubmitOrders,
            CancelOrder,
            CancelOrders,
            ReplaceOrder,
            ResumeAccount,
        ),
    ),
    "orders.risk": Queue(Priority.HIGH, (RiskLimitReached,)),
    "strategy.commands": Queue(
        Priority.HIGH,
        (
            CreateStrategy,
            ReviseStrategy,
            ControlStrategy,
            PlanRebalance,
            StartRebalance,
            CancelRebalance,
            KeepTargets,
        ),
    ),
    "valuation.prices": Queue(Priority.MEDIUM, (PricesUpdated,)),
    "valuation.fills": Queue(Priority.MEDIUM, (OrderFilled,)),
    "strategy.accounts": Queue(Priority.HIGH, (AccountHalted,)),
    "valuation.commands": Queue(Priority.HIGH, (SetAlertRules, SetRiskLimits)),
    **{f"{service}.jobs": Queue(Priority.MEDIUM, (RunJob,)) for service in WORKERS},
    **{f"{service}.operations": Queue(Priority.HIGH, (RequeueDeadLetters, DiscardDeadLetters)) for service in WORKERS},
}

#: The events that each gateway process receives, on a queue of its own that is deleted with it.
LIVE: tuple[type[Message], ...] = (
    PricesUpdated,
    PricesPushed,
    InstrumentsChanged,
    InstrumentsRefused,
    InstrumentsFound,
    InstrumentsValidated,
    StrategyChanged,
    StrategyRefused,
    RebalanceAnswered,
    RebalanceRefused,
    TradingHalted,
    TradingResumed,
    SessionsChanged,
    OrderAccepted,
    OrderRejected,
    OrderFilled,
    PositionChanged,
    OrderCanceled,
    CancelRejected,
    OrderReplaced,
    ReplaceRejected,
    OrderExpired,
    CashMoved,
    CashRefused,
    AccountReset,
    AccountClosed,
    OrderAdjusted,
    DividendPaid,
    CashInLieuPaid,
    InterestCharged,
    MarginCalled,
    MarginCallEnded,
    AccountHalted,
    AccountResumed,
    AccountsValued,
)


@dataclass(frozen=True)
class Binding:
    """A binding of a queue to an exchange under a routing key."""

    queue: str
    exchange: str
    routing_key: str


@cache
def exchange_of(message: type[Message]) -> str:
    return COMMANDS if issubclass(message, Command) else EVENTS


@cache
def is_awaited(message: type[Message]) -> bool:
    """True if a queue that outlives its consumers receives this message."""
    return any(message in queue.messages for queue in QUEUES.values())


def service_of(queue: str) -> str:
    return queue.partition(".")[0]


def dead_queue(service: str) -> str:
    """The queue for messages that RabbitMQ itself gives up. The service saves them as dead letters."""
    return f"{service}.dead"


def consumed_by(service: str) -> tuple[str, ...]:
    """The queues that the service's workers consume."""
    return (*queues_of(service), dead_queue(service))


def worker_pools_of(service: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The queues of each worker pool. A second pool exists only where some queues are critical: they are the first."""
    queues = consumed_by(service)
    urgent = tuple(queue for queue in queues if queue in QUEUES and QUEUES[queue].priority is Priority.CRITICAL)
    return (urgent, tuple(queue for queue in queues if queue not in urgent)) if urgent else (queues, ())


def queues_of(service: str) -> tuple[str, ...]:
    return tuple(queue for queue in QUEUES if service_of(queue) == service)


def bindings_of(queue: str) -> tuple[Binding, ...]:
    return tuple(bind(queue, message) for message in QUEUES[queue].messages)


def sent_under(message: type[Message], sender: str) -> tuple[str, ...]:
    """The routing keys under which the sender may publish it. A service sends ``ToService`` commands only to itself."""
    if not issubclass(message, ToService):
        return (routing_key(message, message.service),)
    return tuple(routing_key(message, owner) for owner in ((sender,) if sender in WORKERS else WORKERS))


def bind(queue: str, message: type[Message]) -> Binding:
    owner = service_of(queue) if issubclass(message, ToService) else message.service
    return Binding(queue, exchange_of(message), routing_key(message, owner))
