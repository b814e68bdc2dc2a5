"""What alerts and notices say, and whom a notice is for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.gateway.alerts import alert as words
from services.gateway.alerts.alert import Alert
from services.gateway.alerts.notice import MOST_SINGLE, Notice, texts

NOW = datetime(2026, 3, 2, 14, 30, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NOTICE = Notice(7, "slot_late", "revalue", "warning", "Job revalue is late.", NOW, None, frozenset(), 1)
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
    words.heartbeat_gone(worker="a", service="orders", kind="worker", host="box", pid=7, heartbeat_at=NOW, alive=0),
    words.heartbeat_gone(worker="a", service="orders", kind="scheduler", host="box", pid=7, heartbeat_at=NOW, alive=1),
]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.kind)
def test_an_alert_is_one_sentence(alert: Alert) -> None:
    """It names its subject or its service, and ends with what to do."""
    assert alert.message.endswith(".")
    assert ". " not in alert.message
    assert "None" not in alert.message
    assert alert.subject in alert.message or str(alert.facts["service"]) in alert.message


def test_of_a_traceback_the_last_line_is_told() -> None:
    """Shortened; the rest is in the run's own row."""
    assert words.last_line("Traceback\n  File x\nValueError: " + "y" * 500) == ("ValueError: " + "y" * 500)[:200]
    assert words.last_line(" \n") == "no error was kept"


@pytest.mark.parametrize(
    ("length", "text"), [(60, "1 minute"), (90, "90 seconds"), (7200, "2 hours"), (86400, "1 day"), (1, "1 second")]
)
def test_a_span_is_told_in_its_largest_unit(length: int, text: str) -> None:
    """As long as none is left over."""
    assert words.span(timedelta(seconds=length)) == text


def test_a_notice_names_its_alert_and_when_it_stood() -> None:
    """By the number a receiver knows a repeat."""
    (opened,) = texts([NOTICE])
    assert opened.title == "PaperProfit warning: slot late: revalue"
    assert opened.body == "Job revalue is late.\n\nAlert 7, opened at 2026-03-02 14:30:05 UTC."
    (over,) = texts([replace(NOTICE, resolved_at=NOW + MINUTE)])
    assert over.title == "PaperProfit resolved: slot late: revalue"
    assert over.body.endswith("opened at 2026-03-02 14:30:05 UTC, over at 2026-03-02 14:31:05 UTC.")


def test_a_digest_is_as_urgent_as_the_worst_of_it() -> None:
    """Of nothing but ends it is good news."""
    ends = [replace(NOTICE, id=number, resolved_at=NOW) for number in range(MOST_SINGLE + 1)]
    assert [(text.mood, text.title) for text in texts(ends)] == [("resolved", "PaperProfit: 11 over")]
    (mixed,) = texts([*ends, replace(NOTICE, severity="critical"), NOTICE])
    assert (mixed.mood, mixed.title, len(mixed.notices)) == ("critical", "PaperProfit: 2 alerts, 11 over", 13)


def test_a_notice_is_for_those_who_do_not_know_yet() -> None:
    """Of an alert that stands: all who were not told. Of its end: those who were, and, where they are gone, all."""
    known = replace(NOTICE, told=frozenset({"1 Slack"}))
    over = replace(known, resolved_at=NOW)
    assert NOTICE.pending(BOTH) == {"1 Slack", "2 E-Mail"}
    assert known.pending(BOTH) == {"2 E-Mail"}
    assert over.pending(BOTH) == {"1 Slack"}
    assert replace(over, told=frozenset({"9 Gotify"})).pending(BOTH) == {"1 Slack", "2 E-Mail"}


def test_who_was_told_is_remembered_until_he_was_told_the_end() -> None:
    """So that neither is repeated."""
    assert NOTICE.told_after(BOTH, {"1 Slack"}) == {"1 Slack"}
    over = replace(NOTICE, told=frozenset(BOTH), resolved_at=NOW)
    assert over.told_after(BOTH, {"1 Slack"}) == {"2 E-Mail"}
    assert over.told_after(BOTH, set(BOTH)) == frozenset()
