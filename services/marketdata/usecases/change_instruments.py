"""Add, change and retire instruments, and answer with what became of the request.

A pair is added with an instrument whose currency an account does not have, so that the account can trade it.
"""

from collections.abc import Sequence
from typing import Any

from services.marketdata.persistence import instruments
from services.marketdata.persistence.instruments import Instrument, instrument_of
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.currencies import CURRENCIES
from shared.contracts.instruments import (
    AddInstruments,
    AssetClass,
    ChangeInstrument,
    InstrumentChanges,
    InstrumentsChanged,
    InstrumentsRefused,
    InstrumentStatus,
    InstrumentTerms,
    check_terms,
    pair_of,
)


def add(
    uow: UnitOfWork, command: AddInstruments, *, keep_others: bool = False
) -> InstrumentsChanged | InstrumentsRefused:
    """Add the instruments with their pairs, or none of them. Publish and return the answer.

    An existing one with other terms is refused, or with ``keep_others`` stays as it is.
    """
    given = [instrument_of(terms) for terms in command.instruments]
    existing = instruments.lock_terms(uow.connection, [each.symbol for each in given])
    for place, each in enumerate(given):
        if keep_others:
            break
        if each.symbol in existing and (why := _differs(each, existing[each.symbol])) is not None:
            return _refused(uow, command, each.symbol, place, *why)
    new = [each for each in given if each.symbol not in existing]
    new += _missing_pairs(uow, [*given], command.pairs_with)
    answer = InstrumentsChanged(
        request_id=command.request_id,
        symbols=tuple(each.symbol for each in given),
        added=tuple(instruments.add_instruments(uow.connection, new)),
        unchanged=len(given) - sum(each.symbol not in existing for each in given),
    )
    uow.publish(answer)
    return answer


def change(uow: UnitOfWork, command: ChangeInstrument) -> InstrumentsChanged | InstrumentsRefused:
    """Change the instrument, publish and return the answer."""
    found = instruments.lock_terms(uow.connection, [command.symbol]).get(command.symbol)
    changes = command.changes.changed()
    if found is None:
        return _refused(uow, command, command.symbol, 0, "symbol", "unknown", f"unknown instrument {command.symbol}")
    status = changes.get("status", found["status"])
    if status == InstrumentStatus.RETIRED and changes.get("tradable"):
        why = "tradable: a retired instrument is not tradable; make its status active"
        return _refused(uow, command, command.symbol, 0, "tradable", "invalid", why)
    if "status" in changes and "tradable" not in changes:
        changes["tradable"] = status == InstrumentStatus.ACTIVE
    try:
        market = changes.get("market", found["market"])
        check_terms(command.symbol, AssetClass(found["asset_class"]), market, found["currency"])
    except ValueError as error:
        if market != found["market"]:
            return _refused(uow, command, command.symbol, 0, "market", "invalid", f"market: {error}")
    changed = {name: value for name, value in changes.items() if found[name] != value}
    if changed:
        instruments.change(uow.connection, command.symbol, changed)
    answer = InstrumentsChanged(request_id=command.request_id, symbols=(command.symbol,), unchanged=0 if changed else 1)
    uow.publish(answer)
    return answer


def _differs(new: Instrument, known: dict[str, Any]) -> tuple[str, str, str] | None:
    """The field, reason and message of a difference between an instrument and the one of that symbol."""
    if known["status"] == InstrumentStatus.RETIRED:
        return "symbol", "duplicate", f"symbol: {new.symbol} is retired; make its status active"
    known = {**known, "exchange": known["exchange"] or known["market"]}
    for name in ("market", "currency", "asset_class", "name", "exchange", *_RULES):
        if getattr(new, name) != known[name]:
            rest = "change it instead" if name in InstrumentChanges.model_fields else f"the {name} never changes"
            return "symbol", "duplicate", f"symbol: {new.symbol} exists with another {name}; {rest}"
    return None


_RULES = ("tick_size", "tick_rule", "lot_size", "fractionable", "shortable")


def _missing_pairs(uow: UnitOfWork, given: Sequence[Instrument], currencies: Sequence[str]) -> list[Instrument]:
    """The pairs of each currency of an account and of the instruments, where there is none yet.

    A request without instruments is that of a new account, which may trade all that there are.
    """
    quoted = ({each.currency for each in given} if given else instruments.currencies(uow.connection)) & CURRENCIES
    wanted = {frozenset((one, other)) for one in quoted for other in currencies if one != other}
    if not wanted:
        return []
    added = {frozenset(each.symbol.split("/")) for each in given}
    return [
        instrument_of(pair(*sorted(two)))
        for two in sorted(wanted - added - instruments.pairs(uow.connection), key=sorted)
    ]


def pair(one: str, other: str) -> InstrumentTerms:
    """The instrument of two currencies."""
    symbol = pair_of(one, other)
    return InstrumentTerms.model_validate({"symbol": symbol, "asset_class": AssetClass.CURRENCY_PAIR})


def _refused(
    uow: UnitOfWork,
    command: AddInstruments | ChangeInstrument,
    symbol: str,
    place: int,
    field: str,
    reason: str,
    message: str,
) -> InstrumentsRefused:
    answer = InstrumentsRefused(
        request_id=command.request_id, symbol=symbol, place=place, field=field, reason=reason, message=message
    )
    uow.publish(answer)
    return answer
