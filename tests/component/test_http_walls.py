"""The gateway on a real server: guessers, slow clients, clients that go away, and what an error may say."""

import json
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.app import ENDPOINTS, make_app
from services.gateway.http.auth import KeyRing, Principal
from services.gateway.http.middleware import HEADERS
from tests.component.http_socket import ask, connected, received, served
from tests.component.http_trader import KEY, ORDER, Trader, open_account
from tests.support import eventually, rows

WRONG = {**KEY, "APCA-API-SECRET-KEY": "a-wrong-secret"}


def healthy() -> dict[str, Any]:
    return {"healthy": True}


@pytest.fixture(scope="module")
def app(market: System, visitor: TestClient) -> Starlette:
    """An application whose bodies must arrive within half a second."""
    assert visitor.get("/v2/clock", headers=KEY).status_code == 200
    return make_app(market.app().state.gateway, healthy, healthy, body_seconds=0.5)


@pytest.fixture(scope="module")
def port(app: Starlette) -> Iterator[int]:
    with served(app) as port:
        yield port


@pytest.fixture
def stranger(app: Starlette) -> TestClient:
    """A client that gets a crash as a response."""
    return TestClient(app, raise_server_exceptions=False)


def test_sixty_guessers_do_not_keep_a_trader_from_trading(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer of the trader is a 200, and at most two keys are hashed at a time, however many are tried."""
    together, most, verify, lock = [0], [0], KeyRing.verify, threading.Lock()

    def counted(ring: KeyRing, key_id: str, secret: str) -> Principal | None:
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        found = verify(ring, key_id, secret)
        with lock:
            together[0] -= 1
        return found

    def guess(number: int) -> list[int]:
        headers = {**WRONG, "APCA-API-KEY-ID": f"PK{number % 6}"}
        return [ask(port, "GET", "/v2/clock", headers, host="127.0.1.1")[0] for _ in range(2)]

    monkeypatch.setattr(KeyRing, "verify", counted)
    assert ask(port, "GET", "/v2/clock", KEY)[0] == 200
    with ThreadPoolExecutor(61) as pool:
        guesses = [pool.submit(guess, number) for number in range(60)]
        trader = [ask(port, "GET", "/v2/clock", KEY)[0] for _ in range(20)]
        statuses = {status for each in guesses for status in each.result()}
    assert (set(trader), statuses, most[0]) == ({200}, {401, 429}, 2)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/v2/account", None), ("POST", "/api/session", {"key_id": "TESTKEY", "secret_key": "a-wrong-secret"})],
)
def test_a_guesser_is_told_to_wait_and_the_owner_is_not(port: int, method: str, path: str, body: Any) -> None:
    """429 with Retry-After on each way in. The guesser claims other addresses in vain."""
    guesser = f"127.0.2.{len(path)}"
    found = []
    for n in range(12):
        headers = {**({} if body else WRONG), "X-Forwarded-For": f"9.9.9.{n}"}
        found.append(ask(port, method, path, headers, body=body, host=guesser))
    assert [status for status, _, _ in found] == [401] * 10 + [429] * 2
    _, headers, text = found[-1]
    assert 1 <= int(headers["retry-after"]) <= 6
    assert "too many wrong keys" in text.decode()
    assert ask(port, "GET", "/v2/account", KEY)[0] == 200
    assert ask(port, "GET", "/v2/account", KEY, host=guesser)[0] == 200


def test_a_trusted_proxy_names_the_client(app: Starlette) -> None:
    """Its clients are limited one by one."""
    with served(app, trusted_proxies=["127.0.3.0/24"]) as port:
        found = []
        for client in (*["203.0.113.1"] * 11, "203.0.113.2"):
            forwarded = {**WRONG, "X-Forwarded-For": f"1.1.1.1, {client}"}
            found.append(ask(port, "GET", "/v2/clock", forwarded, host="127.0.3.1")[0])
        assert found == [401] * 10 + [429, 401]


def test_the_application_writes_the_wrong_keys_that_it_saw(
    market: System, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Off the request's path, with one log line that has no secret."""
    monkeypatch.setattr("services.gateway.http.wrong_keys.FLUSH_SECONDS", 0.01)
    engine = market.contexts["gateway"].engine
    with TestClient(market.app(), client=("198.51.100.7", 1)) as guesser:
        assert guesser.get("/v2/clock", headers=KEY).status_code == 200
        for _ in range(12):
            guesser.get("/v2/clock", headers=WRONG)
        known = "SELECT key_id, tries FROM gateway.wrong_keys WHERE address = '198.51.100.7'"
        eventually(lambda: [tuple(row) for row in rows(engine, known)] == [("TESTKEY", 12)])
        shown = guesser.get("/metrics", headers=KEY).text
    assert "paperprofit_keys_wrong_total " in shown
    assert 'paperprofit_keys_refused_total{limit="pair"}' in shown
    assert len([record for record in caplog.records if record.getMessage() == "wrong key"]) == 1
    assert "a-wrong-secret" not in str([record.__dict__ for record in caplog.records])


@pytest.mark.parametrize("pause", [None, 0.1], ids=["it stops", "it drips"])
def test_a_body_that_does_not_arrive_in_time_is_a_408(port: int, pause: float | None) -> None:
    """Also if a byte comes now and then. The connection is closed."""
    with connected(port) as client:
        head = [f"POST /v2/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1 << 20}"]
        head += [f"{name}: {each}" for name, each in KEY.items()]
        client.sendall("\r\n".join([*head, "", "{"]).encode())
        ended = threading.Event()
        dripping = threading.Thread(target=_drip, args=[client, pause, ended])
        dripping.start()
        answer = received(client)
        ended.set()
        dripping.join()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["code"] == 40810000


def _drip(client: socket.socket, pause: float | None, ended: threading.Event) -> None:
    while pause is not None and not ended.wait(pause):
        try:
            client.sendall(b" ")
        except OSError:
            return


PLACE = json.dumps({**ORDER, "client_order_id": "x"}).encode()


@pytest.mark.parametrize("stage", ["head", "body", "handler", "answer", "stream"])
def test_a_client_that_goes_away_is_no_error(
    port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Neither in its head or body, nor while it is served, nor while it reads the answer or a stream."""
    held, here = threading.Event(), threading.Event()
    verify = KeyRing.recognized

    def slowly(ring: KeyRing, key_id: str, secret: str) -> Principal | None:
        here.set()
        assert held.wait(10)
        return verify(ring, key_id, secret)

    keys = "".join(f"{name}: {each}\r\n" for name, each in KEY.items())
    post = f"POST /v2/orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(PLACE)}\r\n{keys}\r\n".encode()
    get = "GET {} HTTP/1.1\r\nHost: localhost\r\n" + keys + "\r\n"
    assert ask(port, "GET", "/v2/clock", KEY)[0] == 200
    if stage == "handler":
        monkeypatch.setattr(KeyRing, "recognized", slowly)
    sent = {
        "head": post[:40],
        "body": post + PLACE[:5],
        "handler": post + PLACE,
        "answer": get.format("/static/app.js").encode(),
        "stream": get.format("/api/stream").encode(),
    }
    with caplog.at_level(logging.DEBUG, logger="uvicorn"), connected(port) as client:
        client.sendall(sent[stage])
        if stage == "stream":
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        if stage == "handler":
            assert here.wait(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a goodbye
        client.close()
        for _ in range(3):  # the server has handled the end of the connection by then
            assert ask(port, "GET", "/healthz", {})[0] == 200
        held.set()
        for _ in range(3):
            assert ask(port, "GET", "/v2/clock", KEY)[0] == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_crash_says_nothing_and_has_the_headers(
    app: Starlette, stranger: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the error format of each API."""

    async def crash(*_given: Any) -> None:
        raise RuntimeError("password=hunter2")

    for name in ("/v2/clock", "/api/session"):
        route = next(each for each in app.routes if isinstance(each, Route) and each.path == name)
        monkeypatch.setattr(route, "app", crash)
    for path in ("/v2/clock", "/api/session"):
        answer = stranger.request(next(iter(_methods(app, path))), path, headers=KEY)
        assert (answer.status_code, "hunter2" in answer.text) == (500, False)
        assert answer.json().get("code", 50010000) == 50010000
        _has_headers(answer.headers)


def _methods(app: Starlette, path: str) -> set[str]:
    route = next(each for each in app.routes if isinstance(each, Route) and each.path == path)
    return (route.methods or set()) - {"HEAD"}


def _has_headers(headers: Any) -> None:
    shown = {name: headers.get(name.decode()) for name in HEADERS}
    assert shown == {name: each.decode() for name, each in HEADERS.items()}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("PUT", "/v2/orders", 405),
        ("GET", "/v2/account", 401),
        ("GET", "/static/nothing", 404),
        ("GET", "/", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/v2/account/", 401),
        ("GET", "/static", 404),
        ("OPTIONS", "/v2/orders", 204),
    ],
)
def test_every_response_has_the_security_headers(stranger: TestClient, method: str, path: str, status: int) -> None:
    """Errors too. Nothing redirects to the host that the client claims, and only files may be kept."""
    answer = stranger.request(method, path, headers={"Host": "evil"}, follow_redirects=False)
    assert answer.status_code == status
    assert "location" not in answer.headers
    _has_headers(answer.headers)
    assert answer.headers["cache-control"] == ("no-cache" if path == "/" else "no-store")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/orders", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/v2/orders/x", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/api/session", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/static/app.js", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_405_names_the_methods_of_all_routes_of_the_path(stranger: TestClient, path: str, allowed: str) -> None:
    """So does OPTIONS. Several routes share a path."""
    for method in ("PUT", "TRACE", "OPTIONS"):
        answer = stranger.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (204 if method == "OPTIONS" else 405, allowed)


def test_a_401_names_a_scheme_for_which_no_browser_opens_a_dialog(stranger: TestClient) -> None:
    """Basic works, and is sent unasked."""
    answer = stranger.get("/v2/account")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'APCA realm="PaperProfit"')


