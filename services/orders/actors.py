"""Which use case handles each message."""

from services.orders.persistence import accounts as account_store
from services.orders.usecases import (
    account_halts,
    answer_dead,
    auctions,
    cancel,
    cash,
    corporate_actions,
    replace,
    submit,
)
from services.orders.usecases.execute import fill_on
from services.orders.usecases.follow_sessions import follow_sessions
from services.orders.usecases.lookup import lock_open_account
from shared.bus.actors import Actors
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.account_risk import ResumeAccount, RiskLimitReached
from shared.contracts.accounts import CloseAccount, ConfigureAccount, MoveCash, OpenAccount, ResetAccount
from shared.contracts.corporate_actions import CorporateActionApplied
from shared.contracts.official_prices import OfficialPricePublished
from shared.contracts.orders import CancelOrder, CancelOrders, ReplaceOrder, SubmitOrder, SubmitOrders
from shared.contracts.prices import PricesUpdated
from shared.contracts.sessions import SessionsChanged

actors = Actors()
#: A client waits two seconds for the answer to its command, and these tries take less.
TRIES = 3


@actors.on(OpenAccount, queue="orders.commands")
def open_account(command: OpenAccount, uow: UnitOfWork) -> None:
    account_store.open_account(uow.connection, command, uow.now)


@actors.on(ConfigureAccount, queue="orders.commands")
def configure_account(command: ConfigureAccount, uow: UnitOfWork) -> None:
    """Raises UnknownAccount and ClosedAccount."""
    lock_open_account(uow, command.account_id)
    account_store.configure_account(uow.connection, command.account_id, command.settings)


@actors.on(MoveCash, queue="orders.commands", on_death=answer_dead.refuse_cash, tries=TRIES)
def move_cash(command: MoveCash, uow: UnitOfWork) -> None:
    cash.move_cash(uow, command)


@actors.on(ResetAccount, queue="orders.commands", on_death=answer_dead.refuse_reset, tries=TRIES)
def reset_account(command: ResetAccount, uow: UnitOfWork) -> None:
    cash.reset_account(uow, command)


@actors.on(CloseAccount, queue="orders.commands")
def close_account(command: CloseAccount, uow: UnitOfWork) -> None:
    cash.close_account(uow, command)


@actors.on(PricesUpdated, queue="orders.prices", begins=True)
def fill_on_prices(event: PricesUpdated, uow: UnitOfWork) -> None:
    """A price that comes after a newer one of its symbol is dropped: no order may fill on it any more."""
    fill_on(uow, event.prices, at=event.at or uow.now)


@actors.on(CorporateActionApplied, queue="orders.prices")
def apply_corporate_action(event: CorporateActionApplied, uow: UnitOfWork) -> None:
    corporate_actions.apply_action(uow, event)


@actors.on(OfficialPricePublished, queue="orders.prices")
def hold_auction(event: OfficialPricePublished, uow: UnitOfWork) -> None:
    auctions.hold(uow, event)


@actors.on(SessionsChanged, queue="orders.prices")
def follow_changed_sessions(event: SessionsChanged, uow: UnitOfWork) -> None:
    follow_sessions(uow, event)


@actors.on(SubmitOrder, queue="orders.commands", begins=True, on_death=answer_dead.reject_order, tries=TRIES)
def submit_order(command: SubmitOrder, uow: UnitOfWork) -> None:
    submit.submit_orders(uow, command.account_id, [command])


@actors.on(SubmitOrders, queue="orders.commands", begins=True, on_death=answer_dead.reject_orders, tries=TRIES)
def submit_orders(command: SubmitOrders, uow: UnitOfWork) -> None:
    submit.submit_orders(uow, command.account_id, command.orders)


@actors.on(CancelOrder, queue="orders.commands", on_death=answer_dead.reject_cancel, tries=TRIES)
def cancel_order(command: CancelOrder, uow: UnitOfWork) -> None:
    cancel.cancel_order(uow, command)


@actors.on(CancelOrders, queue="orders.commands", on_death=answer_dead.reject_cancel, tries=TRIES)
def cancel_orders(command: CancelOrders, uow: UnitOfWork) -> None:
    cancel.cancel_orders(uow, command)


@actors.on(ReplaceOrder, queue="orders.commands", on_death=answer_dead.reject_replace, tries=TRIES)
def replace_order(command: ReplaceOrder, uow: UnitOfWork) -> None:
    replace.replace_order(uow, command)


@actors.on(RiskLimitReached, queue="orders.risk")
def halt_account(event: RiskLimitReached, uow: UnitOfWork) -> None:
    account_halts.halt_account(uow, event)


@actors.on(ResumeAccount, queue="orders.commands")
def resume_account(command: ResumeAccount, uow: UnitOfWork) -> None:
    account_halts.resume_account(uow, command)
