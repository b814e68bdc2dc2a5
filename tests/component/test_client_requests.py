"""Requests as real clients of Alpaca's send them: dates, nulls, ids, repeated and unknown keys, credentials."""

import logging
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from alpaca.trading.enums import OrderSide, PositionIntent, QueryOrderStatus, TimeInForce
from alpaca.trading.models import Order
from alpaca.trading.requests import GetOrdersRequest, LimitOrderRequest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.http.errors import SUB_PENNY, RequestRefused, alpaca_error
from services.gateway.trading.commands import accepted
from tests.component.http_trader import KEY, ORDER, Trader, open_account

RESTING: dict[str, Any] = {"type": "limit", "limit_price": "50", "qty": "1", "time_in_force": "gtc"}
NOBODY = UUID(int=4711)
#: The first second of 1 November in New York, where clocks are set back later that day, and the second before.
MIDNIGHT, BEFORE = datetime(2026, 11, 1, 4, tzinfo=UTC), datetime(2026, 11, 1, 3, 59, 59, tzinfo=UTC)


@pytest.fixture
def undocumented(market: System) -> Iterator[TestClient]:
    """A client of its own application, for paths that are not documented. Each application logs by itself."""
    with TestClient(market.app()) as client:
        yield client


def submitted_at(trader: Trader, placed: dict[str, Any], moment: datetime) -> None:
    with trader.system.contexts["orders"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE orders.orders SET submitted_at = %s WHERE id = %s", (moment, placed["id"]))


def ids(trader: Trader, **query: Any) -> list[str]:
    answer = trader.ask("GET", "/orders", params=query)
    assert answer.status_code == 200, answer.text
    return [order["id"] for order in answer.json()]


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-01",
        "2026-11-01T00:00:00",
        "2026-11-01 00:00:00",
        "2026-11-01 00:00",
        "2026-11-01T04:00:00Z",
        "2026-11-01t04:00:00z",
        "2026-11-01T04:00:00.000000000Z",
        "2026-11-01T00:00:00-04:00",
        "2026-11-01 00:00:00-04:00",
        "2026-11-01T05:00:00+01:00",
        "2026-11-01T05:00:00+0100",
    ],
)
def test_a_list_begins_and_ends_at_a_date_or_a_time(trader: Trader, moment: str) -> None:
    """Without a zone it is New York's. A list has what came after the one time and before the other."""
    before, midnight, later = (trader.order(**RESTING) for _ in range(3))
    submitted_at(trader, before, BEFORE)
    submitted_at(trader, midnight, MIDNIGHT)
    assert ids(trader, after=moment) == [later["id"]]
    assert ids(trader, until=moment) == [before["id"]]
    raw = trader.ask("GET", f"/orders?after={moment}")  # an unescaped + is a space
    assert [order["id"] for order in raw.json()] == [later["id"]]


@pytest.mark.parametrize(
    "moment", ["yesterday", "2026-13-01", "1700000000", "", "9999-12-31T23:59:59-14:00", "0001-01-01"]
)
def test_a_time_that_cannot_be_read_is_named(trader: Trader, moment: str) -> None:
    """With an example of a right one, or the years that are possible."""
    for name in ("after", "until"):
        status, message = trader.refused("GET", "/orders", params={name: moment})
        assert (status, message.startswith(f"{name}: must be ")) == (422, True)


@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_list_is_paged_by_the_ids_of_its_orders(trader: Trader, direction: str) -> None:
    """Orders of one moment, such as the legs of a bracket, are neither repeated nor left out."""
    exits = {"take_profit": {"limit_price": "120"}, "stop_loss": {"stop_price": "40"}}
    for _ in range(3):
        trader.order(**RESTING, order_class="bracket", **exits)
    whole = ids(trader, direction=direction, limit=500)
    assert len(whole) == 9
    edge = "after_order_id" if direction == "asc" else "before_order_id"
    pages = [ids(trader, direction=direction, limit=2)]
    while pages[-1]:
        pages.append(ids(trader, direction=direction, limit=2, **{edge: pages[-1][-1]}))
    assert [each for page in pages for each in page] == whole
    back = "before_order_id" if direction == "asc" else "after_order_id"
    assert ids(trader, direction=direction, **{back: whole[4]}) == whole[:4]


def test_an_order_that_a_page_begins_at_must_exist(market: System, visitor: TestClient, trader: Trader) -> None:
    """The parameter is named. An order of another account does not exist. Only one page can be asked for."""
    foreign = open_account(market, visitor).order(**RESTING)
    mine = trader.order(**RESTING)
    for name in ("after_order_id", "before_order_id"):
        for unknown in (uuid4(), foreign["id"]):
            refused = trader.refused("GET", "/orders", params={name: unknown})
            assert refused == (422, f"{name}: order not found for {unknown}")
    both = {"after_order_id": mine["id"], "before_order_id": mine["id"]}
    assert trader.refused("GET", "/orders", params=both)[0] == 422


