"""The texts of alerts and notifications, and the channels that get a notification."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.gateway.alerts import alert as words
from services.gateway.alerts.alert import Alert
from services.gateway.alerts.notification import MOST_SINGLE, REPORT, Notification, messages

NOW = datetime(2026, 3, 2, 14, 30, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NOTIFICATION = Notification(7, "slot_late", "revalue", "warning", "Job revalue is late.", NOW, None, frozenset(), 1)
BOTH = ["1 Slack", "2 E-Mail"]

ALERTS = [
    words.job_failing(job="revalue", service="valuation", failures=3, failed_at=NOW, error=None),
    words.run_too_long(job="revalue", service="valuation", run_id="1f", worker=None, started_at=NOW, most=MINUTE),
    words.slot_late(job="revalue", service="valuation", due_at=NOW, most=MINUTE, waiting=None),
    words.slot_late(job="revalue", service="valuation", due_at=NOW, most=MINUTE, waiting="1f"),
    words.slot_missed(job="revalue", service="valuation", last_slot=NOW, slots=1, noticed_at=NOW),
    words.breaker_open(
        name="yahoo",
        state="open",
        since=NOW,
        failures=5,
        next_attempt_at=None,
        last_error="Traceback\nHTTPError: 503\n",
    ),
    words.dead_letters(
        service="orders", fresh=1, latest_at=NOW, queue="orders.commands", reason="KeyError", within=MINUTE
    ),
    words.queue_old(queue="orders.prices", age=9 * MINUTE, most=5 * MINUTE, ready=1, consumers=0),
    words.queue_old(queue="orders.prices", age=9 * MINUTE, most=5 * MINUTE, ready=9, consumers=2),
    words.prices_old(age=5 * MINUTE, most=2 * MINUTE),
    words.market_prices_old(market="XLON", age=5 * MINUTE, most=2 * MINUTE, providers="yahoo"),
    words.values_old(age=5 * MINUTE, most=2 * MINUTE),
    words.outbox_stuck(service="orders", age=5 * MINUTE, most=MINUTE),
    words.heartbeat_gone(worker="a", service="orders", kind="worker", host="box", pid=7, heartbeat_at=NOW, alive=0),
    words.heartbeat_gone(worker="a", service="orders", kind="scheduler", host="box", pid=7, heartbeat_at=NOW, alive=1),
    words.clock_off(worker="a", service="orders", kind="worker", host="box", ahead=timedelta(seconds=-3)),
    words.keys_guessed(what="address", name="10.0.0.1", tries=40, others=1, first_at=NOW, last_at=NOW),
    words.keys_guessed(what="key", name="PK1", tries=40, others=2, first_at=NOW, last_at=NOW),
]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.kind)
def test_an_alert_is_one_sentence(alert: Alert) -> None:
    """It names its subject or its service, and ends with the remedy."""
    assert alert.message.endswith(".")
    assert ". " not in alert.message
    assert "None" not in alert.message
    assert alert.subject in alert.message or str(alert.facts["service"]) in alert.message


def test_an_alert_shows_the_last_line_of_a_traceback() -> None:
    """The line is shortened. The run has the whole traceback."""
    assert words.last_line("Traceback\n  File x\nValueError: " + "y" * 500) == ("ValueError: " + "y" * 500)[:200]
    assert words.last_line(" \n") == "no error was recorded"


@pytest.mark.parametrize(
    ("length", "text"), [(60, "1 minute"), (90, "90 seconds"), (7200, "2 hours"), (86400, "1 day"), (1, "1 second")]
)
def test_a_duration_is_shown_in_its_largest_unit(length: int, text: str) -> None:
    """The unit must divide the duration."""
    assert words.span(timedelta(seconds=length)) == text


def test_a_message_names_its_alert_and_when_it_stood() -> None:
    """The alert's id shows a receiver that a message is repeated."""
    (opened,) = messages([NOTIFICATION])
    assert opened.title == "PaperProfit warning: slot late: revalue"
    assert opened.body == "Job revalue is late.\n\nAlert 7, opened at 2026-03-02 14:30:05 UTC."
    (resolved,) = messages([replace(NOTIFICATION, resolved_at=NOW + MINUTE)])
    assert resolved.title == "PaperProfit resolved: slot late: revalue"
    assert resolved.body.endswith("opened at 2026-03-02 14:30:05 UTC, resolved at 2026-03-02 14:31:05 UTC.")


def test_a_digest_is_as_urgent_as_its_most_urgent_alert() -> None:
    """A digest of resolutions alone is good news."""
    resolved = [replace(NOTIFICATION, id=number, resolved_at=NOW) for number in range(MOST_SINGLE + 1)]
    assert [(each.status, each.title) for each in messages(resolved)] == [("resolved", "PaperProfit: 11 resolved")]
    (mixed,) = messages([*resolved, replace(NOTIFICATION, severity="critical"), NOTIFICATION])
    assert (mixed.status, mixed.title, len(mixed.notifications)) == (
        "critical",
        "PaperProfit: 2 alerts, 11 resolved",
        13,
    )


def test_a_report_is_told_apart_from_alerts() -> None:
    """It is neither a problem nor a resolution, also in a digest."""
    report = replace(
        NOTIFICATION, kind=REPORT, message="Daily report, 2 March 2026. Account a is fine.", resolved_at=NOW
    )
    (single,) = messages([report], {report.id: "<p>page</p>"})
    assert (single.title, single.status, single.page) == (
        "PaperProfit: Daily report, 2 March 2026",
        "report",
        "<p>page</p>",
    )
    reports = [replace(report, id=number) for number in range(MOST_SINGLE)]
    (digest,) = messages([*reports, NOTIFICATION])
    assert (digest.title, digest.status, digest.page) == ("PaperProfit: 1 alert, 10 reports", "warning", None)


def test_a_notification_goes_to_the_channels_that_do_not_know_yet() -> None:
    """An alert goes to all that do not have it, its resolution to those that have it, or to all if they are gone."""
    known = replace(NOTIFICATION, sent_to=frozenset({"1 Slack"}))
    resolved = replace(known, resolved_at=NOW)
    assert NOTIFICATION.pending(BOTH) == {"1 Slack", "2 E-Mail"}
    assert known.pending(BOTH) == {"2 E-Mail"}
    assert resolved.pending(BOTH) == {"1 Slack"}
    assert replace(resolved, sent_to=frozenset({"9 Gotify"})).pending(BOTH) == {"1 Slack", "2 E-Mail"}


def test_a_channel_is_remembered_until_it_got_the_resolution() -> None:
    """Neither message is repeated."""
    assert NOTIFICATION.sent_to_after(BOTH, {"1 Slack"}) == {"1 Slack"}
    resolved = replace(NOTIFICATION, sent_to=frozenset(BOTH), resolved_at=NOW)
    assert resolved.sent_to_after(BOTH, {"1 Slack"}) == {"2 E-Mail"}
    assert resolved.sent_to_after(BOTH, set(BOTH)) == frozenset()
