"""A notice: what a target still has to be told of an alert, and how that reads.

Of each alert a target is told twice, when it opens and when it is over; of one that was over before the target heard
of it, not at all. A burst becomes one message.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.gateway.alerts.alert import clock_time, counted

#: More than these at a time are told in one message.
MOST_SINGLE = 10

Mood = Literal["warning", "critical", "resolved"]


@dataclass(frozen=True)
class Notice:
    """``told`` are the targets that know of the alert and do not know that it is over."""

    id: int
    kind: str
    subject: str
    severity: Literal["warning", "critical"]
    message: str
    opened_at: datetime
    resolved_at: datetime | None
    told: frozenset[str]
    tries: int

    @property
    def mood(self) -> Mood:
        return self.severity if self.resolved_at is None else "resolved"

    def pending(self, targets: Sequence[str]) -> frozenset[str]:
        """Who has to be told now. All are told the end where those who knew the alert are gone from the settings."""
        if self.resolved_at is None:
            return frozenset(targets) - self.told
        return frozenset(targets) & self.told or frozenset(targets)

    def told_after(self, targets: Sequence[str], taken: AbstractSet[str]) -> frozenset[str]:
        """``told`` when these targets have taken the notice."""
        return self.told | taken if self.resolved_at is None else self.pending(targets) - taken


@dataclass(frozen=True)
class Text:
    """One message about one notice or many."""

    title: str
    body: str
    mood: Mood
    notices: tuple[int, ...]


def texts(notices: Sequence[Notice]) -> list[Text]:
    """What to send: each notice by itself, or a burst of them as one digest."""
    if len(notices) <= MOST_SINGLE:
        return [_single(notice) for notice in notices]
    return [_digest(notices)]


def _single(notice: Notice) -> Text:
    title = f"PaperProfit {notice.mood}: {notice.kind.replace('_', ' ')}: {notice.subject}"
    return Text(title, f"{_said(notice)}\n\n{_reference(notice)}", notice.mood, (notice.id,))


def _said(notice: Notice) -> str:
    return notice.message if notice.resolved_at is None else f"This is over: {notice.message}"


def _reference(notice: Notice) -> str:
    """By its number a receiver sees that a message is a repeat."""
    began = f"Alert {notice.id}, opened at {clock_time(notice.opened_at)}"
    return f"{began}." if notice.resolved_at is None else f"{began}, over at {clock_time(notice.resolved_at)}."


def _digest(notices: Sequence[Notice]) -> Text:
    over = sum(notice.resolved_at is not None for notice in notices)
    opened = len(notices) - over
    parts = [text for number, text in ((opened, counted(opened, "alert")), (over, f"{over} over")) if number]
    lines = [f"[{notice.id}] {notice.mood}: {_said(notice)}" for notice in notices]
    return Text(f"PaperProfit: {', '.join(parts)}", "\n".join(lines), _worst(notices), tuple(n.id for n in notices))


def _worst(notices: Sequence[Notice]) -> Mood:
    moods = {notice.mood for notice in notices}
    order: tuple[Mood, ...] = ("critical", "warning", "resolved")
    return next(mood for mood in order if mood in moods)