def test_a_list_is_filtered_by_asset_class(trader: Trader) -> None:
    """``all`` is every class. Of options there are none here."""
    placed = trader.order(**RESTING)
    for classes, found in (("us_equity", True), ("us_option,us_equity", True), ("all", True), ("us_option", False)):
        assert ids(trader, asset_class=classes) == ([placed["id"]] if found else [])
    assert ids(trader, asset_class=["crypto", "us_equity"]) == [placed["id"]]


@pytest.mark.parametrize(
    "query",
    ["symbols=IBM&symbols=aapl", "symbols=IBM,AAPL", "symbols[]=IBM&symbols[]=AAPL", "symbols=IBM&symbols[]=AAPL"],
)
def test_a_list_parameter_may_be_repeated(trader: Trader, query: str) -> None:
    """All its values count, in the spellings of Python's and of JavaScript's clients."""
    wanted = {trader.order(**RESTING, symbol=symbol)["id"] for symbol in ("AAPL", "IBM")}
    trader.order(**RESTING, symbol="MSFT")
    assert {order["id"] for order in trader.ask("GET", f"/orders?{query}").json()} == wanted


def test_another_parameter_must_not_be_repeated(trader: Trader) -> None:
    """Whichever of the two values were used, the client could mean the other."""
    for query in ("status=open&status=all", "limit=1&limit=1"):
        name = query.partition("=")[0]
        assert trader.refused("GET", f"/orders?{query}") == (422, f"{name}: must not be repeated")


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/orders", "after_order_id"),
        ("GET", f"/orders/{NOBODY}", "nested"),
        ("GET", "/orders:by_client_order_id", "client_order_id"),
        ("DELETE", "/positions", "cancel_orders"),
        ("DELETE", "/positions/AAPL", "percentage"),
    ],
)
def test_an_unknown_parameter_is_refused(trader: Trader, method: str, path: str, known: str) -> None:
    """It would be ignored in silence, and a page never end or a whole position close. The known ones are named."""
    status, message = trader.refused(method, path, params={"percent": "5"})
    assert (status, message.startswith("percent: is not a query parameter here; use ")) == (422, True)
    assert known in message


def test_the_official_client_s_list_is_understood(trader: Trader) -> None:
    """Each of its parameters."""
    placed = trader.order(**RESTING)
    asked = GetOrdersRequest(
        status=QueryOrderStatus.ALL,
        limit=5,
        after=datetime(2026, 1, 1, tzinfo=UTC),
        until=datetime(2100, 1, 1, tzinfo=UTC),
        direction="desc",
        nested=True,
        side=OrderSide.BUY,
        symbols=["AAPL", "IBM"],
    ).to_request_fields()
    asked["symbols"] = ",".join(asked["symbols"])  # as its client does
    sent = {name: getattr(value, "value", value) for name, value in asked.items()}
    assert ids(trader, **sent) == [placed["id"]]


def test_a_null_field_is_absent(trader: Trader) -> None:
    """JavaScript's clients send every field that they know, also those that are not supported."""
    names = (
        "notional",
        "stop_price",
        "trail_price",
        "trail_percent",
        "extended_hours",
        "client_order_id",
        "take_profit",
    )
    nothing = dict.fromkeys([*names, "order_class", "stop_loss", "position_intent", "legs", "advanced_instructions"])
    placed = trader.ask("POST", "/orders", json={**ORDER, **RESTING, **nothing})
    assert (placed.status_code, placed.json()["extended_hours"]) == (200, False)
    changed = {"qty": "2", "limit_price": None, "stop_price": None, "trail": None, "client_order_id": None}
    assert trader.ask("PATCH", f"/orders/{placed.json()['id']}", json=changed).json()["qty"] == "2"
    exits = {"take_profit": {"limit_price": "120"}, "stop_loss": {"stop_price": "40", "limit_price": None}}
    assert trader.order(**RESTING, order_class="bracket", **exits)["order_class"] == "bracket"


def test_an_asset_id_is_taken_as_the_symbol(trader: Trader) -> None:
    """In any case. The order has the symbol."""
    asset_id = trader.order(**RESTING, symbol="ibm")["asset_id"]
    for asset in (asset_id, asset_id.upper()):
        placed = trader.order(**RESTING, symbol=asset)
        assert (placed["symbol"], placed["asset_id"]) == ("IBM", asset_id)


def test_an_intent_is_taken_and_shown(trader: Trader) -> None:
    """The official client sends it. Fields that Alpaca has and this exchange does not are null."""
    terms: dict[str, Any] = {"symbol": "AAPL", "qty": 1, "side": OrderSide.BUY, "time_in_force": TimeInForce.DAY}
    asked = LimitOrderRequest(**terms, limit_price=50, position_intent=PositionIntent.BUY_TO_OPEN)
    answer = trader.ask("POST", "/orders", json=asked.to_request_fields()).json()
    assert (answer["position_intent"], answer["source"], answer["subtag"]) == ("buy_to_open", None, None)
    assert Order(**answer).position_intent is PositionIntent.BUY_TO_OPEN
    with trader.unanswered():
        pending = trader.ask("POST", "/orders", json=asked.to_request_fields()).json()
    assert (pending["status"], pending["position_intent"]) == ("pending_new", "buy_to_open")


