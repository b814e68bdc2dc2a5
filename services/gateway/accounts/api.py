"""``/api/account``: settings, funding and books of the key's account. ``/api/accounts``: all accounts."""

from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from services.gateway.accounts import queries
from services.gateway.accounts.books import CSV, LEDGER, TRADES, csv_file
from services.gateway.accounts.keys_api import check_admin_left, check_grant
from services.gateway.accounts.schemas import (
    AccountOpened,
    AccountPage,
    AccountQuery,
    DividendPage,
    DividendQuery,
    LedgerPage,
    LedgerQuery,
    NewAccount,
    Reset,
    ResetResult,
    RoundTripPage,
    RoundTripQuery,
    TradePage,
    TradeQuery,
    Transfer,
    Transferred,
)
from services.gateway.http.auth import (
    ADMIN,
    FUND,
    READ,
    Principal,
    add_key,
    new_key_id,
    new_secret,
    revoke_keys,
    valid_key_ids,
)
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Conflict, Invalid, NotFound, NotReady
from services.gateway.http.formats import AcceptHeaders, chosen_format
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import commands, watchlist_queries
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import (
    CLOSED,
    AccountSettings,
    CloseAccount,
    ConfigureAccount,
    MoveCash,
    OpenAccount,
    ResetAccount,
)
from shared.contracts.instruments import AddInstruments
from shared.settings import DEMO_ACCOUNT_ID


async def get_account_settings(gateway: Gateway, principal: Principal) -> AccountSettings:
    """Get the account's settings: margin, fill model and limits.

    Raises NotReady while the account is being opened.
    """
    found = await read(gateway, queries.settings, principal.account_id)
    if found is None:
        raise NotReady("the account is being opened; retry in a moment")
    return found


async def put_account_settings(gateway: Gateway, principal: Principal, body: AccountSettings) -> AccountSettings:
    """Replace the account's settings. A field that is left out gets its default.

    They apply to every later request for the account.
    """
    before = await get_account_settings(gateway, principal)
    command = ConfigureAccount(account_id=principal.account_id, settings=body)
    publish = commands.recorded(
        command, principal, "configure_account", str(command.account_id), _json(body), before=_json(before)
    )
    await commands.send(gateway, publish, (), account_id=None)
    return body


async def post_transfer(gateway: Gateway, principal: Principal, body: Transfer) -> Transferred:
    """Deposit or withdraw cash.

    Raises Forbidden if less cash is free, and Invalid if the `transfer_id` belongs to another amount.
    """
    account_id, transfer_id = principal.account_id, body.transfer_id or uuid4()
    booked = await read(gateway, queries.transfer, account_id, transfer_id)
    if booked is None:
        command = MoveCash(account_id=account_id, transfer_id=transfer_id, amount=body.amount)
        publish = commands.recorded(command, principal, "move_cash", str(account_id), _json(command))
        (answer,) = await commands.send(gateway, publish, [transfer_id], account_id=account_id)
        commands.check(answer)
        booked = await read(gateway, queries.transfer, account_id, transfer_id)
    if booked is not None and booked["cash"] != body.amount:
        raise Invalid("transfer_id: must be unique", field="transfer_id")
    return Transferred(transfer_id=transfer_id, amount=body.amount, booked_at=booked and booked["at"])


async def post_reset(gateway: Gateway, principal: Principal, body: Reset) -> ResetResult:
    """Reset the account to this cash. Open orders are canceled, positions are dropped, and the books are kept."""
    account_id, reset_id = principal.account_id, uuid4()
    command = ResetAccount(account_id=account_id, reset_id=reset_id, cash=body.cash)
    publish = commands.recorded(command, principal, "reset_account", str(account_id), _json(command))
    (answer,) = await commands.send(gateway, publish, [reset_id], account_id=account_id)
    commands.check(answer)
    row = await read(gateway, queries.transfer, account_id, reset_id)
    return ResetResult(
        reset_id=reset_id, cash=body.cash, generation=row and row["generation"], reset_at=row and row["at"]
    )


async def get_ledger(
    gateway: Gateway, principal: Principal, query: LedgerQuery, headers: AcceptHeaders
) -> Annotated[Response, LedgerPage]:
    """List the entries of the account's ledger, the newest first, as JSON or as CSV.

    Raises NotAcceptable for another media type.
    """
    if chosen_format(query.format, headers, "json", "csv") == "csv":
        query.check_whole()
        return await csv_file(gateway, principal.account_id, LEDGER, query.filters())
    pages = queries.pages_of(queries.LEDGER, principal.account_id)
    return _as_json(await page_of(gateway, pages, query, LedgerPage, ("id",)))


async def get_trades(
    gateway: Gateway, principal: Principal, query: TradeQuery, headers: AcceptHeaders
) -> Annotated[Response, TradePage]:
    """List the account's trades: its completed orders, the last completed first, as JSON or as CSV.

    Raises NotAcceptable for another media type.
    """
    if chosen_format(query.format, headers, "json", "csv") == "csv":
        query.check_whole()
        return await csv_file(gateway, principal.account_id, TRADES, query.filters())
    pages = queries.pages_of(queries.TRADES, principal.account_id)
    return _as_json(await page_of(gateway, pages, query, TradePage, ("completed_at", "order_id")))


