"""The control of a replay, which is a part of its stored state: whether it is paused, its speed, and its place."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from shared.contracts.replay import ReplayAction, ReplayControl

#: The keys of a state that control keeps: a step of the replay leaves them as they are.
_KEPT = ("paused", "speed")


def kept(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part of the state that a step does not change."""
    return {name: state[name] for name in _KEPT if name in state} if state else {}


def is_paused(state: Mapping[str, Any] | None) -> bool:
    return bool((state or {}).get("paused"))


def controlled(state: Mapping[str, Any], control: ReplayControl) -> dict[str, Any]:
    """The state after a pause, a resumption or a change of speed. A seek is its provider's."""
    if control.action is ReplayAction.SPEED:
        return {**state, "speed": str(control.speed)}
    if control.action is ReplayAction.SEEK:
        return dict(state)
    return {**state, "paused": control.action is ReplayAction.PAUSE}


def midnight(day: date) -> datetime:
    """The start of a daily bar."""
    return datetime.combine(day, time(), UTC)
