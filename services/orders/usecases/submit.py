"""Orders come in and are replaced: what is known is loaded, the domain decides, and rows and events follow."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import order_writes
from services.orders.persistence.accounts import PreTradeContext
from services.orders.persistence.fx_rates import rated
from services.orders.persistence.order_writes import Entered
from services.orders.usecases import auctions
from services.orders.usecases.account_events import AccountEvents
from shared.bus import tracing
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import NewOrder, OrderAccepted, OrderReplaced, ReplaceOrder, ReplaceRejected
from shared.exchange.acceptance import risk_checks
from shared.exchange.acceptance.entry import Admitted, admit, refused
from shared.exchange.acceptance.pre_trade import Exposure
from shared.exchange.acceptance.replace import Replaced, admit_replacement
from shared.exchange.order import Account, Order
from shared.exchange.refusal import Refusal


def look_up(
    uow: UnitOfWork, account_id: UUID, orders: Sequence[NewOrder]
) -> tuple[Account | None, list[PreTradeContext]]:
    """The account, locked, and what is known about each of the orders, in one round trip."""
    return account_store.lock_with_contexts(uow, account_id, _asked(orders))


def enter_orders(
    uow: UnitOfWork, account: Account, orders: Sequence[NewOrder], pre_trade_contexts: Sequence[PreTradeContext]
) -> None:
    """Accept each order and reserve what it needs, or refuse it with a reason; either is a row.

    One that is there already is left alone, also where the command itself has it twice. The account is locked;
    ``contexts`` are as it was looked up.
    """
    times = [(order.symbol, order.time_in_force, order.submitted_at) for order in orders]
    pre_trade_contexts = auctions.with_auctions(
        uow.connection, times, rated(uow.connection, account, pre_trade_contexts), uow.now
    )
    desk = _Desk(uow, account)
    for order, pre_trade in zip(orders, pre_trade_contexts, strict=True):
        if not pre_trade.known and order.order_id not in desk.ids:
            desk.enter(order, pre_trade)
    if desk.entered:
        uow.at_commit(*order_writes.entering(desk.entered, desk.account, uow.now))


def _asked(orders: Sequence[NewOrder]) -> list[tuple[UUID, str, str]]:
    return [(order.order_id, order.client_order_id, order.symbol) for order in orders]


class _Desk:
    """The orders of one command, one after the other: each sees what those before it reserved and held_for_orders."""

    def __init__(self, uow: UnitOfWork, account: Account) -> None:
        self.entered: list[Entered] = []
        self.ids: set[UUID] = set()
        self._uow = uow
        self._accounts = {account.id: account}
        self._id = account.id
        self._record = _record(uow, account)
        self._exposures: dict[str, Exposure] = {}
        self._client_ids: set[str] = set()
        self._events = AccountEvents(uow, self._accounts)

    @property
    def account(self) -> Account:
        return self._accounts[self._id]

    def enter(self, order: NewOrder, pre_trade: PreTradeContext) -> None:
        self.ids.add(order.order_id)
        decided = self._decide(order, pre_trade)
        if isinstance(decided, Refusal):
            currency = self.account.currency if pre_trade.instrument is None else pre_trade.instrument.currency
            ended = refused(order, self.account, currency, self._uow.now, tracing.current())
            self.entered.append(_row(ended, order, self.account, decided))
            self._events.rejected(ended, decided)
            return
        self._accounts[self._id] = decided.account
        self._exposures[order.symbol] = decided.exposure
        self._record = self._record.and_one_of(order.strategy_id)
        self._client_ids.add(order.client_order_id)
        for each in decided.orders:
            self.entered.append(_row(each, order, self.account))
            self._events.emit(OrderAccepted, self._id, order_id=each.id)

    def _decide(self, order: NewOrder, pre_trade: PreTradeContext) -> Admitted | Refusal:
        if pre_trade.instrument is None:
            return risk_checks.unknown_symbol(order.symbol)
        if pre_trade.client_id_taken or order.client_order_id in self._client_ids:
            return risk_checks.DUPLICATE
        exposure = _with(self._exposures.get(order.symbol, pre_trade.exposure), self._record, order.strategy_id)
        return admit(order, pre_trade.instrument, self.account, exposure, self._uow.now, tracing.current())


def replace_order(uow: UnitOfWork, account: Account, order_group: Sequence[Order], command: ReplaceOrder) -> None:
    """Replace the order, which is one of the open ones of ``order_group``, or say why not. All of it is locked."""
    old = next(order for order in order_group if order.id == command.order_id)
    client_id = command.client_order_id or str(command.new_order_id)
    asked = [(command.new_order_id, client_id, old.symbol)]
    (pre_trade,) = rated(
        uow.connection, account, account_store.pre_trade_contexts(uow.connection, account.id, asked, uow.now)
    )
    if pre_trade.known:
        return
    time = (old.symbol, command.time_in_force or old.time_in_force, command.requested_at)
    (pre_trade,) = auctions.with_auctions(uow.connection, [time], [pre_trade], uow.now)
    done = _amended(uow, account, order_group, command, pre_trade)
    if isinstance(done, Refusal):
        refuse_replace(uow, account, command, done)
        return
    accounts = {account.id: done.account}
    events = AccountEvents(uow, accounts)
    events.emit(OrderReplaced, account.id, trace=old.trace, order_id=old.id, new_order_id=command.new_order_id)
    on_bar = account.settings.fills.fills_on == "bar"
    entered = Entered(
        done.order, client_id, command.requested_at, on_bar, replaces=old.id, generation=account.generation
    )
    uow.at_commit(*order_writes.replacing(old.id, entered, accounts[account.id], uow.now))


def _amended(
    uow: UnitOfWork, account: Account, order_group: Sequence[Order], command: ReplaceOrder, pre_trade: PreTradeContext
) -> Replaced | Refusal:
    if pre_trade.instrument is None:
        return risk_checks.unknown_symbol(order_group[0].symbol)
    if pre_trade.client_id_taken:
        return risk_checks.DUPLICATE
    exposure = _with(pre_trade.exposure, _record(uow, account), order_group[0].strategy_id)
    return admit_replacement(order_group, command, pre_trade.instrument, account, exposure, uow.now)


def refuse_replace(uow: UnitOfWork, account: Account, command: ReplaceOrder, refusal: Refusal) -> None:
    accounts = {account.id: account}
    AccountEvents(uow, accounts).emit(
        ReplaceRejected,
        account.id,
        order_id=command.order_id,
        new_order_id=command.new_order_id,
        reason=refusal.reason,
        message=refusal.message,
    )
    uow.run(account_store.saving_accounts(list(accounts.values())))


def _record(uow: UnitOfWork, account: Account) -> account_store.Record:
    """What the account did lately, where its limits ask for it."""
    asks = any(limits.on_equity or limits.orders_per_minute for limits in account.settings.all_limits)
    return account_store.record(uow.connection, account.id, uow.now) if asks else account_store.Record()


def _with(exposure: Exposure, record: account_store.Record, strategy_id: UUID | None) -> Exposure:
    return replace(
        exposure,
        recent=sum(record.orders.values()),
        recent_of_strategy=record.orders.get(strategy_id, 0),
        day_start=record.day_start,
        peak=record.peak,
    )


def _row(order: Order, asked: NewOrder, account: Account, refusal: Refusal | None = None) -> Entered:
    return Entered(
        order,
        asked.client_order_id if order.id == asked.order_id else str(order.id),
        asked.submitted_at,
        on_bar=account.settings.fills.fills_on == "bar",
        refusal=refusal,
        generation=account.generation,
    )
