"""``/api/strategies``: create, change and control strategies, and read their signals, decisions and results.

A key with the scope ``trade`` has the strategies of its own account, one with ``operate`` those of all accounts.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

from services.gateway.http.auth import OPERATE, READ, TRADE_OR_OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Conflict, Forbidden, Invalid, NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.performance.asked import asked_for
from services.gateway.performance.schemas import TimeQuery
from services.gateway.strategies import queries
from services.gateway.strategies.schemas import (
    RULES,
    ChangedStrategy,
    Clone,
    ConditionItem,
    DecisionItem,
    DecisionPage,
    DecisionQuery,
    KindItem,
    Kinds,
    NewStrategy,
    Reason,
    SignalPage,
    SignalQuery,
    StrategyItem,
    StrategyPage,
    StrategyPerformance,
    StrategyQuery,
    VersionPage,
    VersionQuery,
    Why,
)
from services.gateway.strategies.why import sentences
from services.gateway.trading import commands
from shared.contracts.strategy import (
    Control,
    ControlStrategy,
    CreateStrategy,
    OfStrategy,
    ReviseStrategy,
    StrategyRefused,
)
from shared.reports.strategy_performance import strategy_performance
from shared.storage.keyset import Keyset, Record

NOT_ANSWERED = "the request was not answered yet; look at the strategy in a moment, or send the same again"
COPY = "-copy"


async def get_kinds(gateway: Gateway) -> Kinds:
    """List the kinds of strategies, with the JSON schemas of their parameters."""
    return Kinds(kinds=[KindItem.model_validate(row) for row in await read(gateway, queries.kinds)])


async def get_strategies(gateway: Gateway, principal: Principal, query: StrategyQuery) -> StrategyPage:
    """List the strategies of the account, or of all accounts for a key that may operate."""
    if not principal.may(OPERATE):
        _check_account(principal, query.account_id or principal.account_id)
        query = query.model_copy(update={"account_id": principal.account_id})
        query.model_fields_set.add("account_id")

    def listed(connection: Any, filters: Mapping[str, Any], /, *, after: Any, limit: int) -> list[Record]:
        return [_shown(row) for row in queries.STRATEGIES.page(connection, filters, after=after, limit=limit)]

    return await page_of(gateway, listed, query, StrategyPage, ("created_at", "id"))


async def post_strategy(gateway: Gateway, principal: Principal, body: NewStrategy) -> StrategyItem:
    """Create a strategy. It does not run until it is started.

    Raises Invalid with the wrong field, such as `parameters.fast`, NotFound for an unknown account, and Conflict if
    the account has a strategy of that name.
    """
    account_id = body.account_id or principal.account_id
    _check_account(principal, account_id)
    given = body.model_dump(exclude={"kind", "parameters", "rules", "account_id"})
    kind, parameters = (RULES, body.rules) if body.rules is not None else (body.kind, body.parameters or {})
    ids = {"request_id": uuid4(), "strategy_id": uuid4(), "account_id": account_id}
    command = CreateStrategy.model_validate({**given, **ids, "kind": kind, "parameters": parameters})
    return await _ask(gateway, principal, command, "create_strategy", body.name)


async def get_strategy(gateway: Gateway, principal: Principal, strategy_id: UUID) -> StrategyItem:
    """Get a strategy.

    Raises NotFound.
    """
    return StrategyItem.model_validate(_shown(await _own(gateway, principal, strategy_id)))


async def patch_strategy(
    gateway: Gateway, principal: Principal, strategy_id: UUID, body: ChangedStrategy
) -> StrategyItem:
    """Change a strategy. Changed terms are a new version, which later decisions name.

    Raises NotFound, Invalid with the wrong field, and Conflict if the account has another strategy of that name.
    """
    found = await _own(gateway, principal, strategy_id)
    if body.rules is not None and (found["kind"] != RULES or body.parameters is not None):
        raise Invalid(f"rules: the strategy is of the kind {found['kind']}, change its parameters", field="rules")
    changes = body.changes()
    if not changes:
        raise Invalid("body: names nothing to change; send at least one field", field="body")
    command = ReviseStrategy(request_id=uuid4(), strategy_id=strategy_id, changes=changes)
    return await _ask(gateway, principal, command, "revise_strategy", found["name"])


async def post_start(gateway: Gateway, principal: Principal, strategy_id: UUID) -> StrategyItem:
    """Start a strategy, so that it decides and trades.

    Raises NotFound, Invalid if its terms are no longer valid, and Conflict if it is paused.
    """
    return await _control(gateway, principal, strategy_id, Control.START)


async def post_strategy_pause(
    gateway: Gateway, principal: Principal, strategy_id: UUID, body: Reason | None
) -> StrategyItem:
    """Pause a strategy. It keeps its positions and orders, and decides nothing until it is resumed.

    Raises NotFound, and Conflict if it does not run.
    """
    return await _control(gateway, principal, strategy_id, Control.PAUSE, body)


async def post_strategy_resume(gateway: Gateway, principal: Principal, strategy_id: UUID) -> StrategyItem:
    """Resume a paused strategy. Its protections count from now.

    Raises NotFound, and Conflict if it is not paused.
    """
    return await _control(gateway, principal, strategy_id, Control.RESUME)


async def post_stop(gateway: Gateway, principal: Principal, strategy_id: UUID, body: Reason | None) -> StrategyItem:
    """Stop a strategy. It keeps its positions and orders: flatten it to close them.

    Raises NotFound.
    """
    return await _control(gateway, principal, strategy_id, Control.STOP, body)


async def post_flatten(gateway: Gateway, principal: Principal, strategy_id: UUID) -> StrategyItem:
    """Cancel the open orders of a strategy and close its positions at the market. Its state stays.

    Raises NotFound.
    """
    return await _control(gateway, principal, strategy_id, Control.FLATTEN)


async def post_clone(gateway: Gateway, principal: Principal, strategy_id: UUID, body: Clone | None) -> StrategyItem:
    """Create a strategy with the present terms of another one. It does not run until it is started.

    Raises NotFound, and Conflict if the account has a strategy of that name.
    """
    found = await _own(gateway, principal, strategy_id)
    wanted = body or Clone()
    account_id = wanted.account_id or found["account_id"]
    _check_account(principal, account_id)
    terms = {name: found[name] for name in ("kind", "parameters", "symbols", "interval", "schedule", "sizing")}
    command = CreateStrategy(
        **terms,
        protections=found["protections"],
        note=found["note"],
        request_id=uuid4(),
        strategy_id=uuid4(),
        account_id=account_id,
        name=wanted.name or found["name"][: 64 - len(COPY)] + COPY,
    )
    return await _ask(gateway, principal, command, "clone_strategy", command.name)


async def get_versions(gateway: Gateway, principal: Principal, strategy_id: UUID, query: VersionQuery) -> VersionPage:
    """List the versions of a strategy's terms, the newest first.

    Raises NotFound.
    """
    await _own(gateway, principal, strategy_id)
    return await page_of(gateway, _pages(queries.VERSIONS, strategy_id), query, VersionPage, ("version",))


async def get_signals(gateway: Gateway, principal: Principal, strategy_id: UUID, query: SignalQuery) -> SignalPage:
    """List a strategy's signals, the newest first.

    Raises NotFound.
    """
    await _own(gateway, principal, strategy_id)
    return await page_of(gateway, _pages(queries.SIGNALS, strategy_id), query, SignalPage, ("at", "id"))


async def get_decisions(
    gateway: Gateway, principal: Principal, strategy_id: UUID, query: DecisionQuery
) -> DecisionPage:
    """List a strategy's decisions, the newest first, also those to do nothing.

    Raises NotFound.
    """
    await _own(gateway, principal, strategy_id)
    listed = _pages(queries.DECISIONS, strategy_id, _decision)
    return await page_of(gateway, listed, query, DecisionPage, ("at", "symbol", "run_id"))


async def get_strategy_performance(
    gateway: Gateway, principal: Principal, strategy_id: UUID, query: TimeQuery
) -> StrategyPerformance:
    """Get the returns, the risk and the trading of a strategy, by default since its creation.

    Raises NotFound, and Invalid for an unknown benchmark or account generation.
    """
    found = await _own(gateway, principal, strategy_id)
    asked = await asked_for(gateway, found["account_id"], query, "strategy")
    terms = (strategy_id, found["created_at"], asked, gateway.context.clock())
    told = await read(gateway, strategy_performance, *terms)
    if told is None:
        raise NotFound(f"there is no account {found['account_id']}; GET /api/accounts lists them")
    held = await read(gateway, queries.holdings, found)
    return StrategyPerformance(
        **{name: value for name, value in told.items() if name not in {"by", "groups", "figures"}},
        **told["figures"],
        strategy_id=strategy_id,
        round_trips=told["figures"]["trades"],
        open_positions=held["positions"],
        open_cost=held["cost"],
    )


async def get_why(gateway: Gateway, principal: Principal, order_id: UUID) -> Why:
    """Explain an order in sentences: the decision, its inputs and conditions, the size, and what became of it.

    Raises NotFound.
    """
    order = await read(gateway, queries.order_with_decision, principal.account_id, order_id)
    if order is None and principal.may(OPERATE):
        order = await read(gateway, queries.order_with_decision, None, order_id)
    if order is None:
        raise NotFound(f"order not found for {order_id}")
    decision = order["decision"]
    return Why(
        order_id=order_id,
        strategy_id=decision["strategy_id"] if decision else order["strategy_id"],
        version=decision and decision["version"],
        decided_at=decision and decision["at"],
        sentences=sentences(order),
    )


async def _control(
    gateway: Gateway, principal: Principal, strategy_id: UUID, action: Control, body: Reason | None = None
) -> StrategyItem:
    found = await _own(gateway, principal, strategy_id)
    reason = body.reason if body is not None else None
    command = ControlStrategy(request_id=uuid4(), strategy_id=strategy_id, action=action, reason=reason)
    return await _ask(gateway, principal, command, f"{action}_strategy", found["name"])


async def _ask(gateway: Gateway, principal: Principal, command: OfStrategy, action: str, subject: str) -> StrategyItem:
    """Send the command, and return the strategy after the answer. Raises the error of a refusal."""
    told = command.model_dump(mode="json", exclude={"request_id"})
    publish = commands.recorded(command, principal, action, subject, told)
    message, body = await commands.ask(gateway, publish, command.request_id, late=NOT_ANSWERED)
    if message is StrategyRefused:
        refused = StrategyRefused.model_validate(body)
        error = {"conflict": Conflict, "unknown": NotFound}.get(refused.reason, Invalid)
        raise error(refused.message, field=refused.field)
    return await get_strategy(gateway, principal, command.strategy_id)


async def _own(gateway: Gateway, principal: Principal, strategy_id: UUID) -> Record:
    """Return the strategy's row. Raises NotFound, also for one of another account that the key may not see."""
    found = await read(gateway, queries.strategy, strategy_id)
    if found is None or (found["account_id"] != principal.account_id and not principal.may(OPERATE)):
        raise NotFound(f"there is no strategy {strategy_id}")
    return found


