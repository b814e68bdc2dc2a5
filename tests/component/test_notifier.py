"""Sending alerts to administrators: rows of a real PostgreSQL, sent by apprise over real HTTP."""

import threading
from itertools import pairwise

import pytest

from services.gateway.alerts.alert import Alert
from services.gateway.alerts.evaluator import Evaluator
from services.gateway.alerts.notifier import BATCH_SIZE, Notifier
from services.gateway.service import watchers
from services.gateway.settings import Settings
from shared.bus.unit_of_work import ServiceContext
from tests.component.alert_rows import (
    add_job,
    add_outcomes,
    evaluate_until_resolved,
    execute,
    make_evaluator,
    notifications,
    open_alert,
    open_many,
    resolve_all,
)
from tests.component.webhook import TOKEN, Webhook, notifier_to, webhook
from tests.conftest import FakeClock
from tests.support import eventually


def test_an_alert_and_its_resolution_arrive_once_each(gateway: ServiceContext, clock: FakeClock, hook: Webhook) -> None:
    """They do, from the failing job to the webhook, however often the notifier runs."""
    evaluator, notifier = make_evaluator(gateway, clock), notifier_to(gateway, hook)
    add_job(gateway, "revalue")
    add_outcomes(gateway, clock, "revalue", ["failed"] * 3)
    for _ in range(3):
        evaluator.evaluate()
        notifier.send()
        clock.move(seconds=5)
    assert hook.titles == ["PaperProfit critical: job failing: revalue"]
    (row,) = notifications(gateway)
    assert f"\n\nAlert {row.id}, opened at " in hook.taken[0]["message"]
    assert (row.sent_at is not None, row.next_try_at, row.error) == (True, None, None)
    add_outcomes(gateway, clock, "revalue", ["succeeded"] * 3)
    evaluate_until_resolved(evaluator, clock)
    for _ in range(3):
        notifier.send()
    assert hook.titles[1:] == ["PaperProfit resolved: job failing: revalue"]
    assert [body["type"] for body in hook.taken] == ["failure", "success"]
    assert notifications(gateway)[0].recovery_sent_at == clock.now


def test_an_alert_that_is_resolved_before_it_was_sent_is_not_sent(gateway: ServiceContext, hook: Webhook) -> None:
    """The channel gets neither the alert nor its resolution."""
    open_alert(gateway)
    resolve_all(gateway)
    assert notifier_to(gateway, hook).send() == 0
    assert hook.asked == 0


def test_a_channel_that_is_down_is_retried_with_growing_pauses(gateway: ServiceContext, clock: FakeClock) -> None:
    """Nothing is sent before its time. When the channel is back, it gets one message."""
    with webhook() as gone:
        notifier, port = notifier_to(gateway, gone), gone.port
    open_alert(gateway)
    pauses = []
    for tries in range(1, 6):
        assert notifier.send() == 1
        (row,) = notifications(gateway)
        assert (row.tries, row.sent_at) == (tries, None)
        assert row.error == "1 JSON: it could not be reached, or refused the message"
        pauses.append(row.next_try_at - clock.now)
        assert notifier.send() == 0
        clock.now = row.next_try_at
    assert all(longer >= shorter for shorter, longer in pairwise(pauses))
    assert pauses[-1] >= 4 * pauses[0]
    with webhook(port) as back:
        notifier.send()
        notifier.send()
        assert len(back.taken) == 1
    (row,) = notifications(gateway)
    assert (row.sent_at, row.next_try_at, row.error) == (clock.now, None, None)


def test_a_channel_that_refuses_neither_delays_nor_repeats_messages_of_another(
    gateway: ServiceContext, clock: FakeClock, hook: Webhook
) -> None:
    """An alert is sent when both channels have it. A channel that never got it does not get its resolution."""
    with webhook() as other:
        notifier = notifier_to(gateway, hook, other)
        other.status = 503
        for subject in ("first", "second"):
            open_alert(gateway, subject)
        for _ in range(3):
            notifier.send()
            clock.move(hours=1)
        assert (len(hook.taken), other.taken) == (2, [])
        assert {(row.sent_at, row.error) for row in notifications(gateway)} == {(None, "2 JSON: it answered 503")}
        execute(gateway, "UPDATE jobs.notifications SET resolved_at = now() WHERE subject = 'first'")
        other.status = 200
        notifier.send()
        notifier.send()
        assert hook.titles[2:] == ["PaperProfit resolved: job failing: first"]
        assert other.titles == ["PaperProfit critical: job failing: second"]
        resolve_all(gateway)
        clock.move(hours=1)
        notifier.send()
        assert hook.titles[3:] == other.titles[1:] == ["PaperProfit resolved: job failing: second"]


