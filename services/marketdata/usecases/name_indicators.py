"""Follow the indicators that running strategies and watchlists name: these are computed, and others no longer.

Strategies compute what they decide by themselves. Their values here are for people and for other programs.
"""

from dataclasses import replace
from typing import get_args
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import TextClause, text

from services.marketdata.persistence import named_indicators as indicators
from services.marketdata.persistence.named_indicators import NamedBy
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.base import first_error
from shared.contracts.indicators import AddIndicator, Interval

log = structlog.get_logger(__name__)

#: Indicators that strategies may name, and as many that watchlists may. Those beyond are left out, and logged.
MOST_NAMED = 5_000


def follow_named(uow: UnitOfWork) -> int:
    """Add and remove indicators as strategies and watchlists name them, and return the number of changes.

    An indicator that an operator named stays until an operator removes it. Nothing changes for a service that has not
    started for the first time.
    """
    there = uow.connection.execute(_THERE).mappings().one()
    wanted: dict[UUID, AddIndicator] = {}
    naming: dict[str, set[UUID]] = {}
    for flag, statement in _NAMED.items():
        if there[flag]:
            found = _wanted(uow, flag, statement)
            wanted |= found
            naming[flag] = set(found)
    present = indicators.named(uow.connection)
    changes: dict[UUID, NamedBy] = {}
    for each in dict.fromkeys([*wanted, *present]):
        before = present.get(each, NamedBy())
        after = replace(before, **{flag: each in ids for flag, ids in naming.items()})
        if after != before:
            changes[each] = after
    for each, by in changes.items():
        if each not in present:
            indicators.add(uow.connection, wanted[each], by)
        elif not by.anybody:
            indicators.remove(uow.connection, each, named_by_hand=False)
    indicators.mark_named(uow.connection, {each: by for each, by in changes.items() if each in present and by.anybody})
    return len(changes)


def _wanted(uow: UnitOfWork, flag: str, statement: TextClause) -> dict[UUID, AddIndicator]:
    """The indicators that are named, by id. Those of bars that have none here are left out."""
    who = flag.removeprefix("by_")
    rows = uow.connection.execute(statement, {"most": MOST_NAMED + 1, "intervals": list(get_args(Interval))}).all()
    if len(rows) > MOST_NAMED:
        log.warning("more indicators are named than are stored; the rest is left out", by=who, most=MOST_NAMED)
    wanted = {}
    for row in rows[:MOST_NAMED]:
        given = {"symbol": row.symbol, "interval": row.interval, "name": row.name, "parameters": row.parameters}
        try:
            command = AddIndicator.model_validate({**given, "requested_at": uow.now})
        except ValidationError as error:
            log.warning("an indicator is named that is not known here", by=who, error=first_error(error), **given)
            continue
        wanted[command.id] = command
    return wanted


_THERE = text("""
SELECT COALESCE(has_table_privilege(to_regclass('strategy.indicators_v1'), 'SELECT'), false) AS by_strategies,
       COALESCE(has_table_privilege(to_regclass('gateway.watchlist_indicators_v1'), 'SELECT'), false) AS by_watchlists
""")
_OF_VIEW = """
SELECT n.symbol, n.interval, n.name, n.parameters FROM {view} n
JOIN marketdata.instruments i ON i.symbol = n.symbol
WHERE n.interval = ANY(:intervals) ORDER BY n.symbol, n.interval, n.name, n.parameters LIMIT :most
"""
#: The statement for the indicators of each of those who name some, by the column that notes it.
_NAMED = {
    "by_strategies": text(_OF_VIEW.format(view="strategy.indicators_v1")),
    "by_watchlists": text(_OF_VIEW.format(view="gateway.watchlist_indicators_v1")),
}
