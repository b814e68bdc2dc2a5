"""Handlers of marketdata's messages."""

from datetime import timedelta
from functools import cache

from services.marketdata.configured import configured_order, configured_replay
from services.marketdata.settings import current
from services.marketdata.usecases import (
    change_instruments,
    change_sessions,
    control_replay,
    corporate_actions,
    halts,
    import_bars,
    indicators,
    official_prices,
    push_prices,
    search_instruments,
    validate_instruments,
)
from services.marketdata.usecases.search_instruments import Searches
from shared.bus.actors import Actors
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.bars import StoreBars
from shared.contracts.corporate_actions import EnterCorporateAction
from shared.contracts.halts import HaltTrading, ResumeTrading
from shared.contracts.indicators import AddIndicator, RemoveIndicator
from shared.contracts.instrument_search import SearchInstruments, ValidateInstruments
from shared.contracts.instruments import AddInstruments, ChangeInstrument
from shared.contracts.official_prices import EnterOfficialPrice
from shared.contracts.prices import PushPrices
from shared.contracts.replay import ControlReplay
from shared.contracts.sessions import ChangeSessions, RemoveSessionChange

actors = Actors()
#: Nobody waits any more for the answer to a search that is so old.
LATE = timedelta(seconds=30)


@cache
def searches() -> Searches:
    """The searches of this process."""
    return Searches()


@actors.on(EnterCorporateAction, queue="marketdata.commands")
def enter_corporate_action(command: EnterCorporateAction, uow: UnitOfWork) -> None:
    """Store the action, and apply it at once if it is due."""
    corporate_actions.enter(uow, command)
    corporate_actions.apply_due(uow)


@actors.on(EnterOfficialPrice, queue="marketdata.commands")
def enter_official_price(command: EnterOfficialPrice, uow: UnitOfWork) -> None:
    official_prices.enter(uow, command)


@actors.on(HaltTrading, queue="marketdata.commands")
def halt_trading(command: HaltTrading, uow: UnitOfWork) -> None:
    halts.halt(uow, command)


@actors.on(ResumeTrading, queue="marketdata.commands")
def resume_trading(command: ResumeTrading, uow: UnitOfWork) -> None:
    halts.resume(uow, command)


@actors.on(ChangeSessions, queue="marketdata.commands")
def change_market_sessions(command: ChangeSessions, uow: UnitOfWork) -> None:
    change_sessions.change(uow, command)


@actors.on(RemoveSessionChange, queue="marketdata.commands")
def remove_session_change(command: RemoveSessionChange, uow: UnitOfWork) -> None:
    change_sessions.remove(uow, command)


@actors.on(AddIndicator, queue="marketdata.commands")
def add_indicator(command: AddIndicator, uow: UnitOfWork) -> None:
    indicators.add(uow, command)


@actors.on(RemoveIndicator, queue="marketdata.commands")
def remove_indicator(command: RemoveIndicator, uow: UnitOfWork) -> None:
    indicators.remove(uow, command)


@actors.on(AddInstruments, queue="marketdata.commands")
def add_instruments(command: AddInstruments, uow: UnitOfWork) -> None:
    change_instruments.add(uow, command)


@actors.on(ChangeInstrument, queue="marketdata.commands")
def change_instrument(command: ChangeInstrument, uow: UnitOfWork) -> None:
    change_instruments.change(uow, command)


@actors.raw(SearchInstruments, queue="marketdata.commands")
def search_for_instruments(command: SearchInstruments, context: ServiceContext) -> None:
    """Ask the providers outside of any transaction, then publish what they answered."""
    if context.clock() - command.requested_at > LATE:
        return
    answer = search_instruments.search(context, searches(), configured_order(), command)
    with context.unit_of_work() as uow:
        uow.publish(answer)


@actors.raw(ValidateInstruments, queue="marketdata.commands")
def validate_list(command: ValidateInstruments, context: ServiceContext) -> None:
    """Ask the providers outside of any transaction, then publish what they answered."""
    if context.clock() - command.requested_at > LATE:
        return
    answer = validate_instruments.validate(
        context, searches(), configured_order(), command.instruments, command.request_id
    )
    with context.unit_of_work() as uow:
        uow.publish(answer)


@actors.on(PushPrices, queue="marketdata.commands")
def take_pushed_prices(command: PushPrices, uow: UnitOfWork) -> None:
    push_prices.push_prices(uow, command, most_jump=current().max_price_jump)


@actors.on(StoreBars, queue="marketdata.commands")
def store_bars(command: StoreBars, uow: UnitOfWork) -> None:
    import_bars.store_given(uow, command)


@actors.on(ControlReplay, queue="marketdata.commands")
def change_replay(command: ControlReplay, uow: UnitOfWork) -> None:
    control_replay.control(uow, configured_replay(), command)
