"""Preview, start and cancel rebalances, and keep the targets of accounts. Each request is answered by an event."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from services.strategy.rebalancing import follow, load, store
from services.strategy.rebalancing.plan import AccountFacts, Plan, make_plan
from services.strategy.rebalancing.store import Rebalance, Trigger
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.rebalancing import (
    CancelRebalance,
    KeepTargets,
    OfRebalance,
    PlanRebalance,
    RebalanceAnswered,
    RebalanceRefused,
    RebalanceState,
    StartRebalance,
    Targets,
)
from shared.money import ZERO

#: Prices move: the orders of an older preview are not sent.
PREVIEW_LASTS = timedelta(minutes=15)


class Refused(Exception):
    """The request is refused. ``field`` is the wrong one, ``reason`` is invalid, unknown or conflict."""

    def __init__(self, field: str | None, message: str, reason: str = "invalid") -> None:
        super().__init__(message)
        self.field, self.message, self.reason = field, message, reason


def preview(uow: UnitOfWork, command: PlanRebalance) -> None:
    """Plan a rebalance and keep it. It sends nothing."""
    _answered(uow, command, lambda part: _plan(part, command, command.targets, begins=False))


def start(uow: UnitOfWork, command: StartRebalance) -> None:
    """Send the orders of a preview, or plan a rebalance and send its orders. Sent again it changes nothing."""
    _answered(uow, command, lambda part: _start(part, command))


def cancel(uow: UnitOfWork, command: CancelRebalance) -> None:
    """Cancel the rebalance. An ended one stays as it is."""
    _answered(uow, command, lambda part: _cancel(part, command))


def keep(uow: UnitOfWork, command: KeepTargets) -> None:
    """Keep the targets for the job."""
    _answered(uow, command, lambda part: _keep(part, command))


def check(uow: UnitOfWork, account_id: UUID, targets: Targets) -> AccountFacts:
    """The account. Raises Refused for an unknown one, an unknown symbol, and a short weight without shorting."""
    account = load.account_facts(uow.connection, account_id)
    if account is None:
        raise Refused("account_id", f"account_id: there is no open account {account_id}", "unknown")
    known = load.listed(uow.connection, account_id, list(targets.weights), uow.now)
    for symbol, weight in targets.weights.items():
        if symbol not in known:
            raise Refused(f"weights.{symbol}", f"weights.{symbol}: unknown instrument {symbol}")
        if weight < ZERO and not account.settings.shorting:
            message = f"weights.{symbol}: is negative, and the account may not sell short (shorting)"
            raise Refused(f"weights.{symbol}", message)
    return account


def planned(uow: UnitOfWork, account: AccountFacts, targets: Targets, *, trigger: Trigger) -> Plan:
    """The plan at present prices."""
    listed = load.listed(uow.connection, account.id, list(targets.weights), uow.now)
    return make_plan(targets, account, listed, scheduled=trigger == "schedule")


def begin(uow: UnitOfWork, account: AccountFacts, rebalance: Rebalance) -> None:
    """Send the first orders of a rebalance that is stored and planned. One without orders is done at once."""
    rows = follow.send(uow, rebalance, store.orders_of(uow.connection, rebalance), account)
    if not any(row.status == "sent" for row in rows):
        follow.finish(uow, rebalance, rows)


def row_of(
    rebalance_id: UUID, account: AccountFacts, targets: Targets, plan: Plan, uow: UnitOfWork, trigger: Trigger
) -> Rebalance:
    """The row of a rebalance that is planned and not started."""
    return Rebalance(
        rebalance_id,
        account.id,
        account.generation,
        trigger,
        RebalanceState.PLANNED,
        targets,
        plan.budget,
        uow.now,
        None,
    )


def _plan(uow: UnitOfWork, command: OfRebalance, targets: Targets, *, begins: bool) -> UUID:
    """Plan under the id of the request, and begin. A request that came before is answered as it was."""
    rebalance_id = command.request_id
    if store.lock(uow.connection, rebalance_id) is not None:
        return rebalance_id
    account = check(uow, command.account_id, targets)
    plan = planned(uow, account, targets, trigger="request")
    rebalance = row_of(rebalance_id, account, targets, plan, uow, "request")
    store.add(uow.connection, rebalance, plan, uow.now)
    if begins:
        _begin_only(uow, account, rebalance)
    return rebalance_id


def _start(uow: UnitOfWork, command: StartRebalance) -> UUID:
    if command.preview_id is None:
        if command.targets is None:
            raise Refused("weights", "weights: give weights, or the preview_id of a preview")
        return _plan(uow, command, command.targets, begins=True)
    rebalance = store.lock(uow.connection, command.preview_id)
    if rebalance is None or rebalance.account_id != command.account_id:
        raise Refused("preview_id", f"preview_id: there is no preview {command.preview_id}", "unknown")
    if rebalance.state is not RebalanceState.PLANNED:
        return rebalance.id
    account = check(uow, command.account_id, rebalance.targets)
    if uow.now - rebalance.created_at > PREVIEW_LASTS or account.generation != rebalance.generation:
        message = "preview_id: the preview is too old, and prices have moved: preview again"
        raise Refused("preview_id", message, "conflict")
    _begin_only(uow, account, rebalance)
    return rebalance.id


def _begin_only(uow: UnitOfWork, account: AccountFacts, rebalance: Rebalance) -> None:
    """Begin the rebalance. Raises Refused where the account has another one under way."""
    other = store.lock_open_of(uow.connection, account.id)
    if other is not None:
        message = f"account_id: rebalance {other} is under way: wait for its end, or cancel it"
        raise Refused("account_id", message, "conflict")
    begin(uow, account, rebalance)


def _cancel(uow: UnitOfWork, command: CancelRebalance) -> UUID:
    rebalance = store.lock(uow.connection, command.rebalance_id)
    if rebalance is None or rebalance.account_id != command.account_id:
        message = f"rebalance_id: there is no rebalance {command.rebalance_id}"
        raise Refused("rebalance_id", message, "unknown")
    if rebalance.state in {RebalanceState.PLANNED, RebalanceState.SELLING, RebalanceState.BUYING}:
        follow.cancel(uow, rebalance, "it was canceled on request")
    return rebalance.id


def _keep(uow: UnitOfWork, command: KeepTargets) -> None:
    if command.targets is not None:
        check(uow, command.account_id, command.targets)
    store.keep_targets(uow.connection, command.account_id, command.targets, uow.now)


def _answered(uow: UnitOfWork, command: OfRebalance, act: Callable[[UnitOfWork], UUID | None]) -> None:
    """Answer with the event of what became of the request. A refused one changed nothing."""
    try:
        with uow.part() as part:
            rebalance_id = act(part)
    except Refused as refused:
        uow.publish(
            RebalanceRefused(
                request_id=command.request_id, field=refused.field, reason=refused.reason, message=refused.message
            )
        )
        return
    uow.publish(RebalanceAnswered(request_id=command.request_id, rebalance_id=rebalance_id))
