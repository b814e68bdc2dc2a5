"""``/api/account/rebalance`` and ``/api/account/targets``: preview, submit and follow rebalances."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from services.gateway.http.auth import READ, TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Conflict, Invalid, NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.rebalancing import queries
from services.gateway.rebalancing.schemas import (
    KeptTargets,
    NewRebalance,
    RebalanceItem,
    RebalancePage,
    RebalanceQuery,
)
from services.gateway.trading import commands
from shared.contracts.rebalancing import (
    CancelRebalance,
    KeepTargets,
    OfRebalance,
    PlanRebalance,
    RebalanceRefused,
    StartRebalance,
    Targets,
)
from shared.storage.keyset import Record

NOT_ANSWERED = "the request was not answered yet; look at the account's rebalances in a moment"


async def post_rebalance_preview(gateway: Gateway, principal: Principal, body: Targets | None) -> RebalanceItem:
    """Plan the orders that bring the account to its target weights, and send none.

    The answer has the orders, the weights before and after, the likely cost, and what is left out and why. Without a
    body the targets are those that the account keeps. `POST /api/account/rebalance` with its id as `preview_id` sends
    just these orders, for 15 minutes.

    Raises Invalid with the wrong field, such as `weights.AAPL`.
    """
    targets = body or await _kept(gateway, principal)
    command = PlanRebalance(request_id=uuid4(), account_id=principal.account_id, targets=targets)
    return await _ask(gateway, principal, command, "preview_rebalance", command.request_id)


async def post_rebalance(gateway: Gateway, principal: Principal, body: NewRebalance | None) -> RebalanceItem:
    """Send the orders of a preview, or of a plan by these targets: the sells first, then the buys.

    The buys spend at most the free cash and the proceeds of the sells that filled. Without a body the targets are those
    that the account keeps. A preview whose orders were sent is answered as it is now.

    Raises Invalid with the wrong field, NotFound for an unknown preview, and Conflict while another rebalance of the
    account is under way, or if the preview is too old.
    """
    asked = body or NewRebalance()
    targets = asked.targets
    if asked.preview_id is None and targets is None:
        targets = await _kept(gateway, principal)
    command = StartRebalance(
        request_id=uuid4(), account_id=principal.account_id, targets=targets, preview_id=asked.preview_id
    )
    rebalance_id = asked.preview_id or command.request_id
    return await _ask(gateway, principal, command, "rebalance", rebalance_id)


async def get_rebalances(gateway: Gateway, principal: Principal, query: RebalanceQuery) -> RebalancePage:
    """List the rebalances of the account and their previews, the newest first."""

    def page(connection: Any, filters: Mapping[str, Any], /, *, after: Any, limit: int) -> list[Record]:
        own = {**filters, "account_id": principal.account_id}
        return [queries.shown(row) for row in queries.REBALANCES.page(connection, own, after=after, limit=limit)]

    return await page_of(gateway, page, query, RebalancePage, ("created_at", "id"))


async def get_rebalance(gateway: Gateway, principal: Principal, rebalance_id: UUID) -> RebalanceItem:
    """Get a rebalance with the state and the fills of its orders.

    Raises NotFound.
    """
    found = await read(gateway, queries.one, principal.account_id, rebalance_id)
    if found is None:
        raise NotFound(f"there is no rebalance {rebalance_id}")
    return RebalanceItem.model_validate(found)


async def post_cancel_rebalance(gateway: Gateway, principal: Principal, rebalance_id: UUID) -> RebalanceItem:
    """Cancel the open orders of a rebalance, and send no more of them. An ended one stays as it is.

    Raises NotFound.
    """
    command = CancelRebalance(request_id=uuid4(), account_id=principal.account_id, rebalance_id=rebalance_id)
    return await _ask(gateway, principal, command, "cancel_rebalance", rebalance_id)


async def get_targets(gateway: Gateway, principal: Principal) -> KeptTargets:
    """Get the targets that the account keeps. Without any, `targets` is null."""
    found = await read(gateway, queries.kept, principal.account_id)
    return KeptTargets(targets=None) if found is None else KeptTargets.model_validate(found)


async def put_targets(gateway: Gateway, principal: Principal, body: Targets) -> KeptTargets:
    """Keep targets for the account. The job `rebalance_accounts` trades when a weight leaves its band.

    Raises Invalid with the wrong field, such as `weights.AAPL`.
    """
    return await _keep(gateway, principal, body)


async def delete_targets(gateway: Gateway, principal: Principal) -> KeptTargets:
    """Keep no targets for the account any more. A rebalance that is under way goes on."""
    return await _keep(gateway, principal, None)


async def _keep(gateway: Gateway, principal: Principal, targets: Targets | None) -> KeptTargets:
    command = KeepTargets(request_id=uuid4(), account_id=principal.account_id, targets=targets)
    await _send(gateway, principal, command, "keep_targets")
    return await get_targets(gateway, principal)


async def _ask(
    gateway: Gateway, principal: Principal, command: OfRebalance, action: str, rebalance_id: UUID
) -> RebalanceItem:
    await _send(gateway, principal, command, action)
    return await get_rebalance(gateway, principal, rebalance_id)


async def _send(gateway: Gateway, principal: Principal, command: OfRebalance, action: str) -> None:
    """Send the command and wait for its answer. Raises the error of a refusal."""
    told = command.model_dump(mode="json", exclude={"request_id"})
    publish = commands.recorded(command, principal, action, str(command.account_id), told)
    message, body = await commands.ask(gateway, publish, command.request_id, late=NOT_ANSWERED)
    if message is RebalanceRefused:
        refused = RebalanceRefused.model_validate(body)
        error = {"conflict": Conflict, "unknown": NotFound}.get(refused.reason, Invalid)
        raise error(refused.message, field=refused.field)


async def _kept(gateway: Gateway, principal: Principal) -> Targets:
    found = await read(gateway, queries.kept_targets, principal.account_id)
    if found is None:
        raise Invalid(
            "weights: the account keeps no targets; send weights, or PUT /api/account/targets first", field="weights"
        )
    return found


endpoints = (
    Endpoint("POST", "/api/account/rebalance/preview", post_rebalance_preview, TRADE),
    Endpoint("POST", "/api/account/rebalance", post_rebalance, TRADE, 202, refusals=(404, 409)),
    Endpoint("GET", "/api/account/rebalances", get_rebalances, READ),
    Endpoint("GET", "/api/account/rebalances/{rebalance_id}", get_rebalance, READ),
    Endpoint("POST", "/api/account/rebalances/{rebalance_id}/cancel", post_cancel_rebalance, TRADE, 202),
    Endpoint("GET", "/api/account/targets", get_targets, READ),
    Endpoint("PUT", "/api/account/targets", put_targets, TRADE),
    Endpoint("DELETE", "/api/account/targets", delete_targets, TRADE),
)
