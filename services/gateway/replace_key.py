"""``python -m services.gateway key``: replaces an account's key, for a secret that was lost or has leaked."""

import argparse
import sys
import time
from collections.abc import Sequence
from uuid import UUID

from psycopg.errors import UndefinedTable
from sqlalchemy.exc import DBAPIError

from services.gateway.http.auth import (
    REMEMBER_SECONDS,
    Key,
    add_key,
    new_key_id,
    new_secret,
    revoke_keys,
    valid_key_ids,
)
from services.gateway.settings import Settings
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.admin import control
from shared.observability.logs import configure_logs
from shared.service import DatabaseUnavailable, make_context, wait_for_database
from shared.settings import DEMO_ACCOUNT_ID, InvalidSettings, load
from shared.storage.errors import is_transient

DATABASE_WAIT_SECONDS = 5


class CannotReplaceKey(Exception):
    """The key was not replaced. The message says why and what to do."""


def main(arguments: Sequence[str]) -> None:
    account_id = account_of(arguments, prog="python -m services.gateway key")
    try:
        settings = load(Settings)
        configure_logs(settings)
        context = make_context("gateway", settings)
        wait_for_database(context, seconds=DATABASE_WAIT_SECONDS)
        replace_and_show(context, account_id)
    except (InvalidSettings, DatabaseUnavailable, CannotReplaceKey) as error:
        sys.exit(f"gateway: {error}")


def account_of(arguments: Sequence[str], prog: str) -> UUID:
    """The account that the command names. Exits with 2 where the arguments are wrong."""
    parser = argparse.ArgumentParser(prog=prog, description="Replace an account's key, and show the new one once.")
    parser.add_argument("account", nargs="?", help="the account's id (default: the demo account)")
    given: str | None = parser.parse_args(arguments).account
    try:
        return DEMO_ACCOUNT_ID if given is None else UUID(given)
    except ValueError:
        parser.error(f"{given!r} is not an account id; GET /api/accounts lists them")


def replace_and_show(context: ServiceContext, account_id: UUID) -> None:
    """Replace the account's key, and print the new one when the old one has stopped working in every gateway.

    Raises CannotReplaceKey.
    """
    try:
        former, key = replace_key(context, account_id)
    except DBAPIError as error:
        if isinstance(error.orig, UndefinedTable):
            raise CannotReplaceKey("the database has no accounts yet; start PaperProfit first") from None
        if is_transient(error):
            raise CannotReplaceKey("the database does not answer; no key was replaced, try again") from None
        raise
    time.sleep(REMEMBER_SECONDS)
    print(f"  key id       {key.key_id}")  # noqa: T201
    print(f"  secret key   {key.secret}   (shown this once; keep it)")  # noqa: T201
    print(f"  replaced     {', '.join(former)}, which no longer works", flush=True)  # noqa: T201


def replace_key(context: ServiceContext, account_id: UUID) -> tuple[list[str], Key]:
    """The ids of the account's former keys, and the key that replaces them. Raises CannotReplaceKey."""
    key = Key(new_key_id(), secret := new_secret())
    with context.unit_of_work() as uow:
        former = valid_key_ids(uow.connection, account_id)
        if not former:
            raise CannotReplaceKey(f"account {account_id} has no key; GET /api/accounts lists the accounts")
        scopes = revoke_keys(uow.connection, account_id, uow.now)
        add_key(uow.connection, key.key_id, secret, account_id, scopes, uow.now, name="command line")
        control.record_action(
            uow, "command line", "replace_key", str(account_id), {"key_ids": former}, {"key_id": key.key_id}
        )
    return former, key
