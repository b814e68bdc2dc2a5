"""Save the corporate actions that a provider reports of one symbol: each once, by its kind and ex-date.

An action that has not been applied follows what the provider says later. An applied one stays, and the
difference is reported. An action that an operator entered is never changed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import structlog

from services.marketdata.persistence import actions
from services.marketdata.persistence.actions import StoredAction
from services.marketdata.providers.provider import FoundAction, Listed
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.base import first_error
from shared.contracts.corporate_actions import ActionKind, EnterCorporateAction

log = structlog.get_logger(__name__)

#: What became of the actions, as the counts of the job.
STORED, UPDATED, WITHDRAWN, REPORTED, REFUSED = (
    "actions_stored",
    "actions_updated",
    "actions_withdrawn",
    "corrections_reported",
    "actions_refused",
)


def save_actions(
    uow: UnitOfWork, listed: Listed, provider: str, found: Iterable[FoundAction], begin: date, end: date
) -> Counter[str]:
    """Save the actions with an ex-date from ``begin`` to ``end``, and return what became of them."""
    counts: Counter[str] = Counter()
    given = merged(each for each in found if each.symbol == listed.symbol and begin <= each.ex_date <= end)
    stored = actions.lock_stored(uow.connection, listed.symbol)
    days = {day for each in given for day in (each.ex_date, each.pay_date) if day is not None}
    opens = actions.opens(uow.connection, listed.market, days)
    named = set()
    for each in given:
        named.add((each.kind, each.ex_date))
        try:
            command = command_of(each, opens)
        except ValueError as error:
            counts[REFUSED] += 1
            log.warning(
                "a corporate action cannot be stored; enter it by POST /api/corporate-actions",
                **_named(each, provider),
                error=first_error(error),
            )
            continue
        counts[_save(uow, stored.get((each.kind, each.ex_date)), each, command, provider)] += 1
    gone = [
        row
        for key, row in stored.items()
        if key not in named and row.provider == provider and row.applied_at is None and begin <= row.ex_date <= end
    ]
    if gone:
        counts[WITHDRAWN] += len(gone)
        actions.withdraw(uow.connection, [row.id for row in gone])
        log.warning("a provider withdrew corporate actions", symbol=listed.symbol, provider=provider, count=len(gone))
    actions.fetched(uow.connection, listed.symbol, uow.now)
    del counts[""]
    return counts


def merged(found: Iterable[FoundAction]) -> list[FoundAction]:
    """One action of each kind and ex-date: the dividends of a day, such as a special one, are added."""
    by_key: dict[tuple[str, date], FoundAction] = {}
    for each in found:
        before = by_key.get((each.kind, each.ex_date))
        if before is not None and before.amount is not None and each.amount is not None:
            each = replace(each, amount=before.amount + each.amount, pay_date=each.pay_date or before.pay_date)  # noqa: PLW2901
        by_key[each.kind, each.ex_date] = each
    return list(by_key.values())


def command_of(found: FoundAction, opens: Mapping[date, datetime]) -> EnterCorporateAction:
    """The action as a command. It takes effect when the market begins to trade on the ex-date. Raises ValueError."""
    effective_at = opens[found.ex_date]
    pay_at = opens[found.pay_date] if found.pay_date is not None and found.kind == ActionKind.DIVIDEND else None
    return EnterCorporateAction(
        action_id=uuid5(NAMESPACE_URL, f"paperprofit:action:{found.symbol}:{found.kind}:{found.ex_date}"),
        symbol=found.symbol,
        kind=ActionKind(found.kind),
        new_shares=found.new_shares,
        old_shares=found.old_shares,
        amount=found.amount,
        new_symbol=found.new_symbol,
        effective_at=effective_at,
        pay_at=None if pay_at is None else max(pay_at, effective_at),
    )


def _save(
    uow: UnitOfWork, stored: StoredAction | None, found: FoundAction, command: EnterCorporateAction, provider: str
) -> str:
    """Save the action, and return what became of it. Empty where it is as it was."""
    if stored is None:
        past = command.effective_at <= uow.now
        history = past and actions.is_history(uow.connection, command.symbol, command.effective_at)
        actions.add(uow.connection, command, found.ex_date, provider, uow.now, history=history)
        return STORED
    terms = _differences(stored, found, command)
    if stored.applied_at is None and stored.provider is not None:
        if not terms and stored.effective_at == command.effective_at:
            return ""
        actions.change(uow.connection, stored.id, command, provider)
        return UPDATED
    if not terms or terms == stored.correction:
        return ""
    actions.correct(uow.connection, stored.id, terms, uow.now)
    log.warning(
        "a provider corrects a corporate action that is applied or entered by hand; check the books",
        **_named(found, provider),
        now=terms,
    )
    return REPORTED


def _differences(stored: StoredAction, found: FoundAction, command: EnterCorporateAction) -> dict[str, Any]:
    """The terms that the provider says otherwise, as JSON values."""
    if found.kind == ActionKind.SPLIT:
        same = Decimal(stored.new_shares or 0) * (command.old_shares or 0) == Decimal(stored.old_shares or 0) * (
            command.new_shares or 0
        )
        return {} if same else {"new_shares": command.new_shares, "old_shares": command.old_shares}
    terms: dict[str, Any] = {}
    if stored.new_symbol != command.new_symbol:
        terms["new_symbol"] = command.new_symbol
    if stored.amount != command.amount:
        terms["amount"] = str(command.amount)
    if command.pay_at is not None and stored.pay_at != command.pay_at:
        terms["pay_at"] = command.pay_at.isoformat()
    return terms


def _named(found: FoundAction, provider: str) -> dict[str, str]:
    return {"symbol": found.symbol, "kind": found.kind, "ex_date": str(found.ex_date), "provider": provider}
