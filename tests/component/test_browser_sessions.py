"""Browser sessions: their cookie, requests that pages of other origins make with it, and when they end."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.http.sessions import SESSIONS_PER_KEY, Sessions
from tests.component.http_trader import KEY, ORDER, Trader, open_account
from tests.component.job_rows import engine_of
from tests.support import eventually, rows, value

OWN = {"Sec-Fetch-Site": "same-origin"}
#: Requests of pages of other origins, as browsers send them. Another port of a host is the same site.
FOREIGN: dict[str, dict[str, str]] = {
    "another site": {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
    "another port": {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver:81"},
    "typed address": {"Sec-Fetch-Site": "none"},
    "old browser": {"Origin": "http://evil.example"},
    "old browser, another port": {"Origin": "http://testserver:8001"},
    "a sandbox": {"Origin": "null"},
    "not a URL": {"Origin": "http://[testserver"},
    "a longer host": {"Origin": "http://testserver.evil.example"},
    "neither header": {},
}


def credentials(key: dict[str, str]) -> dict[str, str]:
    return {"key_id": key["APCA-API-KEY-ID"], "secret_key": key["APCA-API-SECRET-KEY"]}


@pytest.fixture
def browser(visitor: TestClient, trader: Trader) -> Iterator[TestClient]:
    """A browser with the session of a trader."""
    assert visitor.post("/api/session", json=credentials(trader.key)).status_code == 200
    yield visitor
    visitor.cookies.clear()


@pytest.fixture
def owner(market: System, visitor: TestClient) -> Trader:
    """A trader whose key may stop in the test."""
    return open_account(market, visitor)


def cookie_name(browser: TestClient) -> str:
    (name,) = browser.cookies
    return name


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_page_of_another_origin_changes_nothing_with_the_cookie(
    trader: Trader, browser: TestClient, headers: dict[str, str]
) -> None:
    """Every unsafe method is a 403 that says what to do, and the user's own page goes on."""
    resting = trader.order(type="limit", limit_price="50", time_in_force="gtc")
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/v2/orders", ORDER),
        ("PATCH", f"/v2/orders/{resting['id']}", {"qty": "2"}),
        ("DELETE", "/v2/orders", None),
        ("PUT", "/api/account/settings", {}),
        ("POST", "/api/account/reset", {"cash": "1"}),
        ("DELETE", "/api/session", None),
    ]
    for method, path, body in asked:
        answer = browser.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403, (method, path)
        assert "Sec-Fetch-Site: same-origin" in answer.text
    assert [each["id"] for each in trader.get("/orders", status="all")] == [resting["id"]]
    assert browser.get("/api/session", headers=OWN).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [OWN, {"Origin": "http://testserver"}, {"Origin": "http://TESTSERVER:80"}, {"Origin": "https://testserver"}],
)
def test_the_page_itself_trades(trader: Trader, browser: TestClient, headers: dict[str, str]) -> None:
    """Also behind a proxy that ends TLS, where the browser's scheme is another one, and where Origin names the port."""
    assert browser.post("/v2/orders", json=ORDER, headers=headers).status_code == 200
    assert len(trader.get("/orders", status="all")) == 1


@pytest.mark.parametrize("path", ["/v2/account", "/api/stream", "/api/openapi.json"])
@pytest.mark.parametrize("headers", [FOREIGN["another site"], FOREIGN["another port"], FOREIGN["old browser"]])
def test_a_page_of_another_origin_reads_nothing_with_the_cookie(
    browser: TestClient, path: str, headers: dict[str, str]
) -> None:
    assert browser.get(path, headers=headers).status_code == 403


def test_a_typed_address_and_a_browser_without_these_headers_read(browser: TestClient) -> None:
    for headers in ({"Sec-Fetch-Site": "none"}, {}):
        assert browser.get("/v2/account", headers=headers).status_code == 200


