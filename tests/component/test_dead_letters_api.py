"""Dead letters over HTTP: listed, read, requeued and discarded by the service that owns them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from embedded.system import System
from shared.bus.envelope import encode
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY
from tests.component.job_rows import LONG_AGO, actions
from tests.support import account, eventually, value

MINUTE = timedelta(minutes=1)


@pytest.fixture
def client(system: System) -> Iterator[DocumentedClient]:
    with DocumentedClient(system.app(), headers=KEY) as client:
        yield client


def add_dead_letter(system: System, service: str = "orders", **columns: Any) -> int:
    """Add a dead letter of the service, by default a command to open an account."""
    body = columns.pop("body", encode(account(uuid4())).body)
    row = {
        "queue": f"{service}.commands",
        "message_id": uuid4(),
        "actor": "OpenAccount.v1",
        "reason": "KeyError",
        "error": "Traceback\n  x\nKeyError: 'cash'\n",
        "died_at": LONG_AGO,
        "body": body,
        "size": len(body),
        **columns,
    }
    with system.contexts[service].engine.begin() as connection:
        names, values = ", ".join(row), ", ".join(f"%({name})s" for name in row)
        statement = f"INSERT INTO {service}.dead_letters ({names}) VALUES ({values}) RETURNING id"
        added: int = connection.exec_driver_sql(statement, row).scalar_one()
    return added


def found(client: DocumentedClient, **asked: Any) -> list[tuple[str, int]]:
    items = client.get("/api/dead-letters", params=asked).json()["items"]
    return [(item["service"], item["id"]) for item in items]


def test_dead_letters_of_all_services_are_listed_and_filtered(system: System, client: DocumentedClient) -> None:
    """They are listed newest first, by service, queue and reason, page by page."""
    first = add_dead_letter(system)
    other = add_dead_letter(system, "valuation", queue="valuation.fills", died_at=LONG_AGO + MINUTE)
    late = add_dead_letter(system, reason="TooLarge", died_at=LONG_AGO + 2 * MINUTE, size=10_000_000)
    assert found(client) == [("orders", late), ("valuation", other), ("orders", first)]
    assert found(client, service="orders") == [("orders", late), ("orders", first)]
    assert found(client, queue="valuation.fills") == [("valuation", other)]
    assert found(client, reason="TooLarge") == [("orders", late)]
    page = client.get("/api/dead-letters", params={"limit": 2}).json()
    assert [item["complete"] for item in page["items"]] == [False, True]
    assert page["items"][1]["error"] == "KeyError: 'cash'"
    assert found(client, cursor=page["next"]) == [("orders", first)]


def test_a_dead_letter_is_read_with_its_message_and_the_whole_error(system: System, client: DocumentedClient) -> None:
    """Bytes that are not UTF-8 are replaced."""
    dead_letter = add_dead_letter(system, body=b"\xff\x00{")
    shown = client.get(f"/api/dead-letters/orders/{dead_letter}").json()
    assert (shown["body"], shown["error"]) == ("\ufffd\x00{", "Traceback\n  x\nKeyError: 'cash'\n")
    assert (shown["service"], shown["complete"]) == ("orders", True)


def test_requeued_dead_letters_are_handled(system: System, client: DocumentedClient) -> None:
    """The owner takes them out of its dead letters and handles them. The operator's action is recorded."""
    account_id = uuid4()
    dead_letter = add_dead_letter(system, body=encode(account(account_id)).body)
    answer = client.post("/api/dead-letters/orders/requeue", json={"dead_letters": [dead_letter]})
    assert (answer.status_code, answer.json()["dead_letters"]) == (202, [dead_letter])
    assert UUID(answer.json()["command_id"])
    eventually(lambda: opened(system, account_id))
    assert found(client) == []
    assert actions(system) == [("TESTKEY", "requeue_dead_letters", "orders", None, {"dead_letters": [dead_letter]})]


def opened(system: System, account_id: UUID) -> bool:
    statement = "SELECT count(*) FROM orders.accounts WHERE id = :a"
    return bool(value(system.contexts["orders"].engine, statement, a=account_id))


def test_dead_letters_are_discarded(system: System, client: DocumentedClient) -> None:
    """Only the named ones are discarded, incomplete ones too."""
    gone, stays = add_dead_letter(system, size=10_000_000), add_dead_letter(system)
    assert client.post("/api/dead-letters/orders/discard", json={"dead_letters": [gone]}).status_code == 202
    eventually(lambda: found(client) == [("orders", stays)])
    assert [action[1:3] for action in actions(system)] == [("discard_dead_letters", "orders")]


def test_a_request_with_an_unfit_dead_letter_changes_none(system: System, client: DocumentedClient) -> None:
    """The error names a missing dead letter, or an incomplete one, which cannot be requeued."""
    whole, incomplete = add_dead_letter(system), add_dead_letter(system, size=10_000_000)
    for ids, status, named in (([whole, whole + 100], 404, whole + 100), ([whole, incomplete], 422, incomplete)):
        refused = client.post("/api/dead-letters/orders/requeue", json={"dead_letters": ids})
        assert (refused.status_code, refused.json()["field"]) == (status, "dead_letters")
        assert str(named) in refused.json()["detail"]
    assert len(found(client)) == 2
    assert actions(system) == []
