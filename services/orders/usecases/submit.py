"""Orders come in: each is accepted, and reserves what it needs, or is rejected with a reason. Either becomes a row."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.orders.metrics import count_decision
from services.orders.persistence.accounts import saving_accounts
from services.orders.persistence.fx_rates import rated
from services.orders.persistence.orders import OrderRow, adding_orders, incoming
from services.orders.persistence.pre_trade import Asked, PreTradeContext, lock_with_contexts, record
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.auctions import with_auctions
from services.orders.usecases.lookup import being_split, refuse_closed, wait_for_account, wait_for_split
from shared.bus import tracing
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import SUBMISSION_LASTS, NewOrder, OrderAccepted
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.entry import Admitted, admit, refused
from shared.exchange.acceptance.pre_trade import Exposure
from shared.exchange.acceptance.risk_checks import DUPLICATE, unknown_symbol
from shared.exchange.order import Account
from shared.exchange.refusal import Refusal

TOO_LATE = Refusal(
    RejectReason.SUBMITTED_TOO_LONG_AGO,
    f"the order waited for {SUBMISSION_LASTS // timedelta(hours=1)} hours and was not placed: submit it again",
)


def submit_orders(uow: UnitOfWork, account_id: UUID, orders: Sequence[NewOrder]) -> None:
    """Accept or reject the orders of one command, the account and all that is known of them in one round trip.

    Raises TryAgainLater where the account is not open yet or a split is on its way, and UnknownAccount where it is not
    open for long.
    """
    account, contexts = lock_with_contexts(uow, account_id, asked(orders))
    if account is None:
        wait_for_account(uow, account_id, orders[0].submitted_at)
        return
    between = [order.symbol for order, context in zip(orders, contexts, strict=True) if context.between_splits]
    if between:
        wait_for_split(uow, between, orders[0].submitted_at)
    enter_orders(uow, account, orders, contexts)


def asked(orders: Sequence[NewOrder]) -> list[Asked]:
    return [(order.order_id, order.client_order_id, order.symbol) for order in orders]


def enter_orders(
    uow: UnitOfWork, account: Account, orders: Sequence[NewOrder], contexts: Sequence[PreTradeContext]
) -> None:
    """Accept or reject the orders, one after the other: each sees what those before it reserved.

    An order that is there already is left alone, also where the command itself has it twice. The account is locked, and
    ``contexts`` are as it was looked up.
    """
    times = [(order.symbol, order.time_in_force, order.submitted_at) for order in orders]
    contexts = with_auctions(uow.connection, times, rated(uow.connection, account, contexts), uow.now)
    recent = record(uow.connection, account, uow.now)
    accounts = {account.id: account}
    events = AccountEvents(uow, accounts)
    exposures: dict[str, Exposure] = {}
    ids: set[UUID] = set()
    client_ids: set[str] = set()
    rows: list[OrderRow] = []
    for new, context in zip(orders, contexts, strict=True):
        if context.known or new.order_id in ids:
            continue
        ids.add(new.order_id)
        count_decision(uow, new.submitted_at)
        account = accounts[account.id]
        exposure = recent.within(exposures.get(new.symbol, context.exposure), new.strategy_id)
        taken = context.client_id_taken or new.client_order_id in client_ids
        decided = _decide(uow, new, context, account, exposure, taken=taken)
        if isinstance(decided, Refusal):
            currency = account.currency if context.instrument is None else context.instrument.currency
            order = refused(new, account, currency, uow.now, tracing.current())
            rows.append(incoming(order, account, new.client_order_id, new.submitted_at, uow.now, refusal=decided))
            events.rejected(order, decided)
            continue
        accounts[account.id] = decided.account
        exposures[new.symbol] = decided.exposure
        recent = recent.and_one_of(new.strategy_id)
        client_ids.add(new.client_order_id)
        for order in decided.orders:
            client_id = new.client_order_id if order.id == new.order_id else str(order.id)
            rows.append(incoming(order, account, client_id, new.submitted_at, uow.now))
            events.emit(OrderAccepted, account.id, order_id=order.id)
    if rows:
        uow.at_commit(adding_orders(rows), saving_accounts([accounts[account.id]]))


def _decide(
    uow: UnitOfWork, new: NewOrder, context: PreTradeContext, account: Account, exposure: Exposure, *, taken: bool
) -> Admitted | Refusal:
    if account.closed:
        return refuse_closed(account.id)
    if uow.now - new.submitted_at > SUBMISSION_LASTS:
        return TOO_LATE
    if context.instrument is None:
        return unknown_symbol(new.symbol)
    if taken:
        return DUPLICATE
    if context.between_splits:
        return being_split(new.symbol)
    return admit(new, context.instrument, account, exposure, uow.now, tracing.current())
