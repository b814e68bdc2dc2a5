"""``/api/replay``: the place of the replay, and its control."""

from decimal import Decimal
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Moment
from services.gateway.instruments import history_queries
from services.gateway.trading import commands
from shared.contracts.replay import ControlReplay, ReplayControl


class NewControl(ReplayControl):
    """The change to make. ``seek`` needs ``at``, a recorded time, and ``speed`` needs ``speed``, in bars a second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Moment | None = None


class ReplayStatus(BaseModel):
    """The place of the replay. ``at`` is the recorded time of its newest bar, ``speed`` null for the configured one.

    ``file`` is null for the recorded prices that come with the product. ``updated_at`` is null before the first price.
    """

    file: str | None
    paused: bool
    speed: Decimal | None
    at: AwareDatetime | None
    first: AwareDatetime | None
    last: AwareDatetime | None
    updated_at: AwareDatetime | None


async def get_replay(gateway: Gateway) -> ReplayStatus:
    """Get the place of the replay."""
    row = await read(gateway, history_queries.replay_state) or {"state": None, "updated_at": None}
    state: dict[str, Any] = row["state"] or {}
    names = ("file", "speed", "at", "first", "last")
    told = {name: state.get(name) for name in names}
    return ReplayStatus(**told, paused=bool(state.get("paused")), updated_at=row["updated_at"])


async def post_replay(gateway: Gateway, principal: Principal, body: NewControl) -> ReplayControl:
    """Pause or resume the replay, move it to another recorded time, or change its speed.

    It takes effect within a second, and stays over restarts.
    """
    command = ControlReplay(**body.model_dump())
    after = body.model_dump(mode="json", exclude_none=True)
    publish = commands.recorded(command, principal, "control_replay", "replay", after)
    await commands.send(gateway, publish, (), account_id=None)
    return body


endpoints = (
    Endpoint("GET", "/api/replay", get_replay, OPERATE),
    Endpoint("POST", "/api/replay", post_replay, OPERATE, 202),
)