def _check_account(principal: Principal, account_id: UUID) -> None:
    """Raise Forbidden for another account, unless the key may operate."""
    if account_id != principal.account_id and not principal.may(OPERATE):
        raise Forbidden("this key has the strategies of its own account only: use one with the scope 'operate'")


def _shown(row: Record) -> Record:
    return {**row, "rules": row["parameters"] if row["kind"] == RULES else None}


def _decision(row: Record) -> DecisionItem:
    conditions = [
        ConditionItem(text=text, holds=holds, values=values) for text, holds, values in row["conditions"] or ()
    ]
    return DecisionItem(**{**row, "conditions": conditions, "cuts": row["cuts"] or []})


def _pages(
    keyset: Keyset, strategy_id: UUID, shown: Callable[[Record], Any] | None = None
) -> Callable[..., list[Record]]:
    """Return the query for pages of the strategy's own rows."""

    def page(connection: Any, filters: Mapping[str, Any], *, after: Any, limit: int) -> list[Record]:
        rows = keyset.page(connection, {**filters, "strategy_id": strategy_id}, after=after, limit=limit)
        return rows if shown is None else [shown(row).model_dump() for row in rows]

    return page


endpoints = (
    Endpoint("GET", "/api/strategies/kinds", get_kinds, READ),
    Endpoint("GET", "/api/strategies", get_strategies, READ),
    Endpoint("POST", "/api/strategies", post_strategy, TRADE_OR_OPERATE, 201, refusals=(404, 409)),
    Endpoint("GET", "/api/strategies/{strategy_id}", get_strategy, READ),
    Endpoint("PATCH", "/api/strategies/{strategy_id}", patch_strategy, TRADE_OR_OPERATE, refusals=(409,)),
    Endpoint("POST", "/api/strategies/{strategy_id}/start", post_start, TRADE_OR_OPERATE, refusals=(409,)),
    Endpoint("POST", "/api/strategies/{strategy_id}/pause", post_strategy_pause, TRADE_OR_OPERATE, refusals=(409,)),
    Endpoint("POST", "/api/strategies/{strategy_id}/resume", post_strategy_resume, TRADE_OR_OPERATE, refusals=(409,)),
    Endpoint("POST", "/api/strategies/{strategy_id}/stop", post_stop, TRADE_OR_OPERATE),
    Endpoint("POST", "/api/strategies/{strategy_id}/flatten", post_flatten, TRADE_OR_OPERATE),
    Endpoint("POST", "/api/strategies/{strategy_id}/clone", post_clone, TRADE_OR_OPERATE, 201, refusals=(409,)),
    Endpoint("GET", "/api/strategies/{strategy_id}/versions", get_versions, READ),
    Endpoint("GET", "/api/strategies/{strategy_id}/signals", get_signals, READ),
    Endpoint("GET", "/api/strategies/{strategy_id}/decisions", get_decisions, READ),
    Endpoint("GET", "/api/strategies/{strategy_id}/performance", get_strategy_performance, READ),
    Endpoint("GET", "/api/orders/{order_id}/why", get_why, READ),
)
