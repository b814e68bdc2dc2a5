"""Let the running strategies decide, and send their orders. A failure of one leaves the others alone.

Nothing is locked while strategies decide. Then decisions, signals and orders commit together, unless the strategy was
changed or stopped meanwhile.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from services.strategy.persistence import decisions, strategies
from services.strategy.persistence.decisions import EVERY, DecisionRow
from services.strategy.persistence.market import INTERVALS
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.guard import SECONDS, StrategyFailed, within
from services.strategy.strategies.judgement import TRADED, Outcome
from services.strategy.strategies.needs import bars_needed, indicators_of
from services.strategy.strategies.protections import Largest, Protections, Watch, halt, halt_of_failures, watched
from services.strategy.strategies.registry import make_strategy
from services.strategy.strategies.sizing import Sizing
from services.strategy.strategies.view import Indicator
from services.strategy.usecases.decide import Histories, Wish, decide, key_of, rate_of
from services.strategy.usecases.flatten import cancel_entries, flatten
from services.strategy.usecases.follow_accounts import why_halted
from services.strategy.usecases.load import Loaded, Prepared, day_of, load
from services.strategy.usecases.memory import history_of, memory_of
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.indicators import GivenParameters, IndicatorName, complete, written
from shared.contracts.orders import CancelOrder
from shared.contracts.risk_marks import share_of
from shared.contracts.strategy import Action, SignalGenerated, StrategyState
from shared.jobs.run_context import Counts
from shared.money import ZERO


@dataclass(frozen=True)
class Evaluated:
    """A strategy with its decisions, or with the error instead of them. ``after`` is its row to save."""

    before: StrategyRow
    after: StrategyRow
    wishes: Sequence[Wish] = ()
    failed: str | None = None
    halted: bool = False


def evaluate(
    context: ServiceContext, run_id: UUID, wanted: Callable[[StrategyRow], bool], *, seconds: float = SECONDS
) -> Counts:
    """Evaluate the running strategies that are wanted now, and count decisions, signals and failures.

    ``seconds`` is the time that each of them has. A run that is repeated adds nothing.
    """
    now = context.clock()
    with context.engine.begin() as connection:
        rows = [row for row in strategies.running(connection) if wanted(row)]
        done = decisions.decided(connection, run_id, [row.id for row in rows]) if rows else set()
        rows = [row for row in rows if row.id not in done]
    if not rows:
        return {"decisions": 0, "signals": 0}
    prepared, failed = _prepare(rows, seconds)
    memory = memory_of(context.engine)
    with memory.lock, context.engine.begin() as connection:
        loaded = load(connection, prepared, memory, now)
    histories = _histories(prepared, loaded)
    evaluated = [*failed, *(_evaluate(each, loaded, histories, seconds) for each in prepared)]
    with context.unit_of_work() as uow:
        return _commit(uow, run_id, evaluated)


def prepare(row: StrategyRow) -> Prepared:
    """The strategy's object with all that it reads. Raises ValueError for terms that are not valid."""
    strategy = make_strategy(row.kind, row.parameters)
    sizing, protections = Sizing.model_validate(row.sizing), Protections.model_validate(row.protections)
    indicators = indicators_of(strategy, sizing)
    count = bars_needed(strategy, indicators, row.interval)
    row = replace(row, indicators=_named(indicators.values()))
    return Prepared(row, strategy, indicators, count, sizing, protections)


def _named(indicators: Iterable[Indicator]) -> tuple[Mapping[str, Any], ...]:
    """Name and complete parameters of each indicator, once, as they are stored."""
    named = {}
    for each in indicators:
        name = IndicatorName(each.name)
        parameters = written(complete(name, GivenParameters(**each.parameters)))
        named[name, *parameters.items()] = {"name": name.value, "parameters": parameters}
    return tuple(named.values())


def _prepare(rows: Sequence[StrategyRow], seconds: float) -> tuple[list[Prepared], list[Evaluated]]:
    prepared, failed = [], []
    for row in rows:
        try:
            prepared.append(within(seconds, partial(prepare, row)))
        except StrategyFailed as error:
            failed.append(_failure(row, _protections(row), str(error)))
    return prepared, failed


