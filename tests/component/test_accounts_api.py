"""``/api/account`` and ``/api/accounts``: open, configure, fund and reset accounts, and read their books."""

from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from shared.settings import DEMO_ACCOUNT_ID
from tests.component.http_trader import KEY, Trader, open_account
from tests.component.job_rows import actions
from tests.support import eventually, value

RESTING: dict[str, Any] = {"type": "limit", "limit_price": "50", "time_in_force": "gtc"}


def done(trader: Trader, method: str, path: str, **body: Any) -> Any:
    answer = trader.ask(method, f"/api/account/{path}", json=body)
    assert answer.status_code < 300, answer.text
    return answer.json()


def recorded(trader: Trader) -> list[tuple[Any, ...]]:
    """Return the recorded actions on the account: who, what, before, after."""
    return [
        (who, what, before, after)
        for who, what, subject, before, after in actions(trader.system)
        if subject == str(trader.account_id)
    ]


def test_an_account_is_opened_with_a_key_of_its_own(market: System, visitor: TestClient) -> None:
    """The secret is shown once: neither the list nor the record has it, and the key trades only that account."""
    asked = {"name": "Second", "cash": "5000.50", "settings": {"multiplier": 2}}
    answer = visitor.post("/api/accounts", json=asked, headers=KEY)
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    opened = answer.json()
    key = {"APCA-API-KEY-ID": opened["key_id"], "APCA-API-SECRET-KEY": opened["secret_key"]}
    eventually(lambda: visitor.get("/v2/account", headers=key).status_code == 200)
    shown = visitor.get("/v2/account", headers=key).json()
    assert (shown["id"], shown["cash"], shown["multiplier"]) == (opened["account_id"], "5000.5", "2")
    assert visitor.get("/api/accounts", headers=key).status_code == 403  # it trades, and does not operate
    listed = visitor.get("/api/accounts", headers=KEY, params={"limit": 1}).json()
    (newest,) = listed["items"]
    assert (newest["name"], newest["number"], newest["cash"]) == ("Second", shown["account_number"], "5000.5")
    after = visitor.get("/api/accounts", headers=KEY, params={"cursor": listed["next"]}).json()["items"]
    assert newest["id"] not in [each["id"] for each in after]
    recorded = str(actions(market))
    assert opened["key_id"] in recorded
    assert opened["secret_key"] not in recorded + str(listed)


def test_settings_apply_to_the_next_request(trader: Trader) -> None:
    """A PUT, then an order that only the new settings allow. The operator's action is recorded."""
    before = done(trader, "GET", "settings")
    assert (before["multiplier"], before["shorting"]) == (1, False)
    wanted = {"shorting": True, "fills": {"commission": {"kind": "per_share", "rate": "0.01"}}}
    after = done(trader, "PUT", "settings", **wanted)
    assert trader.order(side="sell")["status"] == "new"
    assert (after["shorting"], after["fills"]["commission"]["rate"], after["multiplier"]) == (True, "0.01", 1)
    assert done(trader, "GET", "settings") == after
    assert recorded(trader)[1:] == [(trader.key["APCA-API-KEY-ID"], "configure_account", before, after)]
    trader.ask("DELETE", "/orders")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"multiplier": 3}, "multiplier"),
        ({"leverage": 2}, "leverage"),
        ({"fills": {"participation": "2"}}, "fills.participation"),
        ({"fills": {"slippage": {"kind": "much"}}}, "fills.slippage.kind"),
        ({"limits": {"max_order_qty": 1.5}}, None),
        ({"limits": {"max_order_qty": "-1"}}, "limits.max_order_qty"),
        ({"limits": {"blocked_symbols": ["a b"]}}, "limits.blocked_symbols.0"),
        ({"strategies": {"not-an-id": {}}}, "strategies.not-an-id.[key]"),
    ],
)
def test_a_wrong_setting_is_named_and_changes_nothing(trader: Trader, body: dict[str, Any], field: str | None) -> None:
    """By the contract's own rules. A JSON number is as good as a string."""
    before = done(trader, "GET", "settings")
    answer = trader.ask("PUT", "/api/account/settings", json=body)
    assert (answer.status_code, answer.json().get("field")) == ((422, field) if field else (202, None))
    assert field is None or done(trader, "GET", "settings") == before


