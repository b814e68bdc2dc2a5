"""``/api/keys``: make, name, rotate and revoke keys. An admin does so for every account, a key for itself."""

from collections.abc import Collection
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from services.gateway.accounts import queries
from services.gateway.accounts.schemas import KeyItem, KeyName, KeyPage, KeyQuery, KeySecret, NewKey
from services.gateway.http.auth import (
    ADMIN,
    READ,
    Principal,
    add_key,
    lock_admin_keys,
    lock_key,
    new_key_id,
    new_secret,
    rename,
    revoke,
    set_secret,
)
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Conflict, Forbidden, NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Word
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import CLOSED
from shared.jobs.admin import control
from shared.storage.keyset import Record, record


async def get_keys(gateway: Gateway, principal: Principal, query: KeyQuery) -> KeyPage:
    """List the keys of the own account, the newest first."""
    return await get_account_keys(gateway, principal.account_id, query)


async def get_account_keys(gateway: Gateway, account_id: UUID, query: KeyQuery) -> KeyPage:
    """List the keys of an account, the newest first."""
    return await page_of(gateway, queries.pages_of(queries.KEYS, account_id), query, KeyPage, ("created_at", "key_id"))


async def post_key(gateway: Gateway, principal: Principal, body: NewKey) -> KeySecret:
    """Make a key for the own account. Its secret is shown once."""
    return await post_account_key(gateway, principal, principal.account_id, body)


async def post_account_key(gateway: Gateway, principal: Principal, account_id: UUID, body: NewKey) -> KeySecret:
    """Make a key for an account. Its secret is shown once.

    Raises NotFound if there is no such account, and Conflict if it is closed.
    """
    check_grant(principal, body.scopes)
    status = await read(gateway, queries.status, account_id)
    if status is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    if status == CLOSED:
        raise Conflict(f"account {account_id} is closed; open another one")
    made = KeySecret(
        key_id=new_key_id(),
        secret_key=new_secret(),
        name=body.name,
        account_id=account_id,
        scopes=sorted(set(body.scopes)),
    )

    def commit() -> None:
        with gateway.context.unit_of_work() as uow:
            add_key(uow.connection, made.key_id, made.secret_key, account_id, made.scopes, uow.now, made.name)
            after = made.model_dump(mode="json", exclude={"secret_key"})
            control.record_action(uow, principal.key_id, "make_key", made.key_id, None, after)

    await run_in_threadpool(commit)
    return made


async def post_rotate(gateway: Gateway, principal: Principal, key_id: Word) -> KeySecret:
    """Give a key another secret, which is shown once. The old one stops within a second, and its sessions end.

    A key may rotate itself. Another key needs the scope `admin`.

    Raises NotFound, and Conflict if it is revoked.
    """
    secret = new_secret()

    def commit() -> Record:
        with gateway.context.unit_of_work() as uow:
            key = _lock_valid(uow, key_id)
            set_secret(uow.connection, key_id, secret)
            control.record_action(uow, principal.key_id, "rotate_key", key_id, None, None)
        return key

    _check_own(principal, key_id)
    key = await run_in_threadpool(commit)
    shown = {name: key[name] for name in ("key_id", "name", "account_id", "scopes")}
    return KeySecret(**shown, secret_key=secret)


async def patch_key(gateway: Gateway, principal: Principal, key_id: Word, body: KeyName) -> KeyItem:
    """Rename a key.

    Raises NotFound, and Conflict if it is revoked.
    """

    def commit() -> Record:
        with gateway.context.unit_of_work() as uow:
            key = _lock_valid(uow, key_id)
            rename(uow.connection, key_id, body.name)
            before, after = {"name": key["name"]}, {"name": body.name}
            control.record_action(uow, principal.key_id, "rename_key", key_id, before, after)
        return key

    return KeyItem.model_validate({**await run_in_threadpool(commit), "name": body.name})


async def delete_key(gateway: Gateway, principal: Principal, key_id: Word) -> None:
    """Revoke a key. It stops within a second, its sessions end, and its id is never valid again.

    A key may revoke itself. Another key needs the scope `admin`. The last admin key cannot be revoked.

    Raises NotFound, and Conflict if it is revoked or the last one.
    """

    def commit() -> None:
        with gateway.context.unit_of_work() as uow:
            check_admin_left(uow, {key_id})
            _lock_valid(uow, key_id)
            revoke(uow.connection, [key_id], uow.now)
            control.record_action(uow, principal.key_id, "revoke_key", key_id, None, None)

    _check_own(principal, key_id)
    await run_in_threadpool(commit)


def check_grant(principal: Principal, scopes: Collection[str]) -> None:
    """Raise Forbidden if the principal lacks one of the scopes that it grants."""
    for scope in scopes:
        if not principal.may(scope):
            raise Forbidden(f"this key lacks the scope {scope!r}, so it cannot grant it; leave it out of scopes")


def check_admin_left(uow: UnitOfWork, revoked: Collection[str]) -> None:
    """Lock the admin keys. Raise Conflict if none would be left once these keys are revoked."""
    admins = lock_admin_keys(uow.connection)
    if admins and admins <= set(revoked):
        raise Conflict("this is the last key with the scope admin; make another one first, or replace it: make key")


def _check_own(principal: Principal, key_id: str) -> None:
    if key_id != principal.key_id and not principal.may(ADMIN):
        raise Forbidden(f"this key lacks the scope {ADMIN!r}: it may rotate and revoke only itself")


def _lock_valid(uow: UnitOfWork, key_id: str) -> Record:
    """Lock the key, and return its row. Raises NotFound, and Conflict if it is revoked."""
    row = lock_key(uow.connection, key_id)
    if row is None:
        raise NotFound(f"there is no key {key_id}; GET /api/keys lists those of an account")
    if row.revoked_at is not None:
        raise Conflict(f"key {key_id} is revoked; make another one")
    return record(row)


endpoints = (
    Endpoint("GET", "/api/keys", get_keys, ADMIN),
    Endpoint("POST", "/api/keys", post_key, ADMIN, 201, refusals=(404, 409)),
    Endpoint("PATCH", "/api/keys/{key_id}", patch_key, ADMIN, refusals=(409,)),
    Endpoint("DELETE", "/api/keys/{key_id}", delete_key, READ, 204, refusals=(409,)),
    Endpoint("POST", "/api/keys/{key_id}/rotate", post_rotate, READ, refusals=(409,)),
    Endpoint("GET", "/api/accounts/{account_id}/keys", get_account_keys, ADMIN),
    Endpoint("POST", "/api/accounts/{account_id}/keys", post_account_key, ADMIN, 201, refusals=(409,)),
)