def test_the_resolution_is_sent_after_the_channels_have_changed(gateway: ServiceContext, hook: Webhook) -> None:
    """If the channels that knew of the alert are gone from the settings, every channel gets the resolution."""
    open_alert(gateway)
    with webhook() as former:
        notifier_to(gateway, hook, former).send()
    execute(
        gateway, "UPDATE jobs.notifications SET facts = jsonb_build_object('sent_to', jsonb_build_array('7 Slack'))"
    )
    resolve_all(gateway)
    notifier_to(gateway, hook).send()
    assert len(hook.taken) == 2
    assert notifications(gateway)[0].recovery_sent_at is not None


def test_a_burst_is_one_message(gateway: ServiceContext, hook: Webhook) -> None:
    """Ten alerts are ten messages. Eleven are one digest that names each."""
    notifier = notifier_to(gateway, hook)
    for number in range(10):
        open_alert(gateway, f"few_{number}")
    notifier.send()
    assert len(hook.taken) == 10
    execute(gateway, "UPDATE jobs.notifications SET resolved_at = now()")
    open_alert(gateway, "one_more")
    notifier.send()
    (digest,) = hook.taken[10:]
    assert digest["title"] == "PaperProfit: 1 alert, 10 resolved"
    assert digest["message"].count("resolved: Job few_") == 10
    assert "] critical: Job one_more fails." in digest["message"]
    assert digest["type"] == "failure"


def test_notifications_beyond_one_batch_are_sent_in_the_next(gateway: ServiceContext, hook: Webhook) -> None:
    """The notifier goes on at once while a batch is full."""
    open_many(gateway, [Alert("slot_late", f"job_{n}", "warning", "Late.", {}) for n in range(BATCH_SIZE + 1)])
    notifier = notifier_to(gateway, hook)
    assert [notifier.send(), notifier.send(), notifier.send()] == [BATCH_SIZE, 1, 0]
    assert hook.titles == [f"PaperProfit: {BATCH_SIZE} alerts", f"PaperProfit warning: slot late: job_{BATCH_SIZE}"]


def test_a_channel_s_url_appears_in_no_row_and_no_log(
    gateway: ServiceContext, hook: Webhook, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither its token nor its host does, whether it takes a message, refuses it or is away, at any log level."""
    caplog.set_level("DEBUG")
    notifier = notifier_to(gateway, hook)
    for number, status in enumerate((200, 404, 200)):
        hook.status = status
        open_alert(gateway, f"job_{number}")
        notifier.send()
    hook.close()
    open_alert(gateway, "last")
    notifier.send()
    shown = [str(vars(record)) for record in caplog.records] + [str(tuple(row)) for row in notifications(gateway)]
    assert len([line for line in shown if "could not be reached" in line]) == 2  # a log line and the row
    shown += [repr(notifier._channels), *capfd.readouterr()]
    assert [line for line in shown if TOKEN in line or str(hook.port) in line] == []


def test_a_channel_that_does_not_answer_is_given_up_after_the_time_limit(
    gateway: ServiceContext, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as a failure, even if the channel answers later."""
    monkeypatch.setattr("services.gateway.alerts.channels.TIMEOUT_SECONDS", 0.2)
    answer = threading.Event()
    _hold(hook, answer)
    open_alert(gateway)
    notifier_to(gateway, hook).send()
    answer.set()
    assert notifications(gateway)[0].error == "1 JSON: no answer within 0.2 s"


def _hold(hook: Webhook, answer: threading.Event) -> None:
    """Make the webhook wait for the event before it answers."""
    take = hook.take

    def wait_then_take(body: bytes) -> int:
        answer.wait(20)
        return take(body)

    hook.take = wait_then_take  # type: ignore[method-assign]


def test_without_channels_nothing_is_sent_and_nothing_fails(gateway: ServiceContext) -> None:
    """The alerts are still evaluated, and their rows can be read."""
    kinds = [type(part) for part in watchers(gateway, Settings(), None)]
    assert (Evaluator in kinds, Notifier in kinds) == (True, False)
    open_alert(gateway)
    (row,) = notifications(gateway)
    assert (row.sent_at, row.tries, row.next_try_at, row.error) == (None, 0, None, None)


def test_the_notifier_runs_on_its_own_thread(
    gateway: ServiceContext, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends when it is stopped."""
    monkeypatch.setattr("services.gateway.alerts.notifier.POLL_SECONDS", 0.01)
    notifier = notifier_to(gateway, hook)
    notifier.start()
    try:
        open_alert(gateway)
        eventually(lambda: hook.taken)
        assert notifier.alive
    finally:
        notifier.stop()
    assert not notifier.alive
