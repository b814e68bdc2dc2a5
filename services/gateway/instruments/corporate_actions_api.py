"""``/api/corporate-actions``: splits and dividends, entered by hand and listed."""

from typing import Annotated
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BeforeValidator, ConfigDict

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid
from services.gateway.http.pagination import FROM_CURSOR, Moment, Page, PageQuery, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import commands, submissions
from services.gateway.trading.requests import upper
from shared.contracts.base import Symbol
from shared.contracts.corporate_actions import ActionKind, CorporateAction, EnterCorporateAction
from shared.storage.keyset import Keyset


class NewCorporateAction(CorporateAction):
    """``action_id`` makes a repetition the same action."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: Annotated[Symbol, BeforeValidator(upper)]
    effective_at: Moment
    action_id: UUID | None = None


class EnteredAction(CorporateAction):
    """``applied_at`` is empty until it has taken effect."""

    id: UUID
    entered_at: AwareDatetime | None = None
    applied_at: AwareDatetime | None = None


class EnteredActions(Page[EnteredAction]):
    """Those that take effect last come first."""


class CorporateActionQuery(PageQuery):
    cursor: Annotated[tuple[Moment, UUID], *FROM_CURSOR] | None = None
    symbol: Annotated[Symbol, BeforeValidator(upper)] | None = None
    kind: ActionKind | None = None


async def post_corporate_action(gateway: Gateway, principal: Principal, body: NewCorporateAction) -> EnteredAction:
    """Enter a split or dividend; it takes effect at its time, or within seconds where that has passed."""
    if not await read(gateway, submissions.instrument_exists, body.symbol):
        raise Invalid(f"symbol: {body.symbol} is not an instrument here", field="symbol")
    action_id = body.action_id or uuid4()
    terms = body.model_dump(exclude={"action_id"})
    command = EnterCorporateAction(**terms, action_id=action_id)
    after = command.model_dump(mode="json")
    await commands.ask(gateway, commands.noted(command, principal, "enter_corporate_action", body.symbol, after), ())
    return EnteredAction(**terms, id=action_id)


async def get_corporate_actions(gateway: Gateway, query: CorporateActionQuery) -> EnteredActions:
    """All splits and dividends that were entered."""
    return await page_of(gateway, _ACTIONS.page, query, EnteredActions, ("effective_at", "id"))


_ACTIONS = Keyset(
    "SELECT id, symbol, kind, ratio, amount, effective_at, entered_at, applied_at FROM marketdata.corporate_actions_v1",
    ("effective_at", "id"),
    {"symbol": "symbol = :symbol", "kind": "kind = :kind"},
)
endpoints = (
    Endpoint("GET", "/api/corporate-actions", get_corporate_actions, OPERATE),
    Endpoint("POST", "/api/corporate-actions", post_corporate_action, OPERATE, 202),
)
