"""``/api/corporate-actions``: enter and list splits and dividends."""

from uuid import UUID, uuid4

from pydantic import AwareDatetime, ConfigDict

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid
from services.gateway.http.pagination import Page, PageQuery, TimeCursor, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import AnyCaseSymbol, Moment
from services.gateway.trading import commands, order_queries
from shared.contracts.corporate_actions import ActionKind, CorporateAction, EnterCorporateAction
from shared.storage.keyset import Keyset


class NewCorporateAction(CorporateAction):
    """The split or dividend to enter. A repeated ``action_id`` is entered once.

    A split is ``new_shares`` for every ``old_shares``, or a ``ratio`` that stands for two such numbers. With
    ``cash_in_lieu`` it pays the fractions that it makes of whole shares. A dividend goes ex at ``effective_at`` and is
    paid at ``pay_at``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: AnyCaseSymbol
    effective_at: Moment
    pay_at: Moment | None = None
    action_id: UUID | None = None


class CorporateActionItem(CorporateAction):
    """A split or dividend. ``applied_at`` is null until it has taken effect."""

    id: UUID
    entered_at: AwareDatetime | None = None
    applied_at: AwareDatetime | None = None


class CorporateActionPage(Page[CorporateActionItem]):
    """Splits and dividends, the last to take effect first."""


class CorporateActionQuery(PageQuery):
    cursor: TimeCursor | None = None
    symbol: AnyCaseSymbol | None = None
    kind: ActionKind | None = None


async def post_corporate_action(
    gateway: Gateway, principal: Principal, body: NewCorporateAction
) -> CorporateActionItem:
    """Enter a split or dividend.

    It takes effect at `effective_at`, or within seconds if that has passed.

    Raises Invalid for an unknown symbol.
    """
    if not await read(gateway, order_queries.instrument_exists, body.symbol):
        raise Invalid(f"symbol: unknown instrument {body.symbol}", field="symbol")
    action_id = body.action_id or uuid4()
    terms = body.model_dump(exclude={"action_id"})
    command = EnterCorporateAction(**terms, action_id=action_id)
    after = command.model_dump(mode="json")
    publish = commands.recorded(command, principal, "enter_corporate_action", body.symbol, after)
    await commands.send(gateway, publish, (), account_id=None)
    return CorporateActionItem(**terms, id=action_id)


async def get_corporate_actions(gateway: Gateway, query: CorporateActionQuery) -> CorporateActionPage:
    """List all splits and dividends, the last to take effect first."""
    return await page_of(gateway, _ACTIONS.page, query, CorporateActionPage, ("effective_at", "id"))


_ACTIONS = Keyset(
    """
    SELECT id, symbol, kind, ratio, new_shares, old_shares, cash_in_lieu, amount, effective_at, pay_at, entered_at,
           applied_at
    FROM marketdata.corporate_actions_v1
    """,
    ("effective_at", "id"),
    {"symbol": "symbol = :symbol", "kind": "kind = :kind"},
)
endpoints = (
    Endpoint("GET", "/api/corporate-actions", get_corporate_actions, OPERATE),
    Endpoint("POST", "/api/corporate-actions", post_corporate_action, OPERATE, 202),
)