def _protections(row: StrategyRow) -> Protections:
    """The protections of a strategy that cannot be made, the default ones where they are not valid any more."""
    try:
        return Protections.model_validate(row.protections)
    except ValidationError:
        return Protections()


def _histories(prepared: Sequence[Prepared], loaded: Loaded) -> Histories:
    """The bars of each series, with every indicator that some strategy reads, computed once."""
    wanted: dict[tuple[str, str], dict[str, Indicator]] = {}
    for each in prepared:
        for symbol in each.row.symbols:
            keys = wanted.setdefault((symbol, each.row.interval), {})
            keys |= {key_of(indicator): indicator for indicator in each.indicators.values()}
    found = {}
    for (symbol, interval), indicators in wanted.items():
        instrument = loaded.instruments.get(symbol)
        days = loaded.days.get(instrument.market) if instrument is not None else None
        series = loaded.bars[symbol, interval]
        found[symbol, interval] = history_of(series, indicators, INTERVALS[interval], days)
    return found


def _evaluate(prepared: Prepared, loaded: Loaded, histories: Histories, seconds: float) -> Evaluated:
    """Let one strategy decide, and look at its protections first."""
    row, account = prepared.row, loaded.accounts.get(prepared.row.account_id)
    if account is None:
        return _failure(row, prepared.protections, f"account {row.account_id} is not open")
    watch = row.watch
    if row.generation != account.generation:
        watch = Watch(since=loaded.now if row.generation is not None else watch.since)
    if (why := why_halted(account)) is not None:
        return Evaluated(row, replace(row, watch=watch, state=StrategyState.PAUSED, state_reason=why))
    if prepared.protections.on_results:
        watch, why = _watch(prepared, loaded, watch)
        if why is not None:
            after = replace(row, watch=watch, state=StrategyState.PAUSED, state_reason=why)
            return Evaluated(row, after, halted=prepared.protections.flatten)
    try:
        wishes = within(seconds, partial(decide, prepared, loaded, histories))
    except StrategyFailed as error:
        return _failure(row, prepared.protections, str(error))
    return Evaluated(row, replace(row, watch=watch, generation=account.generation, failures=0), wishes)


def _watch(prepared: Prepared, loaded: Loaded, watch: Watch) -> tuple[Watch, str | None]:
    """The watch with the present figures, and the reason to pause the strategy, or None."""
    row, results = prepared.row, loaded.results.get(prepared.row.id)
    profit, largest = _profit(prepared, loaded), _largest(prepared, loaded)
    day = day_of(row, loaded.instruments, loaded.now)[1]
    limit = prepared.protections.max_concentration
    watch = watched(watch, profit=profit, day=day, largest=largest, limit=limit)
    losses, equity = results.losses if results else 0, loaded.accounts[row.account_id].equity
    return watch, halt(prepared.protections, watch, profit=profit, losses=losses, equity=equity, largest=largest)


def _largest(prepared: Prepared, loaded: Loaded) -> Largest:
    """The strategy's largest position at current prices."""
    row, account = prepared.row, loaded.accounts[prepared.row.account_id]
    found = Largest()
    for symbol in row.symbols:
        held, instrument = loaded.held.get((row.id, symbol)), loaded.instruments.get(symbol)
        rate = rate_of(loaded, symbol, account.currency)
        if held is not None and instrument is not None and instrument.quote is not None and rate is not None:
            share = share_of(abs(held.qty) * instrument.quote.last * rate, account.equity)
            found = max(found, Largest(symbol, share), key=lambda each: each.share)
    return found


def _profit(prepared: Prepared, loaded: Loaded) -> Decimal:
    """The profit since the strategy is watched, realized or not, in the account's currency."""
    row, results = prepared.row, loaded.results.get(prepared.row.id)
    profit = results.realized if results else ZERO
    currency = loaded.accounts[row.account_id].currency
    for symbol in row.symbols:
        held, instrument = loaded.held.get((row.id, symbol)), loaded.instruments.get(symbol)
        rate = rate_of(loaded, symbol, currency)
        if held is not None and instrument is not None and instrument.quote is not None and rate is not None:
            profit += held.qty * instrument.quote.last * rate - held.cost
    return profit