@pytest.mark.parametrize(
    ("method", "path", "body", "answer"),
    [
        ("GET", "/positions/IBM", None, (404, 40410000, "position does not exist")),
        ("DELETE", "/positions/IBM", None, (404, 40410000, "position does not exist")),
        ("POST", "/orders", {"symbol": "NOSUCH"}, (422, 42210000, 'asset "NOSUCH" not found')),
        ("POST", "/orders", {"symbol": str(NOBODY)}, (422, 42210000, None)),
        (
            "POST",
            "/orders",
            {"type": "limit", "limit_price": "290.12345"},
            (422, 42210000, f"invalid limit_price 290.12345. {SUB_PENNY}"),
        ),
        ("GET", "/orders/mine", None, (422, 40010001, "order_id is missing")),
        ("DELETE", "/orders/mine", None, (422, 40010001, "order_id is missing")),
    ],
)
def test_refusals_have_alpaca_s_codes_and_texts(
    trader: Trader, method: str, path: str, body: Any, answer: tuple[int, int, str | None]
) -> None:
    """Clients compare them literally."""
    refused = trader.ask(method, path, json=None if body is None else {**ORDER, **body})
    found = refused.json()
    wanted = answer[2] or f'asset "{body["symbol"]}" not found'
    assert (refused.status_code, found) == (answer[0], {"code": answer[1], "message": wanted})


def test_an_order_that_ended_cannot_be_canceled(trader: Trader) -> None:
    """The text has its status between quotation marks."""
    filled = trader.filled("100")
    canceled = trader.order(**RESTING)
    assert trader.ask("DELETE", f"/orders/{canceled['id']}").status_code == 204
    for order, status in ((filled, "filled"), (canceled, "canceled")):
        refused = trader.ask("DELETE", f"/orders/{order['id']}")
        assert refused.status_code == 422
        assert refused.json() == {"code": 42210000, "message": f'order is already in "{status}" state'}


def test_the_figures_behind_a_rejection_are_fields_of_the_answer() -> None:
    """They are strings beside code and message, which they cannot replace."""
    details = '{"available": "0", "held_for_orders": "5", "code": "1"}'
    row = {"status": "rejected", "reject_message": "insufficient qty available for order", "reject_details": details}
    with pytest.raises(RequestRefused) as refused:
        accepted({**row, "reject_reason": "insufficient_shares"})
    body = alpaca_error(refused.value)
    assert body == {
        "available": "0",
        "held_for_orders": "5",
        "code": 40310000,
        "message": "insufficient qty available for order",
    }
    with pytest.raises(RequestRefused) as taken:
        accepted({**row, "reject_reason": "duplicate_client_order_id", "reject_details": None})
    assert (taken.value.status, taken.value.code) == (422, 40010001)


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1beta1/news", "/v1beta3/crypto/us/bars", "/v3/clock", "/v2/nothing"]
)
def test_an_unknown_path_of_alpaca_s_has_a_code_and_a_message(visitor: TestClient, path: str) -> None:
    """Its clients read both. Own paths have a problem."""
    answer = visitor.get(path, headers=KEY)
    assert (answer.status_code, set(answer.json())) == (404, {"code", "message"})
    assert visitor.get("/api/nothing", headers=KEY).headers["content-type"] == "application/problem+json"


def test_a_key_may_be_sent_as_user_and_password(trader: Trader) -> None:
    """Basic, as the official client does with ``use_basic_auth``. Anything else in the header is a 401."""

    def asked(authorization: str) -> int:
        return trader.client.get("/v2/account", headers={"Authorization": authorization}).status_code

    key_id, secret = trader.key.values()
    encoded = b64encode(f"{key_id}:{secret}".encode()).decode()
    assert (asked(f"Basic {encoded}"), asked(f"basic {encoded}")) == (200, 200)
    wrong = b64encode(f"{key_id}:wrong".encode()).decode()
    for header in (f"Basic {wrong}", "Basic ?", "Basic", f"Bearer {encoded}", "Basic " + b64encode(b"\xff").decode()):
        assert asked(header) == 401


def test_a_base_url_may_end_with_a_slash(trader: Trader, undocumented: TestClient) -> None:
    """Clients join it and the path, so the path begins with two."""
    answer = undocumented.get("http://testserver//v2/account", headers=trader.key)
    assert (answer.status_code, answer.json()["id"]) == (200, str(trader.account_id))


def test_a_stream_that_does_not_exist_is_logged_once(
    undocumented: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A client repeats its handshake without a pause. Each answer says what to do, and the log has each path once."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            for path in ("/stream", "/v2/iex"):
                answer = undocumented.get(path, headers=headers)
                assert answer.status_code == 404
                assert answer.json()["message"].startswith(f"there is no stream at {path}: ")
    assert [record.getMessage() for record in caplog.records] == ["a client asks for a stream that does not exist"] * 2
