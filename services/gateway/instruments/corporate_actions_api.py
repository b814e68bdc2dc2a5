"""``/api/corporate-actions``: enter, preview and list splits and dividends."""

from datetime import date
from decimal import Decimal
from typing import Any, Self
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, model_validator
from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid
from services.gateway.http.pagination import Page, PageQuery, TimeCursor, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import AnyCaseSymbol, Moment
from services.gateway.instruments import preview_queries
from services.gateway.instruments.action_preview import Effect, preview, price_after
from services.gateway.trading import commands, order_queries
from shared.contracts.corporate_actions import ActionKind, CorporateAction, EnterCorporateAction
from shared.exchange.order import Order
from shared.storage.keyset import Keyset

#: Accounts in one preview.
MOST_ACCOUNTS = 1000


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
    new_symbol: AnyCaseSymbol | None = None
    action_id: UUID | None = None


class CorporateActionItem(CorporateAction):
    """A split, a dividend or a new symbol. ``applied_at`` is null until it has taken effect.

    The ``symbol`` of a change is the old one.
    ``provider`` is null where an operator entered it. ``correction`` has the terms that the provider gave later, when
    the action had been applied or was an operator's.
    """

    id: UUID
    entered_at: AwareDatetime | None = None
    applied_at: AwareDatetime | None = None
    ex_date: date | None = None
    provider: str | None = None
    correction: dict[str, Any] | None = None
    corrected_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Take the action as it is stored. It was checked when it was entered."""
        return self


class CorporateActionPage(Page[CorporateActionItem]):
    """Splits and dividends, the last to take effect first."""


class OrderFigures(BaseModel):
    """The quantity and the prices of an order."""

    qty: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    trail_price: Decimal | None
    hwm: Decimal | None


class PreviewOrder(BaseModel):
    """An open order that would change. ``after`` is null where it would be canceled."""

    id: UUID
    side: str
    type: str
    before: OrderFigures
    after: OrderFigures | None


class PreviewAccount(BaseModel):
    """The effect on an account, in its currency. ``cash`` is null where an exchange rate is missing."""

    account_id: UUID
    currency: str
    qty_before: Decimal
    qty_after: Decimal
    cost_before: Decimal
    cost_after: Decimal
    cash_before: Decimal
    cash_after: Decimal | None
    cash: Decimal | None
    orders: list[PreviewOrder]


class CorporateActionPreview(BaseModel):
    """The effect that the action would have now. ``left_out`` is the number of further accounts."""

    symbol: str
    price_before: Decimal | None
    price_after: Decimal | None
    accounts: list[PreviewAccount]
    left_out: int


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
    if body.new_symbol is not None and await read(gateway, order_queries.instrument_exists, body.new_symbol):
        raise Invalid(f"new_symbol: {body.new_symbol} is another instrument", field="new_symbol")
    action_id = body.action_id or uuid4()
    terms = body.model_dump(exclude={"action_id"})
    command = EnterCorporateAction(**terms, action_id=action_id)
    after = command.model_dump(mode="json")
    publish = commands.recorded(command, principal, "enter_corporate_action", body.symbol, after)
    await commands.send(gateway, publish, (), account_id=None)
    return CorporateActionItem(**terms, id=action_id)


async def post_corporate_action_preview(gateway: Gateway, body: NewCorporateAction) -> CorporateActionPreview:
    """Preview a split or dividend: the positions, cash and orders that it would change. Nothing is entered.

    It is computed for what is held and ordered now. A dividend's cash is paid at `pay_at`.

    Raises Invalid for an unknown symbol.
    """
    if not await read(gateway, order_queries.instrument_exists, body.symbol):
        raise Invalid(f"symbol: unknown instrument {body.symbol}", field="symbol")
    found = await read(gateway, preview_queries.holdings, body.symbol, body.effective_at)
    effects = await run_in_threadpool(preview, body, found, gateway.context.clock())
    shown = [_preview_account(each) for each in effects[:MOST_ACCOUNTS]]
    return CorporateActionPreview(
        symbol=body.symbol,
        price_before=found.last,
        price_after=price_after(body, found.last),
        accounts=shown,
        left_out=len(effects) - len(shown),
    )


def _preview_account(effect: Effect) -> PreviewAccount:
    account = effect.account
    return PreviewAccount(
        account_id=account.id,
        currency=account.currency,
        qty_before=effect.qty,
        qty_after=effect.qty_after,
        cost_before=effect.cost,
        cost_after=effect.cost_after,
        cash_before=account.cash,
        cash_after=None if effect.cash is None else account.cash + effect.cash,
        cash=effect.cash,
        orders=[
            PreviewOrder(
                id=each.before.id,
                side=each.before.side,
                type=each.before.type,
                before=_figures(each.before),
                after=None if each.after is None else _figures(each.after),
            )
            for each in effect.orders
        ],
    )


def _figures(order: Order) -> OrderFigures:
    return OrderFigures(**{name: getattr(order, name) for name in OrderFigures.model_fields})


async def get_corporate_actions(gateway: Gateway, query: CorporateActionQuery) -> CorporateActionPage:
    """List all splits, dividends and new symbols, the last to take effect first."""
    return await page_of(gateway, _ACTIONS.page, query, CorporateActionPage, ("effective_at", "id"))


_ACTIONS = Keyset(
    """
    SELECT id, COALESCE(old_symbol, symbol) AS symbol, kind, ratio, new_shares, old_shares, cash_in_lieu, amount,
           effective_at, pay_at, entered_at, applied_at, ex_date, provider, correction, corrected_at, new_symbol
    FROM marketdata.corporate_actions_v1
    """,
    ("effective_at", "id"),
    {"symbol": "(symbol = :symbol OR old_symbol = :symbol)", "kind": "kind = :kind"},
)
endpoints = (
    Endpoint("GET", "/api/corporate-actions", get_corporate_actions, OPERATE),
    Endpoint("POST", "/api/corporate-actions", post_corporate_action, OPERATE, 202),
    Endpoint("POST", "/api/corporate-actions/preview", post_corporate_action_preview, OPERATE),
)
