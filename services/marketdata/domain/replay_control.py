"""The control of a replay, which is a part of its stored state: whether it is paused, its speed, and its place."""

from collections.abc import Mapping
from typing import Any

from shared.contracts.replay import ReplayAction, ReplayControl


def controlled(state: Mapping[str, Any], control: ReplayControl) -> dict[str, Any]:
    """The state after a pause, a resumption or a change of speed. A seek is its provider's."""
    if control.action is ReplayAction.SPEED:
        return {**state, "speed": str(control.speed)}
    if control.action is ReplayAction.SEEK:
        return dict(state)
    return {**state, "paused": control.action is ReplayAction.PAUSE}