@pytest.mark.parametrize(
    "endpoint",
    [each for each in ENDPOINTS if each.scope and each.query is None],
    ids=lambda each: f"{each.method} {each.path}",
)
def test_a_route_without_query_parameters_refuses_them(stranger: TestClient, endpoint: Any) -> None:
    """A misspelt one must not be ignored, least of all where something is changed."""
    answer = stranger.request(endpoint.method, endpoint.path, params={"dry_run": "true"}, headers=KEY)
    assert answer.status_code == 422
    assert "dry_run" in answer.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 400),
        ("evil.example:8000", 400),
        ("127.0.0.1:8000", 401),
        ("[::1]:8000", 401),
        ("localhost", 401),
        ("a.localhost.", 401),
        ("gateway:8000", 401),
        ("Trade.Example.com:443", 401),
    ],
)
def test_a_domain_name_must_be_allowed(app: Starlette, host: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stranger can point an address or a name without a dot at us. Health answers to any name."""
    settings = app.state.gateway.settings.model_copy(update={"allowed_hosts": ("trade.example.com",)})
    monkeypatch.setitem(app.state.gateway.__dict__, "settings", settings)
    client = TestClient(app)
    assert client.get("/v2/account", headers={"Host": host}).status_code == status
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_too_many_headers_are_refused(stranger: TestClient) -> None:
    """More than a hundred."""
    assert stranger.get("/healthz", headers={f"x-{n}": "y" for n in range(120)}).status_code == 431


def test_an_account_has_a_bounded_number_of_streams(app: Starlette, market: System, visitor: TestClient) -> None:
    """The next one is a 429. One that ends makes room."""
    trader = open_account(market, visitor)
    hub = app.state.gateway.hub
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.gateway.streams.hub.STREAMS_AT_MOST", 1)
        with hub.stream(trader.account_id):
            assert TestClient(app).get("/api/stream", headers=trader.key).status_code == 429
        assert not hub.is_full(trader.account_id)


def test_a_transfer_id_of_another_account_neither_reveals_nor_blocks(market: System, visitor: TestClient) -> None:
    """Each account books its own transfer, and waits for its own answer."""
    transfer_id = str(uuid4())
    for cash in ("100", "250"):
        trader = open_account(market, visitor, cash="1000")
        for _ in range(2):
            booked = _transfer(trader, transfer_id, cash)
            assert (booked["amount"], booked["booked_at"] is not None) == (cash, True)
    refused = trader.ask("POST", "/api/account/transfers", json={"transfer_id": transfer_id, "amount": "7"})
    assert refused.status_code == 422


def _transfer(trader: Trader, transfer_id: str, cash: str) -> Any:
    return trader.ask("POST", "/api/account/transfers", json={"transfer_id": transfer_id, "amount": cash}).json()
