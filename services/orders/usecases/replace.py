"""An open order is replaced: another order goes on with what was left of it, under its changed terms."""

from services.orders.persistence.accounts import saving_accounts
from services.orders.persistence.fx_rates import rated
from services.orders.persistence.orders import adding_orders, incoming, saving_replaced, saving_times
from services.orders.persistence.pre_trade import pre_trade_contexts, record
from services.orders.persistence.trades import completing
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.auctions import with_auctions
from services.orders.usecases.lookup import being_split, lock_target, wait_for_split
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderReplaced, ReplaceOrder, ReplaceRejected
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.replace import Replaced, admit_replacement
from shared.exchange.acceptance.risk_checks import DUPLICATE, unknown_symbol
from shared.exchange.order import Account
from shared.exchange.refusal import Refusal


def replace_order(uow: UnitOfWork, command: ReplaceOrder) -> None:
    """Replace the order, or reject the command: a fill that came first wins.

    The filled part of the old order is a trade of its own. Raises TryAgainLater where the order is not there yet, or a
    split is on its way.
    """
    account, target = lock_target(uow, command, ended=RejectReason.NOT_REPLACEABLE)
    if account is None:
        return
    if isinstance(target, Refusal):
        _reject(uow, account, command, target)
        return
    old = target.order
    client_id = command.client_order_id or str(command.new_order_id)
    asked = [(command.new_order_id, client_id, old.symbol)]
    contexts = rated(uow.connection, account, pre_trade_contexts(uow.connection, account.id, asked, uow.now))
    if contexts[0].known:
        return
    if contexts[0].between_splits:
        wait_for_split(uow, [old.symbol], command.requested_at)
    time = (old.symbol, command.time_in_force or old.time_in_force, command.requested_at)
    (context,) = with_auctions(uow.connection, [time], contexts, uow.now)
    decided: Replaced | Refusal
    if context.instrument is None:
        decided = unknown_symbol(old.symbol)
    elif context.client_id_taken:
        decided = DUPLICATE
    elif context.between_splits:
        decided = being_split(old.symbol)
    else:
        exposure = record(uow.connection, account, uow.now).within(context.exposure, old.strategy_id)
        decided = admit_replacement(target.order_group, command, context.instrument, account, exposure, uow.now)
    if isinstance(decided, Refusal):
        _reject(uow, account, command, decided)
        return
    accounts = {account.id: decided.account}
    events = AccountEvents(uow, accounts)
    events.emit(OrderReplaced, account.id, trace=old.trace, order_id=old.id, new_order_id=command.new_order_id)
    uow.at_commit(
        saving_replaced(decided.ended, command.new_order_id, uow.now),
        adding_orders([incoming(decided.order, account, client_id, command.requested_at, uow.now, replaces=old.id)]),
        saving_accounts([accounts[account.id]]),
        *([saving_times(decided.others, uow.now)] if decided.others else []),
        *completing([decided.ended]),
    )


def _reject(uow: UnitOfWork, account: Account, command: ReplaceOrder, refusal: Refusal) -> None:
    accounts = {account.id: account}
    AccountEvents(uow, accounts).emit(
        ReplaceRejected,
        account.id,
        order_id=command.order_id,
        new_order_id=command.new_order_id,
        reason=refusal.reason,
        message=refusal.message,
        details=dict(refusal.details),
    )
    uow.at_commit(saving_accounts([accounts[account.id]]))
