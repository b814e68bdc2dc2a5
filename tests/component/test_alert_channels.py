"""Webhooks of accounts: only to the internet, never shown, and one message when an alert begins and when it ends."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from threading import Event, Thread
from uuid import UUID, uuid4

import pytest

from services.gateway.alerts import webhooks
from services.gateway.alerts.account_notifier import AccountNotifier
from services.gateway.alerts.webhooks import UnusableUrl, check, post
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_rows import execute
from tests.component.http_trader import Trader
from tests.component.watching import context_of
from tests.conftest import FakeClock
from tests.support import rows

PATH, SECRET = "/api/account/alert-channels", "s3cret-token"
URL = f"https://93.184.215.14/{SECRET}"


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://example.com/", ["93.184.215.14"]),
        ("file:///etc/passwd", []),
        ("https://me:pass@example.com/", ["93.184.215.14"]),
        ("https://example.com/", ["127.0.0.1"]),
        ("https://example.com/", ["93.184.215.14", "10.0.0.1"]),
        ("https://example.com/", ["::ffff:127.0.0.1"]),
        ("https://example.com/", ["169.254.169.254"]),
        ("https://[::1", []),
    ],
)
def test_an_address_that_is_not_of_the_internet_is_refused(url: str, addresses: list[str]) -> None:
    """Also when a name that was public is looked up again before a message is sent."""
    with pytest.raises(UnusableUrl):
        check(url, lambda _host, _port: addresses)
    assert post(url, {}, lambda _host, _port: addresses) is not None


def test_a_host_that_answers_byte_by_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and the answer never ends. Other webhooks wait for their turn."""
    monkeypatch.setattr(webhooks, "SECONDS", 0.4)
    monkeypatch.setattr(webhooks, "check", lambda _url, _resolve: "127.0.0.1")
    given_up = Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        dripping = Thread(target=_drip, args=(server, given_up))
        dripping.start()
        refusal = post(f"https://hooks.example.com:{server.getsockname()[1]}/", {})
        given_up.set()
        dripping.join()
    assert refusal is not None
    assert refusal.startswith("hooks.example.com does not answer: ")


def _drip(server: socket.socket, given_up: Event) -> None:
    """Begin a TLS record of 16 kB, and send it a byte at a time."""
    connection, _ = server.accept()
    with connection, suppress(OSError):
        connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
        while not given_up.wait(0.02):
            connection.sendall(b"\x00")


def test_webhooks_are_set_shown_by_their_hosts_and_refused_with_their_field(trader: Trader) -> None:
    stored = trader.ask("PUT", PATH, json={"channels": [{"url": URL}, {"url": URL}]})
    assert (stored.status_code, [each["host"] for each in stored.json()["channels"]]) == (200, ["93.184.215.14"])
    for url in ("https://127.0.0.1/", "http://93.184.215.14/", "https://localhost/"):
        answer = trader.ask("PUT", PATH, json={"channels": [{"url": URL}, {"url": url}]})
        assert (answer.status_code, answer.json()["field"]) == (422, "channels.1.url")
    shown = trader.ask("GET", PATH).text + str(
        rows(trader.system.contexts["gateway"].engine, "SELECT * FROM jobs.operator_actions")
    )
    assert SECRET not in shown
    assert trader.ask("PUT", PATH, json={"channels": []}).json() == {"channels": []}


def test_an_alert_and_its_end_are_posted_once_each_to_its_own_account(
    gateway: ServiceContext, urls: dict[str, str], clock: FakeClock
) -> None:
    """A refused message is sent again. What began before the webhook was added is not sent."""
    account, other = uuid4(), uuid4()
    taken: list[tuple[str, str, str]] = []
    refusals = ["hooks.example.com answers with status 503"]

    def take(url: str, body: Mapping[str, str]) -> str | None:
        if refusals:
            return refusals.pop()
        taken.append((url, body["status"], body["message"]))
        return None

    notifier = AccountNotifier(gateway, take)
    with context_of("valuation", urls, clock) as valuation:
        add_alert(valuation, clock, account, "old")
        clock.move(seconds=1)
        for owner in (account, other):
            execute(
                gateway,
                "INSERT INTO gateway.alert_channels VALUES (gen_random_uuid(), :owner, :url, :now)",
                owner=owner,
                url=f"https://hooks.example.com/{owner}",
                now=clock.now,
            )
        clock.move(seconds=1)
        assert notifier.send() == 0
        add_alert(valuation, clock, account, "new")
        assert (notifier.send(), notifier.send(), taken) == (1, 0, [])
        clock.move(minutes=1)
        for _ in range(2):
            notifier.send()
        own = f"https://hooks.example.com/{account}"
        assert taken == [(own, "raised", "new")]
        execute(valuation, "UPDATE valuation.alerts SET recovered_at = :now", now=clock.now)
        for _ in range(2):
            notifier.send()
        assert taken[1:] == [(own, "recovered", "new")]
    assert clock.move(days=2) - timedelta(days=2) < clock.now
    assert notifier.send() == 0


def add_alert(valuation: ServiceContext, clock: FakeClock, account: UUID, message: str) -> None:
    execute(
        valuation,
        "INSERT INTO valuation.alerts (account_id, id, generation, kind, subject, message, value, threshold, raised_at)"
        " VALUES (:account, gen_random_uuid(), 1, 'drawdown', :message, :message, 1, 1, :now)",
        account=account,
        message=message,
        now=clock.now,
    )
