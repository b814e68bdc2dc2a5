"""``/api/keys``: keys are made, listed, named, rotated and revoked, each action on record."""

from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from tests.component.http_trader import KEY, Trader, open_account
from tests.component.job_rows import actions, engine_of
from tests.support import eventually, rows


@pytest.fixture
def owner(market: System, visitor: TestClient) -> Trader:
    """A trader whose keys may stop in the test."""
    return open_account(market, visitor)


def asked(trader: Trader, method: str, path: str, key: dict[str, str] = KEY, /, **body: Any) -> tuple[int, Any]:
    """Send a request, by default as an admin. Returns the status and the JSON."""
    answer = trader.client.request(method, path, headers=key, json=body or None)
    return answer.status_code, answer.json() if answer.content else None


def made(trader: Trader, *scopes: str, name: str = "bot") -> dict[str, str]:
    """Make a key for the trader's account."""
    status, key = asked(trader, "POST", f"/api/accounts/{trader.account_id}/keys", name=name, scopes=scopes)
    assert status == 201
    return {"APCA-API-KEY-ID": key["key_id"], "APCA-API-SECRET-KEY": key["secret_key"]}


def listed(trader: Trader) -> Any:
    return asked(trader, "GET", f"/api/accounts/{trader.account_id}/keys")[1]["items"]


def works(trader: Trader, key: dict[str, str]) -> bool:
    return trader.client.get("/v2/account", headers=key).status_code == 200


def assert_stops(trader: Trader, key: dict[str, str]) -> None:
    eventually(lambda: not works(trader, key), seconds=2)


def test_a_key_is_made_and_listed_without_its_secret(market: System, trader: Trader) -> None:
    """The secret is shown once: neither the list, nor the record, nor the database has it."""
    path = f"/api/accounts/{trader.account_id}/keys"
    status, key = asked(trader, "POST", path, name="bot", scopes=["trade", "fund"])
    assert (status, key["name"], key["scopes"]) == (201, "bot", ["fund", "trade"])
    newest, first = listed(trader)
    assert (newest["key_id"], newest["name"], newest["scopes"]) == (key["key_id"], "bot", ["fund", "trade"])
    assert (newest["last_used_at"], newest["revoked_at"], first["name"]) == (None, None, "test")
    assert set(newest) == {"key_id", "name", "account_id", "scopes", "created_at", "last_used_at", "revoked_at"}
    page = asked(trader, "GET", f"{path}?limit=1")[1]
    assert asked(trader, "GET", f"{path}?limit=1&cursor={page['next']}")[1]["items"] == [first]
    stored = rows(engine_of(market), "SELECT * FROM gateway.api_keys WHERE key_id = :id", id=key["key_id"])
    assert key["secret_key"] not in f"{stored}{actions(market)}"
    assert [what for _, what, subject, *_ in actions(market) if subject == key["key_id"]] == ["make_key"]


def test_an_admin_makes_and_lists_keys_of_the_own_account(trader: Trader) -> None:
    admin = made(trader, "admin")
    status, key = asked(trader, "POST", "/api/keys", admin, name="mine", scopes=["read"])
    assert (status, key["account_id"]) == (201, str(trader.account_id))
    assert asked(trader, "GET", "/api/keys", admin)[1]["items"] == listed(trader)
    assert [each["name"] for each in listed(trader)] == ["mine", "bot", "test"]


def test_the_last_use_is_known(trader: Trader) -> None:
    """It is written apart from the request, and once a minute."""
    key = made(trader, "read")
    assert works(trader, key)
    used = eventually(lambda: listed(trader)[0]["last_used_at"])
    assert works(trader, key)
    assert listed(trader)[0]["last_used_at"] == used


def test_a_rotated_key_has_another_secret_at_once(trader: Trader) -> None:
    """The old one stops within a second. A key rotates itself, and an admin every key."""
    bot = made(trader, "trade")
    for by in (bot, KEY):
        former = dict(bot)
        status, key = asked(trader, "POST", f"/api/keys/{bot['APCA-API-KEY-ID']}/rotate", by)
        bot["APCA-API-SECRET-KEY"] = key["secret_key"]
        assert (status, works(trader, bot)) == (200, True)
        assert_stops(trader, former)
    done = [who for who, what, subject, *_ in actions(trader.system) if what == "rotate_key" and subject in str(bot)]
    assert done == [bot["APCA-API-KEY-ID"], "TESTKEY"]


def test_a_revoked_key_stops_for_good(trader: Trader) -> None:
    """It stays on the list, and can be neither rotated nor renamed. A key revokes itself, and an admin every key."""
    for by in (None, KEY):
        bot = made(trader, "trade")
        path = f"/api/keys/{bot['APCA-API-KEY-ID']}"
        assert asked(trader, "DELETE", path, by or bot) == (204, None)
        assert_stops(trader, bot)
        assert listed(trader)[0]["revoked_at"]
        changes: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", f"{path}/rotate", {}),
            ("PATCH", path, {"name": "x"}),
            ("DELETE", path, {}),
        ]
        for method, of_key, body in changes:
            status, problem = asked(trader, method, of_key, **body)
            assert (status, problem["detail"].endswith("is revoked; make another one")) == (409, True)
        assert not works(trader, bot)


def test_a_key_is_renamed(trader: Trader) -> None:
    bot = made(trader, "trade")
    status, key = asked(trader, "PATCH", f"/api/keys/{bot['APCA-API-KEY-ID']}", name="laptop")
    assert (status, key["name"], listed(trader)[0]["name"]) == (200, "laptop", "laptop")


def test_a_key_that_is_no_admin_changes_no_other_key(trader: Trader) -> None:
    """Nor learns if it exists."""
    bot, other = made(trader, "read", "trade", "fund", "operate"), made(trader, "trade")
    for key_id in (other["APCA-API-KEY-ID"], "TESTKEY", "nobody"):
        for method, path in (("POST", f"/api/keys/{key_id}/rotate"), ("DELETE", f"/api/keys/{key_id}")):
            assert asked(trader, method, path, bot)[0] == 403
    assert works(trader, other)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/keys/nobody/rotate", {}, 404),
        ("PATCH", "/api/keys/nobody", {"name": "x"}, 404),
        ("DELETE", "/api/keys/nobody", {}, 404),
        ("POST", f"/api/accounts/{UUID(int=7)}/keys", {"name": "x", "scopes": ["read"]}, 404),
        ("POST", "/api/keys", {"name": "", "scopes": ["read"]}, 422),
        ("POST", "/api/keys", {"name": "x" * 101, "scopes": ["read"]}, 422),
        ("POST", "/api/keys", {"name": "x", "scopes": []}, 422),
        ("POST", "/api/keys", {"name": "x", "scopes": ["owner"]}, 422),
        ("PATCH", "/api/keys/TESTKEY", {"name": "a\n"}, 422),
    ],
)
def test_a_wrong_request_changes_no_key(
    market: System, visitor: TestClient, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    before = rows(engine_of(market), "SELECT key_id, name, secret_hash, revoked_at FROM gateway.api_keys ORDER BY 1")
    assert visitor.request(method, path, json=body or None, headers=KEY).status_code == status
    after = rows(engine_of(market), "SELECT key_id, name, secret_hash, revoked_at FROM gateway.api_keys ORDER BY 1")
    assert after == before
