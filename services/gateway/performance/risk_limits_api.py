"""``/api/account/risk-limits``: the limits at which an account is halted, its figures, and the end of a halt."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection, text

from services.gateway.accounts import queries as account_queries
from services.gateway.http.auth import ADMIN, FUND, OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound, NotReady
from services.gateway.http.pagination import Page, PageQuery, TimeCursor, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Answer, PlainNumber
from services.gateway.trading import commands
from shared.contracts.account_risk import AccountRiskLimits, ResumeAccount, RiskKind, SetRiskLimits
from shared.storage.keyset import Keyset


class RiskFigure(Answer):
    """A figure as a fraction, and its limit. ``value`` is null before the first snapshot with limits."""

    kind: RiskKind
    value: PlainNumber | None
    limit: PlainNumber | None


class AccountHaltItem(Answer):
    """A halt of an account. ``value`` is the figure that reached ``limit``. ``ended_at`` is null while it stands."""

    id: UUID
    generation: int
    kind: RiskKind
    value: PlainNumber
    limit: PlainNumber
    reason: str
    halted_at: datetime
    ended_at: datetime | None
    ended_by: str | None


class AccountHaltPage(Page[AccountHaltItem]):
    """Halts of the account, the last one first."""


class AccountHaltQuery(PageQuery):
    cursor: TimeCursor | None = None


class RiskState(Answer):
    """The limits of an account with its figures. ``marked_at`` is the last resume, which they are measured from.

    ``halt`` is the halt that stands, or null.
    """

    account_id: UUID
    state: Literal["active", "halted"]
    halt: AccountHaltItem | None
    limits: AccountRiskLimits
    figures: list[RiskFigure]
    largest_symbol: str | None
    measured_at: datetime | None
    marked_at: datetime | None


async def get_risk_limits(gateway: Gateway, principal: Principal) -> RiskState:
    """Get the limits at which the key's account is halted, its figures, and the halt that stands.

    Raises NotReady while the account is being opened.
    """
    return await _own(gateway, principal.account_id)


async def put_risk_limits(gateway: Gateway, principal: Principal, body: AccountRiskLimits) -> AccountRiskLimits:
    """Replace the limits of the key's account. A limit that is left out halts nothing.

    They apply from the next snapshot on, which is a minute away at most while the market is open. A halt that stands
    is not ended by them.
    """
    await _set(gateway, principal, principal.account_id, body)
    return body


async def post_risk_resume(gateway: Gateway, principal: Principal) -> RiskState:
    """End the halt of the key's account. Its figures are measured from now on. Its strategies stay paused.

    Raises NotReady while the account is being opened.
    """
    return await _resume(gateway, principal, await _own(gateway, principal.account_id))


async def get_risk_halts(gateway: Gateway, principal: Principal, query: AccountHaltQuery) -> AccountHaltPage:
    """List the halts of the key's account, the last one first."""
    pages = account_queries.pages_of(_HALTS, principal.account_id)
    return await page_of(gateway, pages, query, AccountHaltPage, ("halted_at", "id"))


async def get_risk_limits_of(gateway: Gateway, account_id: UUID) -> RiskState:
    """Get the limits of an account, its figures, and the halt that stands.

    Raises NotFound for an unknown account.
    """
    return await _known(gateway, account_id)


async def put_risk_limits_of(
    gateway: Gateway, principal: Principal, account_id: UUID, body: AccountRiskLimits
) -> AccountRiskLimits:
    """Replace the limits of an account.

    Raises NotFound for an unknown account.
    """
    await _known(gateway, account_id)
    await _set(gateway, principal, account_id, body)
    return body


async def post_risk_resume_of(gateway: Gateway, principal: Principal, account_id: UUID) -> RiskState:
    """End the halt of an account. Its figures are measured from now on. Its strategies stay paused.

    Raises NotFound for an unknown account.
    """
    return await _resume(gateway, principal, await _known(gateway, account_id))


async def get_risk_halts_of(gateway: Gateway, account_id: UUID, query: AccountHaltQuery) -> AccountHaltPage:
    """List the halts of an account, the last one first.

    Raises NotFound for an unknown account.
    """
    await _known(gateway, account_id)
    pages = account_queries.pages_of(_HALTS, account_id)
    return await page_of(gateway, pages, query, AccountHaltPage, ("halted_at", "id"))


