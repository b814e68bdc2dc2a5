"""Create strategies and change their terms, and answer with what became of the request.

Only strategy knows the kinds and their parameters, so it validates them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from services.strategy.persistence import market, strategies
from services.strategy.persistence.market import INTERVALS
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.guard import SECONDS, StrategyFailed, within
from services.strategy.strategies.protections import Protections
from services.strategy.strategies.registry import UnknownStrategy
from services.strategy.strategies.rule_paths import path_of
from services.strategy.strategies.rules import RuleStrategy
from services.strategy.strategies.sizing import Sizing
from services.strategy.usecases.evaluate import prepare
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.base import first_error
from shared.contracts.strategy import (
    CreateStrategy,
    Note,
    OfStrategy,
    ReviseStrategy,
    StrategyChanged,
    StrategyName,
    StrategyRefused,
    StrategyTerms,
)
from shared.jobs.schedule.slots import InvalidSchedule, parse_schedule

Answer = StrategyChanged | StrategyRefused
RULES = RuleStrategy.kind


class Refused(Exception):
    """The request is refused. ``field`` is the wrong one, ``reason`` is invalid, unknown or conflict."""

    def __init__(self, field: str | None, message: str, reason: str = "invalid") -> None:
        super().__init__(message)
        self.field, self.message, self.reason = field, message, reason


def create(uow: UnitOfWork, command: CreateStrategy) -> Answer:
    """Create the strategy, publish and return the answer. A strategy that exists under the id stays as it is."""
    existing = strategies.lock(uow.connection, [command.strategy_id]).get(command.strategy_id)
    if existing is not None:
        return answer(uow, command, existing)
    row = StrategyRow(
        id=command.strategy_id,
        name=command.name,
        account_id=command.account_id,
        note=command.note,
        **{name: getattr(command, name) for name in strategies.TERMS},
    )
    try:
        _add(uow, row)
    except Refused as refused:
        return refuse(uow, command, refused)
    return answer(uow, command, row)


def _add(uow: UnitOfWork, row: StrategyRow) -> None:
    if not market.accounts(uow.connection, [row.account_id]):
        raise Refused("account_id", f"account_id: there is no open account {row.account_id}", "unknown")
    if not strategies.add(uow.connection, check(uow.connection, row), uow.now):
        raise _taken(row)


def revise(uow: UnitOfWork, command: ReviseStrategy) -> Answer:
    """Change the strategy, publish and return the answer. Changed terms are a new version."""
    before = strategies.lock(uow.connection, [command.strategy_id]).get(command.strategy_id)
    if before is None:
        return refuse(uow, command, unknown(command))
    try:
        after = _revised(uow, before, command.changes)
    except Refused as refused:
        return refuse(uow, command, refused)
    return answer(uow, command, strategies.save(uow.connection, before, after, uow.now))


def _revised(uow: UnitOfWork, before: StrategyRow, changes: Mapping[str, Any]) -> StrategyRow:
    after = check(uow.connection, _changed(before, changes))
    if strategies.named(uow.connection, after.account_id, after.name) not in (None, after.id):
        raise _taken(after)
    return after


def _taken(row: StrategyRow) -> Refused:
    return Refused("name", f"name: the account has a strategy {row.name!r} already", "conflict")


def _changed(before: StrategyRow, changes: Mapping[str, Any]) -> StrategyRow:
    """The strategy with the changes. Raises Refused for a field that does not exist or has a wrong value."""
    known: dict[str, TypeAdapter[Any]] = {"name": TypeAdapter(StrategyName), "note": TypeAdapter(Note | None)}
    fields = StrategyTerms.model_fields.keys() - {"kind"} | known.keys()
    if wrong := sorted(changes.keys() - fields):
        raise Refused(wrong[0], f"{wrong[0]}: cannot be changed, only {', '.join(sorted(fields))} can")
    try:
        given = {name: _merged(before, name, value) for name, value in changes.items() if name not in known}
        terms = StrategyTerms.model_validate({**before.terms, **given})
        plain = {name: adapter.validate_python(changes[name]) for name, adapter in known.items() if name in changes}
    except ValidationError as error:
        message = first_error(error)
        raise Refused(_field(message), message) from None
    return replace(before, **plain, **{name: getattr(terms, name) for name in strategies.TERMS})


def _merged(before: StrategyRow, name: str, value: Any) -> Any:
    """The new value of a field. Only the named parameters, sizes and protections change.

    Rules are replaced as a whole. A null restores the default.
    """
    whole = name not in {"parameters", "sizing", "protections"} or (name == "parameters" and before.kind == RULES)
    if whole or not isinstance(value, Mapping):
        return value
    return {each: given for each, given in {**getattr(before, name), **value}.items() if given is not None}


def check(connection: Connection, row: StrategyRow) -> StrategyRow:
    """Check all terms of a strategy, and return it with the indicators that it reads.

    Raises Refused with the first field that is wrong.
    """
    for field, model in (("sizing", Sizing), ("protections", Protections)):
        try:
            model.model_validate(getattr(row, field))
        except ValidationError as error:
            raise _invalid(field, error) from None
    if row.interval not in INTERVALS:
        raise Refused("interval", f"interval: {row.interval!r} is not one of {', '.join(INTERVALS)}")
    _check_schedule(row.schedule)
    row = _with_indicators(row)
    if len(set(row.symbols)) != len(row.symbols):
        raise Refused("symbols", "symbols: has one of them twice")
    known = market.instruments(connection, row.symbols)
    _none_missing("symbols", "unknown instruments: {}", [each for each in row.symbols if each not in known])
    there = market.with_bars(connection, row.symbols, row.interval)
    why = f"there are no {row.interval} bars of {{}}: backfill them, or choose another interval"
    _none_missing("interval", why, [each for each in row.symbols if each not in there])
    return row


def _with_indicators(row: StrategyRow) -> StrategyRow:
    """Make the strategy once, as an evaluation would. Raises Refused."""
    field = "rules" if row.kind == RULES else "parameters"

    def made() -> StrategyRow | ValidationError | UnknownStrategy | str:
        try:
            prepared = prepare(row)
            return prepared.strategy.missing_symbol(row.symbols) or prepared.row
        except (ValidationError, UnknownStrategy) as error:
            return error

    try:
        checked = within(SECONDS, made)
    except StrategyFailed as failed:
        raise Refused(field, f"{field}: the strategy {failed}") from None
    if isinstance(checked, UnknownStrategy):
        raise Refused("kind", str(checked))
    if isinstance(checked, ValidationError):
        raise _invalid(field, checked)
    if isinstance(checked, str):
        raise Refused(f"parameters.{_field(checked)}", f"parameters.{checked}")
    return checked


def _check_schedule(schedule: str | None) -> None:
    try:
        if schedule is not None:
            parse_schedule(schedule)
    except InvalidSchedule as error:
        raise Refused("schedule", f"schedule: {error}") from None


def _none_missing(field: str, why: str, missing: Sequence[str]) -> None:
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise Refused(field, f"{field}: {why.format(', '.join(missing[:5]) + more)}")


def _invalid(field: str, error: ValidationError) -> Refused:
    """The first error of a model in a field. A check across fields names one of them itself."""
    message = first_error(error, path_of) if field == RULES else first_error(error)
    whole = f"{field}.{message}" if re.match(r"[\w.]+: ", message) else f"{field}: {message}"
    return Refused(_field(whole), whole)


def _field(message: str) -> str:
    return message.partition(":")[0]


def unknown(command: OfStrategy) -> Refused:
    return Refused(None, f"there is no strategy {command.strategy_id}", "unknown")


def answer(uow: UnitOfWork, command: OfStrategy, row: StrategyRow) -> StrategyChanged:
    """Publish that the strategy is as wanted."""
    said = StrategyChanged(
        request_id=command.request_id, strategy_id=command.strategy_id, strategy_version=row.version, state=row.state
    )
    uow.publish(said)
    return said


def refuse(uow: UnitOfWork, command: OfStrategy, refused: Refused) -> StrategyRefused:
    """Publish that nothing was changed, and why."""
    said = StrategyRefused(
        request_id=command.request_id,
        strategy_id=command.strategy_id,
        field=refused.field,
        reason=refused.reason,
        message=refused.message,
    )
    uow.publish(said)
    return said