def _as_json(page: BaseModel) -> Response:
    return Response(page.model_dump_json(by_alias=True), media_type="application/json", headers={"Vary": "Accept"})


async def get_round_trips(gateway: Gateway, principal: Principal, query: RoundTripQuery) -> RoundTripPage:
    """List the account's round trips with their realized profit or loss, the last closed first."""
    pages = queries.pages_of(queries.ROUND_TRIPS, principal.account_id)
    return await page_of(gateway, pages, query, RoundTripPage, ("closed_at", "id"))


async def get_dividends(gateway: Gateway, principal: Principal, query: DividendQuery) -> DividendPage:
    """List the account's dividends, owed and paid, the last ex-date first."""
    pages = queries.pages_of(queries.DIVIDENDS, principal.account_id)
    return await page_of(gateway, pages, query, DividendPage, ("ex_at", "action_id"))


async def get_accounts(gateway: Gateway, query: AccountQuery) -> AccountPage:
    """List all accounts, the newest first."""
    return await page_of(gateway, queries.ACCOUNTS.page, query, AccountPage, ("created_at", "id"))


async def post_account(gateway: Gateway, principal: Principal, body: NewAccount) -> AccountOpened:
    """Open an account with a key of its own. The account is ready for requests within moments.

    The pairs of its currency and those of the instruments are added where there are none, so that it can trade them.
    """
    check_grant(principal, body.scopes)
    opened = AccountOpened(
        account_id=uuid4(),
        name=body.name,
        currency=body.currency,
        key_id=new_key_id(),
        secret_key=new_secret(),
        scopes=sorted(set(body.scopes)),
    )
    terms = {name: getattr(body, name) for name in ("name", "cash", "currency", "settings")}
    command = OpenAccount(account_id=opened.account_id, **terms)
    after = {**_json(command), "key_id": opened.key_id, "scopes": opened.scopes}
    publish = commands.recorded(command, principal, "open_account", str(opened.account_id), after)
    pairs = AddInstruments(request_id=opened.account_id, instruments=(), pairs_with=(body.currency,))

    def commit() -> None:
        with gateway.context.unit_of_work() as uow:
            publish(uow)
            uow.publish(pairs)
            add_key(
                uow.connection,
                opened.key_id,
                opened.secret_key,
                opened.account_id,
                opened.scopes,
                uow.now,
                name=body.name,
            )

    await run_in_threadpool(commit)
    return opened


async def delete_account(gateway: Gateway, principal: Principal, account_id: UUID) -> None:
    """Close an account for good. Its keys and sessions end at once, its orders are canceled, its positions dropped.

    Its watchlists are removed. Its books stay. Closing it again changes nothing.

    Raises NotFound, and Conflict for the demo account, the own one and the one with the last admin key.
    """
    if account_id == DEMO_ACCOUNT_ID:
        raise Conflict("the demo account cannot be closed; reset it, or run without PAPERPROFIT_DEMO")
    if account_id == principal.account_id:
        raise Conflict("a key cannot close its own account; use an admin key of another account")
    status = await read(gateway, queries.status, account_id)
    if status is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    if status == CLOSED:
        return
    command = CloseAccount(account_id=account_id, closing_id=uuid4())
    publish = commands.recorded(command, principal, "close_account", str(account_id), None)

    def close(uow: UnitOfWork) -> None:
        check_admin_left(uow, valid_key_ids(uow.connection, account_id))
        revoke_keys(uow.connection, account_id, uow.now)
        watchlist_queries.remove_all(uow.connection, account_id)
        publish(uow)

    await commands.send(gateway, close, [command.closing_id], account_id=account_id)


def _json(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude={"account_id"})


endpoints = (
    Endpoint("GET", "/api/account/settings", get_account_settings, READ),
    Endpoint("PUT", "/api/account/settings", put_account_settings, FUND, 202),
    Endpoint("POST", "/api/account/transfers", post_transfer, FUND),
    Endpoint("POST", "/api/account/reset", post_reset, FUND),
    Endpoint("GET", "/api/account/ledger", get_ledger, READ, other_media=(CSV,), refusals=(404, 406)),
    Endpoint("GET", "/api/account/trades", get_trades, READ, other_media=(CSV,), refusals=(404, 406)),
    Endpoint("GET", "/api/account/round-trips", get_round_trips, READ),
    Endpoint("GET", "/api/account/dividends", get_dividends, READ),
    Endpoint("POST", "/api/accounts", post_account, ADMIN, 201),
    Endpoint("GET", "/api/accounts", get_accounts, ADMIN),
    Endpoint("DELETE", "/api/accounts/{account_id}", delete_account, ADMIN, 204, refusals=(409,)),
)