def test_cash_is_deposited_and_free_cash_is_withdrawn(trader: Trader) -> None:
    """A withdrawal of more than orders leave unreserved is a 403 with the amounts."""
    paid = done(trader, "POST", "transfers", amount="250.25")
    assert (paid["amount"], paid["booked_at"] is None) == ("250.25", False)
    trader.order(**RESTING)
    answer = trader.refused("POST", "/api/account/transfers", json={"amount": "-100000"})
    assert answer == (403, "only 99750.25 can be withdrawn (requested: 100000)")
    done(trader, "POST", "transfers", amount="-99750.25")
    shown = trader.get("/account")
    assert (shown["cash"], shown["buying_power"]) == ("500", "0")
    assert [each[1] for each in recorded(trader)] == ["open_account", *["move_cash"] * 3]
    trader.ask("DELETE", "/orders")


def test_a_repeated_transfer_is_booked_once(trader: Trader) -> None:
    """A transfer id cannot be used again for another amount."""
    body = {"amount": "10", "transfer_id": str(uuid4())}
    first = done(trader, "POST", "transfers", **body)
    assert done(trader, "POST", "transfers", **body) == first
    other = trader.ask("POST", "/api/account/transfers", json={**body, "amount": "11"})
    assert (other.status_code, other.json()["field"]) == (422, "transfer_id")
    assert trader.get("/account")["cash"] == "100010"


def test_a_request_without_an_answer_in_time_is_pending(trader: Trader) -> None:
    """The transfer and the reset are booked later all the same."""
    with trader.unanswered():
        pending = done(trader, "POST", "transfers", amount="10")
        assert pending["booked_at"] is None
        begun = done(trader, "POST", "reset", cash="7")
        assert (begun["generation"], begun["reset_at"]) == (None, None)
    eventually(lambda: trader.get("/account")["cash"] == "7")
    again = done(trader, "POST", "transfers", amount="10", transfer_id=pending["transfer_id"])
    assert again["booked_at"]


def test_a_reset_cancels_orders_and_drops_positions_and_keeps_the_books(trader: Trader) -> None:
    """P&L counts from the new cash, and the books of the first generation stay readable."""
    trader.filled("100")
    trader.filled("101", side="sell", qty="4")
    resting = trader.order(**RESTING)
    begun = done(trader, "POST", "reset", cash="2000")
    assert (begun["generation"], begun["cash"]) == (2, "2000")
    assert trader.get(f"/orders/{resting['id']}")["status"] == "canceled"
    assert trader.get("/positions") == []
    shown = trader.get("/account")
    assert (shown["cash"], shown["equity"], shown["unrealized_pl"]) == ("2000", "2000", "0")
    (trade,) = done(trader, "GET", "round-trips")["items"]
    assert (trade["generation"], trade["side"], trade["qty"], trade["realized_pl"]) == (1, "long", "4", "3.92")
    ledger = trader.get("/api/account/ledger", generation=2)["items"]
    assert [(entry["kind"], entry["capital"]) for entry in ledger] == [("deposit", "2000")]


def test_the_ledger_is_read_page_by_page_and_adds_up(trader: Trader) -> None:
    """The newest entry comes first, cash is the sum of all entries, and each entry balances."""
    trader.filled("100")
    trader.filled("101", side="sell")
    first = trader.get("/api/account/ledger", limit=2)
    second = trader.get("/api/account/ledger", limit=2, cursor=first["next"])
    assert second["next"] is None
    entries = first["items"] + second["items"]
    assert [(entry["kind"], entry["qty"], entry["realized"]) for entry in entries] == [
        ("fill", "-10", "9.8"),
        ("fill", "10", "0"),
        ("deposit", "0", "0"),
    ]
    assert trader.get("/account")["cash"] == "100009.8"
    assert trader.get("/api/account/ledger", kind="deposit")["items"] == entries[2:]
    assert trader.get("/api/account/ledger", symbol="IBM")["items"] == []


def test_round_trips_are_filtered_and_paged(trader: Trader) -> None:
    """By symbol, side and the time of closing."""
    for last in ("100", "101"):
        trader.filled(last)
        trader.filled(last, side="sell")
    first = trader.get("/api/account/round-trips", limit=1)
    (later,) = first["items"]
    (earlier,) = trader.get("/api/account/round-trips", cursor=first["next"])["items"]
    assert later["closed_at"] > earlier["closed_at"]
    assert trader.get("/api/account/round-trips", to=later["closed_at"], symbol="AAPL", side="long")["items"] == [
        earlier
    ]
    assert trader.get("/api/account/round-trips", side="short")["items"] == []


