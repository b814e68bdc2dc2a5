"""``/api/account``: how the key's account trades, its funding and its books; ``/api/accounts``: all there are."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from services.gateway.accounts.schemas import (
    AccountOpened,
    AccountPage,
    AccountQuery,
    BegunAgain,
    LedgerPage,
    LedgerQuery,
    NewAccount,
    Reset,
    TradePage,
    TradeQuery,
    Transfer,
    Transferred,
)
from services.gateway.http.auth import OPERATE, TRADE, Principal, add_key, new_key_id, new_secret
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotReady
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import account_queries, commands
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import AccountSettings, ConfigureAccount, MoveCash, OpenAccount, ResetAccount, ToAccount


async def get_account_settings(gateway: Gateway, principal: Principal) -> AccountSettings:
    """How the account trades: margin, fill model and limits."""
    found = await read(gateway, account_queries.settings, principal.account_id)
    if found is None:
        raise NotReady("the account is being opened; try again in a moment")
    return found


async def put_account_settings(gateway: Gateway, principal: Principal, body: AccountSettings) -> AccountSettings:
    """Trade by these settings; what is left out gets its default.

    They are in effect before anything that is asked for the account after this.
    """
    before = await get_account_settings(gateway, principal)
    command = ConfigureAccount(account_id=principal.account_id, settings=body)
    await commands.ask(gateway, _noted(command, principal, "configure_account", _json(body), before=_json(before)), ())
    return body


async def post_transfer(gateway: Gateway, principal: Principal, body: Transfer) -> Transferred:
    """Pay cash in or out."""
    transfer_id = body.transfer_id or uuid4()
    booked = await read(gateway, account_queries.transfer, principal.account_id, transfer_id)
    if booked is None:
        command = MoveCash(account_id=principal.account_id, transfer_id=transfer_id, amount=body.amount)
        await _decided(gateway, _noted(command, principal, "move_cash", _json(command)), transfer_id)
        booked = await read(gateway, account_queries.transfer, principal.account_id, transfer_id)
    if booked is not None and booked["cash"] != body.amount:
        raise Invalid("transfer_id: must be unique", field="transfer_id")
    return Transferred(transfer_id=transfer_id, amount=body.amount, booked_at=booked and booked["at"])


async def post_reset(gateway: Gateway, principal: Principal, body: Reset) -> BegunAgain:
    """Begin again with this cash: open orders are canceled, nothing is held, and what was stays in the books."""
    command = ResetAccount(account_id=principal.account_id, reset_id=uuid4(), cash=body.cash)
    await _decided(gateway, _noted(command, principal, "reset_account", _json(command)), command.reset_id)
    row = await read(gateway, account_queries.transfer, principal.account_id, command.reset_id)
    return BegunAgain(
        reset_id=command.reset_id, cash=body.cash, generation=row and row["generation"], begun_at=row and row["at"]
    )


async def _decided(gateway: Gateway, change: Callable[[UnitOfWork], None], awaited: UUID) -> None:
    """Raises RequestRefused where orders refused it."""
    (answer,) = await commands.ask(gateway, change, [awaited])
    if answer is not None and answer.refused:
        raise commands.refusal(answer.body["reason"], answer.body["message"])


def _noted(
    command: ToAccount, principal: Principal, what: str, after: object, *, before: object = None
) -> Callable[[UnitOfWork], None]:
    return commands.noted(command, principal, what, str(command.account_id), after, before=before)


def _json(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude={"account_id"})


async def get_ledger(gateway: Gateway, principal: Principal, query: LedgerQuery) -> LedgerPage:
    """Every entry of the account's ledger, the newest first."""
    pages = account_queries.pages_of(account_queries.LEDGER, principal.account_id)
    return await page_of(gateway, pages, query, LedgerPage, ("id",))


async def get_trades(gateway: Gateway, principal: Principal, query: TradeQuery) -> TradePage:
    """The account's round trips with what they realized, the latest to close first."""
    pages = account_queries.pages_of(account_queries.TRADES, principal.account_id)
    return await page_of(gateway, pages, query, TradePage, ("closed_at", "id"))


async def get_accounts(gateway: Gateway, query: AccountQuery) -> AccountPage:
    """All accounts, the newest first."""
    return await page_of(gateway, account_queries.accounts, query, AccountPage, ("created_at", "id"))


async def post_account(gateway: Gateway, principal: Principal, body: NewAccount) -> AccountOpened:
    """Open an account, with a key of its own, under which it can be asked for within moments."""
    opened = AccountOpened(
        account_id=uuid4(),
        name=body.name,
        currency=body.currency,
        key_id=new_key_id(),
        secret_key=new_secret(),
        scopes=sorted(set(body.scopes)),
    )
    await run_in_threadpool(_open, gateway, principal, body, opened)
    return opened


def _open(gateway: Gateway, principal: Principal, body: NewAccount, opened: AccountOpened) -> None:
    terms = {name: getattr(body, name) for name in ("name", "cash", "currency", "settings")}
    command = OpenAccount(account_id=opened.account_id, **terms)
    with gateway.context.unit_of_work() as uow:
        after = {**_json(command), "key_id": opened.key_id, "scopes": opened.scopes}
        _noted(command, principal, "open_account", after)(uow)
        add_key(uow.connection, opened.key_id, opened.secret_key, opened.account_id, opened.scopes, uow.now)


endpoints = (
    Endpoint("GET", "/api/account/settings", get_account_settings, TRADE),
    Endpoint("PUT", "/api/account/settings", put_account_settings, OPERATE, 202),
    Endpoint("POST", "/api/account/transfers", post_transfer, OPERATE),
    Endpoint("POST", "/api/account/reset", post_reset, OPERATE),
    Endpoint("GET", "/api/account/ledger", get_ledger, TRADE),
    Endpoint("GET", "/api/account/trades", get_trades, TRADE),
    Endpoint("POST", "/api/accounts", post_account, OPERATE, 201),
    Endpoint("GET", "/api/accounts", get_accounts, OPERATE),
)
