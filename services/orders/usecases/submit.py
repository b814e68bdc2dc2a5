"""Orders come in and are replaced: what is known is loaded, the domain decides, and rows and events follow."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import order_writes
from services.orders.persistence.accounts import Context
from services.orders.persistence.fx_rates import rated
from services.orders.persistence.order_writes import Entered
from services.orders.usecases import auctions
from services.orders.usecases.account_events import Voice
from shared.bus import tracing
from shared.bus.unit_of_work import Transaction
from shared.contracts.orders import NewOrder, OrderAccepted, OrderReplaced, ReplaceOrder, ReplaceRejected
from shared.exchange.acceptance import risk_checks
from shared.exchange.acceptance.entry import Admitted, admit, refused
from shared.exchange.acceptance.replace import Replaced, amend
from shared.exchange.acceptance.risk_checks import Refusal, Standing
from shared.exchange.order import Account, Order


def look_up(tx: Transaction, account_id: UUID, orders: Sequence[NewOrder]) -> tuple[Account | None, list[Context]]:
    """The account, locked, and what is known about each of the orders, in one round trip."""
    return account_store.lock_with_contexts(tx, account_id, _asked(orders))


def enter_orders(tx: Transaction, account: Account, orders: Sequence[NewOrder], contexts: Sequence[Context]) -> None:
    """Accept each order and reserve what it needs, or refuse it with a reason; either is a row.

    One that is there already is left alone, also where the command itself has it twice. The account is locked;
    ``contexts`` are as it was looked up.
    """
    times = [(order.symbol, order.time_in_force, order.submitted_at) for order in orders]
    contexts = auctions.with_auctions(tx.connection, times, rated(tx.connection, account, contexts), tx.now)
    desk = _Desk(tx, account)
    for order, context in zip(orders, contexts, strict=True):
        if not context.known and order.order_id not in desk.ids:
            desk.enter(order, context)
    if desk.entered:
        order_writes.enter(tx.writes, desk.entered, desk.account, tx.now)


def _asked(orders: Sequence[NewOrder]) -> list[tuple[UUID, str, str]]:
    return [(order.order_id, order.client_order_id, order.symbol) for order in orders]


class _Desk:
    """The orders of one command, one after the other: each sees what those before it reserved and promised."""

    def __init__(self, tx: Transaction, account: Account) -> None:
        self.entered: list[Entered] = []
        self.ids: set[UUID] = set()
        self._tx = tx
        self._accounts = {account.id: account}
        self._id = account.id
        self._record = _record(tx, account)
        self._standings: dict[str, Standing] = {}
        self._client_ids: set[str] = set()
        self._voice = Voice(tx, self._accounts)

    @property
    def account(self) -> Account:
        return self._accounts[self._id]

    def enter(self, order: NewOrder, context: Context) -> None:
        self.ids.add(order.order_id)
        decided = self._decide(order, context)
        if isinstance(decided, Refusal):
            currency = self.account.currency if context.listing is None else context.listing.currency
            ended = refused(order, self.account, currency, self._tx.now, tracing.current())
            self.entered.append(_row(ended, order, self.account, decided))
            self._voice.rejected(ended, decided)
            return
        self._accounts[self._id] = decided.account
        self._standings[order.symbol] = decided.standing
        self._record = self._record.and_one_of(order.strategy_id)
        self._client_ids.add(order.client_order_id)
        for each in decided.orders:
            self.entered.append(_row(each, order, self.account))
            self._voice.say(OrderAccepted, self._id, order_id=each.id)

    def _decide(self, order: NewOrder, context: Context) -> Admitted | Refusal:
        if context.listing is None:
            return risk_checks.unknown_symbol(order.symbol)
        if context.client_id_taken or order.client_order_id in self._client_ids:
            return risk_checks.DUPLICATE
        standing = _with(self._standings.get(order.symbol, context.standing), self._record, order.strategy_id)
        return admit(order, context.listing, self.account, standing, self._tx.now, tracing.current())


def replace_order(tx: Transaction, account: Account, family: Sequence[Order], command: ReplaceOrder) -> None:
    """Replace the order, which is one of the open ones of ``family``, or say why not. All of it is locked."""
    old = next(order for order in family if order.id == command.order_id)
    client_id = command.client_order_id or str(command.new_order_id)
    asked = [(command.new_order_id, client_id, old.symbol)]
    (context,) = rated(tx.connection, account, account_store.contexts(tx.connection, account.id, asked, tx.now))
    if context.known:
        return
    time = (old.symbol, command.time_in_force or old.time_in_force, command.requested_at)
    (context,) = auctions.with_auctions(tx.connection, [time], [context], tx.now)
    done = _amended(tx, account, family, command, context)
    if isinstance(done, Refusal):
        refuse_replace(tx, account, command, done)
        return
    accounts = {account.id: done.account}
    voice = Voice(tx, accounts)
    voice.say(OrderReplaced, account.id, trace=old.trace, order_id=old.id, new_order_id=command.new_order_id)
    on_bar = account.settings.fills.fills_on == "bar"
    entered = Entered(done.order, client_id, command.requested_at, on_bar, replaces=old.id, epoch=account.epoch)
    order_writes.replace_order(tx.writes, old.id, entered, accounts[account.id], tx.now)


def _amended(
    tx: Transaction, account: Account, family: Sequence[Order], command: ReplaceOrder, context: Context
) -> Replaced | Refusal:
    if context.listing is None:
        return risk_checks.unknown_symbol(family[0].symbol)
    if context.client_id_taken:
        return risk_checks.DUPLICATE
    standing = _with(context.standing, _record(tx, account), family[0].strategy_id)
    return amend(family, command, context.listing, account, standing, tx.now)


def refuse_replace(tx: Transaction, account: Account, command: ReplaceOrder, refusal: Refusal) -> None:
    accounts = {account.id: account}
    Voice(tx, accounts).say(
        ReplaceRejected,
        account.id,
        order_id=command.order_id,
        new_order_id=command.new_order_id,
        reason=refusal.reason,
        message=refusal.message,
    )
    account_store.save_accounts(tx.connection, list(accounts.values()))


def _record(tx: Transaction, account: Account) -> account_store.Record:
    """What the account did lately, where its limits ask for it."""
    asks = any(limits.on_equity or limits.orders_per_minute for limits in account.settings.all_limits)
    return account_store.record(tx.connection, account.id, tx.now) if asks else account_store.Record()


def _with(standing: Standing, record: account_store.Record, strategy_id: UUID | None) -> Standing:
    return replace(
        standing,
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
        epoch=account.epoch,
    )
