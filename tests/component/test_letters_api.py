"""Dead letters over HTTP: found, read, sent again and forgotten, through the service that owns them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from embedded.system import System
from shared.bus.envelope import encode
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY
from tests.component.operator_desk import LONG_AGO, actions
from tests.support import account, eventually, value

MINUTE = timedelta(minutes=1)


@pytest.fixture
def client(system: System) -> Iterator[DocumentedClient]:
    with DocumentedClient(system.app(), headers=KEY) as client:
        yield client


def bury(system: System, service: str = "orders", **columns: Any) -> int:
    """A dead letter of the service: a command to open an account, unless told otherwise."""
    body = columns.pop("body", encode(account(uuid4())).body)
    letter = {
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
        names, values = ", ".join(letter), ", ".join(f"%({name})s" for name in letter)
        statement = f"INSERT INTO {service}.dead_letters ({names}) VALUES ({values}) RETURNING id"
        letter_id: int = connection.exec_driver_sql(statement, letter).scalar_one()
    return letter_id


def found(client: DocumentedClient, **asked: Any) -> list[tuple[str, int]]:
    items = client.get("/api/dead-letters", params=asked).json()["items"]
    return [(item["service"], item["id"]) for item in items]


def test_letters_of_all_services_are_listed_and_filtered(system: System, client: DocumentedClient) -> None:
    """The newest first, by service, queue and reason, page by page."""
    first = bury(system)
    other = bury(system, "valuation", queue="valuation.fills", died_at=LONG_AGO + MINUTE)
    late = bury(system, reason="TooLarge", died_at=LONG_AGO + 2 * MINUTE, size=10_000_000)
    assert found(client) == [("orders", late), ("valuation", other), ("orders", first)]
    assert found(client, service="orders") == [("orders", late), ("orders", first)]
    assert found(client, queue="valuation.fills") == [("valuation", other)]
    assert found(client, reason="TooLarge") == [("orders", late)]
    page = client.get("/api/dead-letters", params={"limit": 2}).json()
    assert [item["complete"] for item in page["items"]] == [False, True]
    assert page["items"][1]["error"] == "KeyError: 'cash'"
    assert found(client, cursor=page["next"]) == [("orders", first)]


def test_a_letter_is_read_with_its_message_and_the_whole_error(system: System, client: DocumentedClient) -> None:
    """What is no text is shown as far as it is."""
    letter = bury(system, body=b"\xff\x00{")
    shown = client.get(f"/api/dead-letters/orders/{letter}").json()
    assert (shown["body"], shown["error"]) == ("\ufffd\x00{", "Traceback\n  x\nKeyError: 'cash'\n")
    assert (shown["service"], shown["complete"]) == ("orders", True)


def test_letters_are_sent_again_and_do_their_work(system: System, client: DocumentedClient) -> None:
    """The owner takes them out of its dead letters and handles them; who asked is on record."""
    account_id = uuid4()
    letter = bury(system, body=encode(account(account_id)).body)
    answer = client.post("/api/dead-letters/orders/requeue", json={"letters": [letter]})
    assert (answer.status_code, answer.json()["letters"]) == (202, [letter])
    assert UUID(answer.json()["command_id"])
    eventually(lambda: opened(system, account_id))
    assert found(client) == []
    assert actions(system) == [("TESTKEY", "requeue_dead_letters", "orders", None, {"letters": [letter]})]


def opened(system: System, account_id: UUID) -> bool:
    statement = "SELECT count(*) FROM orders.accounts WHERE id = :a"
    return bool(value(system.contexts["orders"].engine, statement, a=account_id))


def test_letters_are_forgotten(system: System, client: DocumentedClient) -> None:
    """Only those that were named, also one of which only a part was kept."""
    gone, stays = bury(system, size=10_000_000), bury(system)
    assert client.post("/api/dead-letters/orders/discard", json={"letters": [gone]}).status_code == 202
    eventually(lambda: found(client) == [("orders", stays)])
    assert [action[1:3] for action in actions(system)] == [("discard_dead_letters", "orders")]


def test_of_letters_that_are_not_all_there_none_is_touched(system: System, client: DocumentedClient) -> None:
    """The one that is not there is named, and one that was kept in part cannot be sent again."""
    whole, part = bury(system), bury(system, size=10_000_000)
    for letters, status, named in (([whole, whole + 100], 404, whole + 100), ([whole, part], 422, part)):
        refused = client.post("/api/dead-letters/orders/requeue", json={"letters": letters})
        assert (refused.status_code, refused.json()["field"]) == (status, "letters")
        assert str(named) in refused.json()["detail"]
    assert len(found(client)) == 2
    assert actions(system) == []
