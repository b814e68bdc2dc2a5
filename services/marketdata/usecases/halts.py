"""Begin and end halts of trading. During a halt no price of its instrument is taken.

The instrument's row says whether it is halted, so its lock puts a price and a halt that come together in order. A halt
begins at the last price before it at the earliest: no published price has a time within a halt.
"""

from services.marketdata.persistence import halts
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.halts import HaltTrading, ResumeTrading, TradingHalted, TradingResumed


def halt(uow: UnitOfWork, command: HaltTrading) -> None:
    """Halt the instrument, unless it is halted. Raises NoResultFound where there is no such instrument."""
    instrument = halts.lock_instrument(uow.connection, command.symbol)
    if instrument.halted_at is not None:
        return
    began_at = max(filter(None, (uow.now, instrument.quoted_at, instrument.resumed_at)))
    halted = TradingHalted(**command.model_dump(), began_at=began_at)
    if halts.begin(uow.connection, halted):
        uow.publish(halted)


def resume(uow: UnitOfWork, command: ResumeTrading) -> None:
    """End the instrument's halt, if there is one. Raises NoResultFound where there is no such instrument."""
    instrument = halts.lock_instrument(uow.connection, command.symbol)
    if instrument.halted_at is None:
        return
    ended_at = max(uow.now, instrument.halted_at)
    halt_id = halts.end(uow.connection, command.symbol, ended_at)
    uow.publish(TradingResumed(symbol=command.symbol, halt_id=halt_id, ended_at=ended_at))