async def _own(gateway: Gateway, account_id: UUID) -> RiskState:
    found = await read(gateway, _state, account_id)
    if found is None:
        raise NotReady("the account is being opened; retry in a moment")
    return found


async def _known(gateway: Gateway, account_id: UUID) -> RiskState:
    found = await read(gateway, _state, account_id)
    if found is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    return found


async def _set(gateway: Gateway, principal: Principal, account_id: UUID, limits: AccountRiskLimits) -> None:
    before = await read(gateway, _state, account_id)
    earlier = None if before is None else before.limits.model_dump(mode="json")
    command, after = SetRiskLimits(account_id=account_id, limits=limits), limits.model_dump(mode="json")
    publish = commands.recorded(command, principal, "set_risk_limits", str(account_id), after, before=earlier)
    await commands.send(gateway, publish, (), account_id=None)


async def _resume(gateway: Gateway, principal: Principal, state: RiskState) -> RiskState:
    """End the halt that stands, if one does. Another halt, which began meanwhile, stays."""
    if state.halt is None:
        return state
    account_id, halt_id = state.account_id, state.halt.id
    command = ResumeAccount(account_id=account_id, halt_id=halt_id, resumed_by=principal.key_id)
    before = {"halt_id": str(halt_id), "reason": state.halt.reason}
    publish = commands.recorded(command, principal, "resume_account", str(account_id), None, before=before)
    await commands.send(gateway, publish, [halt_id], account_id=account_id)
    return await _own(gateway, account_id)


def _state(connection: Connection, account_id: UUID) -> RiskState | None:
    row = connection.execute(_STATE, {"account_id": account_id}).mappings().one_or_none()
    if row is None:
        return None
    limits = AccountRiskLimits.model_validate(row["limits"] or {})
    halt = None
    if row["halted_at"] is not None:
        names = {name: row[name] for name in ("generation", "kind", "value", "reason", "halted_at")}
        halt = AccountHaltItem(**names, id=row["halt_id"], limit=row["limit"], ended_at=None, ended_by=None)
    return RiskState(
        account_id=account_id,
        state="active" if halt is None else "halted",
        halt=halt,
        limits=limits,
        figures=[RiskFigure(kind=kind, value=row[kind], limit=limits.limit_of(kind)) for kind in RiskKind],
        largest_symbol=row["largest_symbol"],
        measured_at=row["measured_at"],
        marked_at=row["marked_at"],
    )


#: The figures of an earlier generation are left out.
_STATE = text("""
SELECT r.limits, m.measured_at, m.marked_at, m.drawdown, m.daily_loss, m.concentration, m.gross_exposure,
       m.largest_symbol, a.halt_id, a.halted_at, h.generation, h.kind, h.value, h.limit_value AS limit, h.reason
FROM orders.accounts_v1 a
LEFT JOIN valuation.risk_limits_v1 r ON r.account_id = a.id
LEFT JOIN valuation.risk_limits_v1 m ON m.account_id = a.id AND m.generation = a.generation
LEFT JOIN orders.account_halts_v1 h ON h.account_id = a.id AND h.id = a.halt_id
WHERE a.id = :account_id
""")
_HALTS = Keyset(
    """
    SELECT id, generation, kind, value, limit_value AS limit, reason, halted_at, ended_at, ended_by
    FROM orders.account_halts_v1
    """,
    ("halted_at", "id"),
    {"account_id": "account_id = :account_id"},
)
endpoints = (
    Endpoint("GET", "/api/account/risk-limits", get_risk_limits, READ),
    Endpoint("PUT", "/api/account/risk-limits", put_risk_limits, FUND, 202),
    Endpoint("POST", "/api/account/risk-limits/resume", post_risk_resume, FUND),
    Endpoint("GET", "/api/account/risk-limits/halts", get_risk_halts, READ),
    Endpoint("GET", "/api/accounts/{account_id}/risk-limits", get_risk_limits_of, OPERATE),
    Endpoint("PUT", "/api/accounts/{account_id}/risk-limits", put_risk_limits_of, ADMIN, 202),
    Endpoint("POST", "/api/accounts/{account_id}/risk-limits/resume", post_risk_resume_of, OPERATE),
    Endpoint("GET", "/api/accounts/{account_id}/risk-limits/halts", get_risk_halts_of, OPERATE),
)