def test_a_key_in_the_headers_needs_no_origin(trader: Trader, visitor: TestClient) -> None:
    """Clients of other sites and scripts send it on purpose, in any content type."""
    body = '{"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}'
    headers = {**trader.key, **FOREIGN["another site"], "Content-Type": "text/plain"}
    assert visitor.post("/v2/orders", content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=UTF-8", 200),
        ('application/json;charset="utf-8"', 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain; application/json", 415),
        ("application/json; charset=utf-16", 415),
        ("", 415),
    ],
)
def test_a_body_with_the_cookie_must_be_json(
    trader: Trader, browser: TestClient, content_type: str, status: int
) -> None:
    """A form can send the others to any site. The same holds for signing in."""
    body = b'{"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}'
    headers = {**OWN, "Content-Type": content_type}
    assert browser.post("/v2/orders", content=body, headers=headers).status_code == status
    secret = f'{{"key_id": "{trader.key["APCA-API-KEY-ID"]}", "secret_key": "{trader.key["APCA-API-SECRET-KEY"]}"}}'
    assert browser.post("/api/session", content=secret, headers=headers).status_code == status


@pytest.mark.parametrize("headers", [each for each in FOREIGN.values() if each])
def test_another_site_does_not_sign_a_browser_in(trader: Trader, visitor: TestClient, headers: dict[str, str]) -> None:
    """Else the user would trade on an account of the attacker."""
    answer = visitor.post("/api/session", json=credentials(trader.key), headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_the_cookie_is_this_instance_s_own(market: System, browser: TestClient) -> None:
    """Cookies ignore ports, so another instance on the same host has a cookie of another name."""
    name = cookie_name(browser)
    other = Sessions(engine_of(market))
    assert other.cookie(secure=False) == name
    instance = value(engine_of(market), "SELECT id FROM gateway.instance")
    assert name == f"paperprofit_{instance.hex[:12]}"
    assert other.cookie(secure=True) == f"__Host-{name}"
    assert browser.get("/api/openapi.json").json()["components"]["securitySchemes"]["session"]["name"] == name


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_cookie_is_closed_to_scripts_and_other_hosts(trader: Trader, visitor: TestClient, scheme: str) -> None:
    """By https browsers take it only with Secure and for the whole host, and signing out removes it again."""
    site = f"{scheme}://testserver"
    answer = visitor.post(f"{site}/api/session", json=credentials(trader.key), headers={"Origin": site})
    (name,) = visitor.cookies
    kept = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= kept
    assert ("secure" in kept, name.startswith("__Host-")) == ((scheme == "https"),) * 2
    assert not any(part.startswith("domain") for part in kept)
    assert visitor.get(f"{site}/v2/account").status_code == 200
    assert visitor.delete(f"{site}/api/session", headers={"Origin": site}).status_code == 204
    assert list(visitor.cookies) == []


def test_a_session_by_https_is_not_used_from_a_page_by_http(trader: Trader, visitor: TestClient) -> None:
    """The network could have written that page."""
    visitor.post("https://testserver/api/session", json=credentials(trader.key), headers=OWN)
    answer = visitor.post("https://testserver/v2/orders", json=ORDER, headers={"Origin": "http://testserver"})
    visitor.cookies.clear()
    assert answer.status_code == 403


def test_the_session_says_what_it_may_do(trader: Trader, browser: TestClient) -> None:
    assert browser.get("/api/session").json() == {
        "key_id": trader.key["APCA-API-KEY-ID"],
        "account_id": str(trader.account_id),
        "scopes": ["operate", "trade"],
        "operator": True,
    }


def test_signing_in_again_ends_the_browser_s_former_session(trader: Trader, browser: TestClient) -> None:
    former = dict(browser.cookies)
    assert browser.post("/api/session", json=credentials(trader.key), headers=OWN).status_code == 200
    assert browser.get("/v2/account").status_code == 200
    assert browser.get("/v2/account", headers=as_header(former)).status_code == 401


def test_the_oldest_of_too_many_sessions_ends(market: System, trader: Trader, visitor: TestClient) -> None:
    """A stolen key cannot fill the table, and the newest browser is signed in."""
    opened = []
    for _ in range(SESSIONS_PER_KEY + 1):
        visitor.post("/api/session", json=credentials(trader.key))
        opened.append(as_header(dict(visitor.cookies)))
        visitor.cookies.clear()
    statuses = [visitor.get("/v2/account", headers=opened[place]).status_code for place in (0, 1, -1)]
    assert statuses == [401, 200, 200]
    count = "SELECT count(*) FROM gateway.sessions WHERE key_id = :key"
    assert value(engine_of(market), count, key=trader.key["APCA-API-KEY-ID"]) == SESSIONS_PER_KEY


def test_a_secret_that_was_just_rotated_opens_no_session(market: System, owner: Trader) -> None:
    """A gateway may hold the old secret for right for a moment. No session outlives that moment."""
    (key,) = rows(engine_of(market), "SELECT * FROM gateway.api_keys WHERE account_id = :a", a=owner.account_id)
    sessions, now = Sessions(engine_of(market)), market.contexts["gateway"].clock()
    assert sessions.open(key.key_id, bytes(key.secret_hash), {}, now)
    rotated(owner)
    assert sessions.open(key.key_id, bytes(key.secret_hash), {}, now) is None


def as_header(cookies: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={token}" for name, token in cookies.items())}


# When streams end


def signed_out(trader: Trader) -> None:
    assert trader.client.delete("/api/session", headers=OWN).status_code == 204


def expired(trader: Trader) -> None:
    with engine_of(trader.system).begin() as connection:
        connection.exec_driver_sql("UPDATE gateway.sessions SET expires_at = now()")


def rotated(trader: Trader) -> None:
    answer = trader.ask("POST", f"/api/keys/{trader.key['APCA-API-KEY-ID']}/rotate")
    assert answer.status_code == 200
    trader.key["APCA-API-SECRET-KEY"] = answer.json()["secret_key"]


def revoked(trader: Trader) -> None:
    assert trader.client.delete(f"/api/keys/{trader.key['APCA-API-KEY-ID']}", headers=KEY).status_code == 204


def closed(trader: Trader) -> None:
    assert trader.client.delete(f"/api/accounts/{trader.account_id}", headers=KEY).status_code == 204


@pytest.fixture
def streaming() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("end", [signed_out, expired, rotated, revoked, closed])
def test_an_open_stream_ends_within_a_second_of_its_session(
    owner: Trader, streaming: ThreadPoolExecutor, end: Callable[[Trader], None]
) -> None:
    """At sign-out and expiry, and when the key is rotated, revoked or its account closed."""
    assert owner.client.post("/api/session", json=credentials(owner.key)).status_code == 200
    former = as_header(dict(owner.client.cookies))
    stream = opened_stream(owner, streaming, former)
    ends_soon(stream, end, owner)
    owner.client.cookies.clear()
    assert owner.client.get("/api/session", headers=former).status_code == 401


@pytest.mark.parametrize("end", [rotated, revoked, closed])
def test_an_open_stream_ends_within_a_second_of_its_key(
    owner: Trader, streaming: ThreadPoolExecutor, end: Callable[[Trader], None]
) -> None:
    """A stream that was opened with the key in its headers ends, too, and the key is refused."""
    former = dict(owner.key)
    stream = opened_stream(owner, streaming, former)
    ends_soon(stream, end, owner)
    assert owner.client.get("/v2/account", headers=former).status_code == 401


def opened_stream(owner: Trader, streaming: ThreadPoolExecutor, headers: dict[str, str]) -> "Future[httpx2.Response]":
    """Open a stream on a thread, and return the response that it gets at its end."""
    stream = streaming.submit(TestClient.request, owner.client, "GET", "/api/stream", headers=headers)
    eventually(lambda: any(each.account_id == owner.account_id for each in tuple(owner.system.hub._streams)))
    return stream


def ends_soon(stream: "Future[httpx2.Response]", end: Callable[[Trader], None], owner: Trader) -> None:
    end(owner)
    since = time.monotonic()
    answer = stream.result(timeout=15)
    assert time.monotonic() - since < 2.5  # on a machine that does much else
    assert answer.text.rstrip().endswith("event: signed_out\r\ndata: {}")
