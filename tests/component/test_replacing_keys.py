"""A lost or leaked key is replaced: the new one works, and the former stops in a gateway that runs."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.accounts.keys_api import check_admin_left
from services.gateway.http.auth import add_key, revoke
from services.gateway.http.errors import Conflict
from services.gateway.replace_key import CannotReplaceKey, replace_key
from services.gateway.service import prepare
from shared.settings import DEMO_ACCOUNT_ID
from shared.storage.migrate import ROOT
from tests.component.http_trader import KEY, open_account
from tests.support import eventually, rows, value

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
NEVER = "postgresql+psycopg://somebody:topsecret@127.0.0.1:9/nowhere"


@pytest.fixture
def client(system: System) -> Iterator[TestClient]:
    with TestClient(system.app()) as client:
        eventually(lambda: client.get("/v2/account", headers=KEY).status_code == 200)
        yield client


def command(url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """``python -m services.gateway key``, as ``docker compose exec gateway`` runs it."""
    return subprocess.run(
        [sys.executable, "-m", "services.gateway", "key", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PAPERPROFIT_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def printed_key(output: str) -> dict[str, str]:
    lines = {line[:15].strip(): line[15:].split()[0] for line in output.splitlines()}
    return {"APCA-API-KEY-ID": lines["key id"], "APCA-API-SECRET-KEY": lines["secret key"]}


def status(client: TestClient, key: dict[str, str], path: str = "/v2/account") -> int:
    return client.get(path, headers=key).status_code


def test_the_command_replaces_the_demo_key_in_a_running_gateway(
    system: System, client: TestClient, urls: dict[str, str]
) -> None:
    """When it has ended, the former key is refused at once, with no wait, and the new one trades and operates."""
    ended = command(urls["gateway"])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert status(client, KEY) == 401
    assert "replaced     TESTKEY, which no longer works" in ended.stdout
    new = printed_key(ended.stdout)
    assert (status(client, new), status(client, new, "/api/accounts")) == (200, 200)
    (action,) = rows(
        system.contexts["gateway"].engine, "SELECT * FROM jobs.operator_actions WHERE what = 'replace_key'"
    )
    assert (action.subject, action.after) == (str(DEMO_ACCOUNT_ID), {"key_id": new["APCA-API-KEY-ID"]})
    assert new["APCA-API-SECRET-KEY"] not in str(action)


def test_another_accounts_key_is_replaced_by_its_id_and_no_other_key_is(
    system: System, client: TestClient, urls: dict[str, str]
) -> None:
    """The new key may do what the former could."""
    trader = open_account(system, client)
    ended = command(urls["gateway"], str(trader.account_id))
    assert ended.returncode == 0, ended.stderr
    assert (status(client, trader.key), status(client, KEY)) == (401, 200)
    new = printed_key(ended.stdout)
    assert client.get("/v2/account", headers=new).json()["id"] == str(trader.account_id)


def test_browsers_are_signed_out(system: System, client: TestClient) -> None:
    """A session of the former key is worth nothing, also one that was opened before."""
    signed_in = client.post("/api/session", json={"key_id": "TESTKEY", "secret_key": "test-secret-key"})
    assert (signed_in.status_code, client.get("/v2/account").status_code) == (200, 200)
    replace_key(system.contexts["gateway"], DEMO_ACCOUNT_ID)
    assert client.get("/v2/account").status_code == 401


def test_a_restart_does_not_bring_the_replaced_key_of_the_environment_back(system: System) -> None:
    """The start says which key is valid instead."""
    context = system.contexts["gateway"]
    assert [key.key_id for key in prepare(context, system.settings)] == ["TESTKEY"]
    _, new = replace_key(context, DEMO_ACCOUNT_ID)
    assert [(key.key_id, key.secret) for key in prepare(context, system.settings)] == [(new.key_id, None)]
    again = system.settings.model_copy(update={"api_key_id": "NEWID"})
    assert [key.key_id for key in prepare(context, again)] == [new.key_id, "NEWID"]


def test_an_account_without_a_key_is_refused_and_nothing_changes(client: TestClient, urls: dict[str, str]) -> None:
    unknown = uuid4()
    ended = command(urls["gateway"], str(unknown))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"gateway: account {unknown} has no key; GET /api/accounts lists the accounts\n"
    assert status(client, KEY) == 200


def test_a_malformed_account_id_is_named(urls: dict[str, str]) -> None:
    ended = command(urls["gateway"], "demo")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "'demo' is not an account id; GET /api/accounts lists them" in ended.stderr


def test_a_database_that_is_away_is_one_line_without_its_password() -> None:
    ended = command(NEVER)
    assert ended.returncode == 1
    assert "gateway: no database for 5 s" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "topsecret" not in ended.stdout + ended.stderr


def test_a_database_without_tables_is_said_to_have_none(urls: dict[str, str], postgres: str) -> None:
    empty = make_url(postgres).set(database="postgres").render_as_string(hide_password=False)
    ended = command(empty)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "gateway: the database has no accounts yet; start PaperProfit first\n"
    del urls


def test_a_key_that_was_rotated_keeps_its_secret_at_a_restart(system: System, client: TestClient) -> None:
    """The environment still has the old one, which may have leaked. Until then it decides the secret."""
    context = system.contexts["gateway"]
    changed = system.settings.model_copy(update={"api_secret_key": SecretStr("another-secret")})
    browser = TestClient(client.app)
    browser.post("/api/session", json={"key_id": "TESTKEY", "secret_key": "test-secret-key"})
    prepare(context, system.settings)
    assert browser.get("/v2/account").status_code == 200  # nothing changed, so nobody is signed out
    prepare(context, changed)
    other = {**KEY, "APCA-API-SECRET-KEY": "another-secret"}
    assert (browser.get("/v2/account").status_code, status(client, other)) == (401, 200)
    rotated = client.post("/api/keys/TESTKEY/rotate", headers=other).json()
    prepare(context, changed)
    new = {**KEY, "APCA-API-SECRET-KEY": rotated["secret_key"]}
    eventually(lambda: (status(client, other), status(client, new)) == (401, 200))


def test_the_last_admin_key_is_not_revoked(system: System, client: TestClient) -> None:
    """So nobody is locked out. Another admin key frees it, and an id that was revoked is never valid again."""
    trader = open_account(system, client)
    refused = client.delete("/api/keys/TESTKEY", headers=KEY)
    assert (refused.status_code, "make another one first" in refused.json()["detail"]) == (409, True)
    path = f"/api/accounts/{trader.account_id}/keys"
    made = client.post(path, headers=KEY, json={"name": "second", "scopes": ["admin"]}).json()
    second = {"APCA-API-KEY-ID": made["key_id"], "APCA-API-SECRET-KEY": made["secret_key"]}
    assert client.delete("/api/keys/TESTKEY", headers=second).status_code == 204
    assert client.delete(f"/api/keys/{made['key_id']}", headers=second).status_code == 409
    eventually(lambda: status(client, KEY) == 401)
    (made_anew,) = prepare(system.contexts["gateway"], system.settings)
    assert (status(client, KEY), status(client, second)) == (401, 200)
    assert status(client, {"APCA-API-KEY-ID": made_anew.key_id, "APCA-API-SECRET-KEY": str(made_anew.secret)}) == 200


def test_two_admins_cannot_revoke_each_other_at_once(system: System) -> None:
    """The second waits for the first, and finds that its key is the last one."""
    context = system.contexts["gateway"]
    with context.unit_of_work() as uow:
        add_key(uow.connection, "SECOND", "secret", DEMO_ACCOUNT_ID, ["admin"], uow.now)

    def revoke_second() -> None:
        with context.unit_of_work() as other:
            check_admin_left(other, ["SECOND"])

    with ThreadPoolExecutor(1) as pool:
        with context.unit_of_work() as uow:
            check_admin_left(uow, ["TESTKEY"])
            waiting = pool.submit(revoke_second)
            eventually(lambda: value(context.engine, _WAITING) == 1)
            revoke(uow.connection, ["TESTKEY"], uow.now)
        with pytest.raises(Conflict, match="last key"):
            waiting.result(timeout=10)


def test_two_replacements_leave_one_valid_key(system: System) -> None:
    context = system.contexts["gateway"]
    replace_key(context, DEMO_ACCOUNT_ID)
    _, second = replace_key(context, DEMO_ACCOUNT_ID)
    valid = rows(context.engine, "SELECT key_id FROM gateway.api_keys WHERE revoked_at IS NULL")
    assert [row.key_id for row in valid] == [second.key_id]
    with pytest.raises(CannotReplaceKey):
        replace_key(context, uuid4())