def test_a_closed_account_is_dead_and_its_books_stay(market: System, visitor: TestClient) -> None:
    """Its keys stop at once, orders are canceled and positions dropped. An admin still sees it."""
    owner = open_account(market, visitor)
    owner.filled("100")
    resting = owner.order(**RESTING)
    path = f"/api/accounts/{owner.account_id}"
    for _ in range(2):
        assert visitor.delete(path, headers=KEY).status_code == 204
    eventually(lambda: owner.ask("GET", "/account").status_code == 401)
    engine = market.contexts["orders"].engine
    status = "SELECT status || ' ' || cancel_reason FROM orders.orders WHERE id = :id"
    assert value(engine, status, id=resting["id"]) == "canceled closed"
    assert value(engine, "SELECT sum(qty) FROM orders.positions WHERE account_id = :id", id=owner.account_id) == 0
    (shown,) = [
        each
        for each in visitor.get("/api/accounts", headers=KEY, params={"limit": 500}).json()["items"]
        if each["id"] == str(owner.account_id)
    ]
    assert (shown["status"], shown["cash"], shown["generation"]) == ("ACCOUNT_CLOSED", "0", 2)
    assert [what for _, what, *_ in recorded(owner)] == ["open_account", "close_account"]
    refused = visitor.post(f"{path}/keys", json={"name": "again", "scopes": ["trade"]}, headers=KEY)
    assert (refused.status_code, refused.json()["detail"].endswith("is closed; open another one")) == (409, True)
    assert owner.books_hold()


def test_the_demo_account_the_own_one_and_an_unknown_one_are_not_closed(visitor: TestClient, trader: Trader) -> None:
    """Nothing changes, and nothing is on record."""
    asked = {"name": "admin", "scopes": ["admin"]}
    key = visitor.post(f"/api/accounts/{trader.account_id}/keys", json=asked, headers=KEY).json()
    admin = {"APCA-API-KEY-ID": key["key_id"], "APCA-API-SECRET-KEY": key["secret_key"]}
    for account_id, status in ((DEMO_ACCOUNT_ID, 409), (trader.account_id, 409), (uuid4(), 404)):
        assert visitor.delete(f"/api/accounts/{account_id}", headers=admin).status_code == status
    assert visitor.get("/v2/account", headers=KEY).json()["status"] == "ACTIVE"
    assert [what for _, what, *_ in recorded(trader)] == ["open_account"]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "transfers", {"amount": "0"}, "amount"),
        ("POST", "transfers", {"amount": "1.001"}, "amount"),
        ("POST", "transfers", {"amount": "1e13"}, "amount"),
        ("POST", "transfers", {"amount": "1", "to": "me"}, "to"),
        ("POST", "reset", {"cash": "-1"}, "cash"),
        ("POST", "reset", {}, "cash"),
        ("GET", "ledger?kind=a%01", None, "kind"),
        ("GET", "ledger?cursor=1", None, "cursor"),
        ("GET", "round-trips?side=wide", None, "side"),
        ("GET", "round-trips?generation=0", None, "generation"),
    ],
)
def test_a_wrong_field_is_named_and_moves_no_cash(
    trader: Trader, method: str, path: str, body: dict[str, Any] | None, field: str
) -> None:
    """A 422 under /api names its field."""
    answer = trader.ask(method, f"/api/account/{path}", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert trader.get("/account")["cash"] == "100000"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"cash": "-1"}, "cash"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "DOLLAR"}, "currency"),
        ({"currency": "ZZZ"}, "currency"),
        ({"currency": None}, "currency"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["owner"]}, "scopes.0"),
        ({"settings": {"multiplier": 9}}, "settings.multiplier"),
        ({"account_id": str(uuid4())}, "account_id"),
    ],
)
def test_an_account_with_a_wrong_field_is_not_opened(
    market: System, visitor: TestClient, change: dict[str, Any], field: str
) -> None:
    """No account, no key and no record is stored."""
    engine = market.contexts["gateway"].engine
    keys = "SELECT count(*) FROM gateway.api_keys"
    before = (value(engine, keys), len(actions(market)))
    answer = visitor.post("/api/accounts", json={"name": "n", "cash": "1", **change}, headers=KEY)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert (value(engine, keys), len(actions(market))) == before


def test_a_key_that_only_trades_reads_the_books_and_changes_nothing(market: System, visitor: TestClient) -> None:
    """A bot cannot lift its own limits, nor fund itself."""
    opened = visitor.post("/api/accounts", json={"name": "bot", "cash": "1"}, headers=KEY).json()
    key = {"APCA-API-KEY-ID": opened["key_id"], "APCA-API-SECRET-KEY": opened["secret_key"]}
    eventually(lambda: visitor.get("/v2/account", headers=key).status_code == 200)
    for path in ("settings", "ledger", "round-trips"):
        assert visitor.get(f"/api/account/{path}", headers=key).status_code == 200
    for method, path in (("PUT", "settings"), ("POST", "transfers"), ("POST", "reset")):
        assert visitor.request(method, f"/api/account/{path}", headers=key, json={}).status_code == 403
