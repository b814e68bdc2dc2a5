"""Follow the indicators that running strategies read: those that they name are computed, and others no longer.

Strategies compute what they decide by themselves. These values are for people and for other programs.
"""

from typing import get_args
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import text

from services.marketdata.persistence import named_indicators as indicators
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.base import first_error
from shared.contracts.indicators import AddIndicator, Interval

log = structlog.get_logger(__name__)

#: Indicators that strategies may name. Those beyond are left out, and logged.
MOST_NAMED = 5_000


def follow_strategies(uow: UnitOfWork) -> int:
    """Add and remove indicators as the running strategies name them, and return the number of changes.

    An indicator that an operator named stays until an operator removes it. Nothing changes before the service of
    strategies has started for the first time.
    """
    if not uow.connection.execute(_THERE).scalar_one():
        return 0
    wanted = _wanted(uow)
    present = indicators.named(uow.connection)
    following = {each for each, by in present.items() if by.by_strategies}
    added = [command for each, command in wanted.items() if each not in present]
    for command in added:
        indicators.add(uow.connection, command, by_hand=False)
    shared = [each for each in wanted if each in present and each not in following]
    left = [each for each in following if each not in wanted]
    kept = [each for each in left if present[each].by_hand]
    indicators.mark_named(uow.connection, shared, kept)
    for each in left:
        if not present[each].by_hand:
            indicators.remove(uow.connection, each, named_by_hand=False)
    return len(added) + len(shared) + len(left)


def _wanted(uow: UnitOfWork) -> dict[UUID, AddIndicator]:
    """The indicators that running strategies read, by id. Those of bars that have none here are left out."""
    rows = uow.connection.execute(_NAMED, {"most": MOST_NAMED + 1, "intervals": list(get_args(Interval))}).all()
    if len(rows) > MOST_NAMED:
        log.warning("strategies read more indicators than are stored; the rest is left out", most=MOST_NAMED)
    wanted = {}
    for row in rows[:MOST_NAMED]:
        given = {"symbol": row.symbol, "interval": row.interval, "name": row.name, "parameters": row.parameters}
        try:
            command = AddIndicator.model_validate({**given, "requested_at": uow.now})
        except ValidationError as error:
            log.warning("a strategy reads an indicator that is not known here", error=first_error(error), **given)
            continue
        wanted[command.id] = command
    return wanted


_THERE = text("""
SELECT COALESCE(has_table_privilege(to_regclass('strategy.indicators_v1'), 'SELECT'), false)
""")
_NAMED = text("""
SELECT n.symbol, n.interval, n.name, n.parameters FROM strategy.indicators_v1 n
JOIN marketdata.instruments i ON i.symbol = n.symbol
WHERE n.interval = ANY(:intervals) ORDER BY n.symbol, n.interval, n.name, n.parameters LIMIT :most
""")