def _failure(row: StrategyRow, protections: Protections, error: str) -> Evaluated:
    after = replace(row, failures=row.failures + 1)
    why = halt_of_failures(protections, after.failures, error)
    if why is None:
        return Evaluated(row, after, failed=error)
    after = replace(after, state=StrategyState.PAUSED, state_reason=why)
    return Evaluated(row, after, failed=error, halted=protections.flatten)


def _commit(uow: UnitOfWork, run_id: UUID, evaluated: Sequence[Evaluated]) -> Counts:
    """Save decisions and signals, and publish orders, of the strategies that still run in the same version."""
    locked = strategies.lock(uow.connection, [each.before.id for each in evaluated])
    valid = [
        each
        for each in evaluated
        if (now := locked.get(each.before.id)) is not None
        and (now.state, now.version) == (StrategyState.RUNNING, each.before.version)
    ]
    wishes = [wish for each in valid for wish in each.wishes]
    signals = [wish.signal for wish in wishes if wish.signal is not None]
    new = decisions.add_signals(uow.connection, signals, uow.now) if signals else set()
    rows = [_row_of(wish, new) for wish in wishes] + [_failed_row(each) for each in valid if each.failed is not None]
    rows += [_halted_row(each) for each in valid if each.after.state is StrategyState.PAUSED and each.failed is None]
    if rows:
        decisions.add(uow.connection, run_id, rows, uow.now)
    strategies.save_evaluated(uow.connection, [each.after for each in valid], uow.now)
    sent = sum(_send(uow, wish) for wish in wishes if wish.signal is not None and wish.signal.id in new)
    for each in valid:
        if each.halted:
            flatten(uow, each.before, run_id)
    cancel_entries(uow, [each.before for each in valid if each.after.state is StrategyState.PAUSED and not each.halted])
    return {
        "decisions": len(rows),
        "signals": sent,
        **({"failed": failed} if (failed := sum(each.failed is not None for each in valid)) else {}),
    }


def _row_of(wish: Wish, new: set[UUID]) -> DecisionRow:
    """The decision's row. A bar that was traded on already takes no second order."""
    if wish.order is None or (wish.signal is not None and wish.signal.id in new):
        return wish.row
    return replace(wish.row, outcome=Outcome.REPEATED, side=None, qty=ZERO, order_id=None, cuts=(TRADED,))


def _failed_row(each: Evaluated) -> DecisionRow:
    return _row_without_symbol(each, Outcome.FAILED, f"The strategy failed: {each.failed}")


def _halted_row(each: Evaluated) -> DecisionRow:
    return _row_without_symbol(each, Outcome.BLOCKED, f"The strategy was paused: {each.after.state_reason}")


def _row_without_symbol(each: Evaluated, outcome: Outcome, reason: str) -> DecisionRow:
    row = each.before
    return DecisionRow(
        strategy_id=row.id, symbol=EVERY, version=row.version, action="hold", outcome=outcome, reason=reason
    )


def _send(uow: UnitOfWork, wish: Wish) -> bool:
    """Publish the signal and the order. False if there is no order."""
    order, signal = wish.order, wish.signal
    if order is None or signal is None:
        return False
    uow.publish(
        SignalGenerated(
            signal_id=signal.id,
            strategy_id=signal.strategy_id,
            account_id=order.account_id,
            symbol=signal.symbol,
            action=Action(order.side.value),
            price=signal.price,
            bar_at=signal.bar_at,
            reason=signal.reason,
            type=signal.type,
            strength=signal.strength,
            confidence=signal.confidence,
        )
    )
    for order_id in wish.cancels:
        uow.publish(CancelOrder(account_id=order.account_id, order_id=order_id, requested_at=uow.now))
    uow.publish(order, message_id=order.order_id)
    return True
