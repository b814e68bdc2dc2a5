"""A notification: the news of an alert that its channels do not have yet, and the messages that tell it.

A channel gets two messages about an alert: when it opens, and when it is resolved. An alert that is resolved before
the channel got the first message gets neither. A burst of notifications becomes one message. A finished report gets
one message, because its notification is over from the begin on.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.gateway.alerts.alert import Severity, clock_time, counted

#: More notifications than this become one digest.
MOST_SINGLE = 10

Status = Literal["critical", "warning", "resolved", "report"]
_MOST_URGENT_FIRST: tuple[Status, ...] = ("critical", "warning", "resolved", "report")
#: The kind of a notification that announces a report.
REPORT = "account_report"


@dataclass(frozen=True)
class Notification:
    """``sent_to`` are the channels that know of the alert and do not know that it is resolved."""

    id: int
    kind: str
    subject: str
    severity: Severity
    message: str
    opened_at: datetime
    resolved_at: datetime | None
    sent_to: frozenset[str]
    tries: int

    @property
    def status(self) -> Status:
        if self.kind == REPORT:
            return "report"
        return self.severity if self.resolved_at is None else "resolved"

    def pending(self, channels: Sequence[str]) -> frozenset[str]:
        """Return the channels that it must be sent to now.

        The resolution goes to the channels that know of the alert. If all of them are gone from the settings, it goes
        to every channel.
        """
        if self.resolved_at is None:
            return frozenset(channels) - self.sent_to
        return frozenset(channels) & self.sent_to or frozenset(channels)

    def sent_to_after(self, channels: Sequence[str], delivered: AbstractSet[str]) -> frozenset[str]:
        """Return ``sent_to`` after the delivery to these channels."""
        return self.sent_to | delivered if self.resolved_at is None else self.pending(channels) - delivered


@dataclass(frozen=True)
class Message:
    """A message about the notifications with these ids. ``page`` is a report in HTML, for channels that take files."""

    title: str
    body: str
    status: Status
    notifications: tuple[int, ...]
    page: str | None = None


def messages(notifications: Sequence[Notification], pages: Mapping[int, str] | None = None) -> list[Message]:
    """Make a message for each notification, or one digest of a burst. The alert's id tells repeated messages apart.

    ``pages`` are those of reports, by the ids of their notifications. A digest has none.
    """
    if len(notifications) > MOST_SINGLE:
        count = Counter("open" if each.status in {"critical", "warning"} else each.status for each in notifications)
        counts = [
            *([counted(count["open"], "alert")] if count["open"] else []),
            *([f"{count['resolved']} resolved"] if count["resolved"] else []),
            *([counted(count["report"], "report")] if count["report"] else []),
        ]
        body = "\n".join(f"[{each.id}] {each.status}: {each.message}" for each in notifications)
        most_urgent = min((each.status for each in notifications), key=_MOST_URGENT_FIRST.index)
        title = f"PaperProfit: {', '.join(counts)}"
        return [Message(title, body, most_urgent, tuple(each.id for each in notifications))]
    single = []
    for each in notifications:
        if each.status == "report":
            title, body = each.message.partition(".")[0], f"{each.message}\n\nNotification {each.id}."
            single.append(Message(f"PaperProfit: {title}", body, "report", (each.id,), (pages or {}).get(each.id)))
            continue
        title = f"PaperProfit {each.status}: {each.kind.replace('_', ' ')}: {each.subject}"
        text, times = each.message, f"opened at {clock_time(each.opened_at)}"
        if each.resolved_at is not None:
            text, times = f"Resolved: {text}", f"{times}, resolved at {clock_time(each.resolved_at)}"
        single.append(Message(title, f"{text}\n\nAlert {each.id}, {times}.", each.status, (each.id,)))
    return single
