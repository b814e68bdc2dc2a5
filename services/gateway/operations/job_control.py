"""An operator's change to the job engine: made in one transaction, and a refusal that names the field."""

from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from services.gateway.http.errors import Conflict, Invalid, NotFound, RequestRefused
from services.gateway.http.requests import Gateway
from shared.bus.unit_of_work import UnitOfWork
from shared.jobs.admin import control
from shared.jobs.settings import InvalidSetting

Result = TypeVar("Result")

_REFUSED = (
    control.UnknownJob,
    control.UnknownRun,
    control.UnknownQueue,
    control.RunFinished,
    control.RunUnfinished,
    control.NoSlots,
    control.TooManySlots,
    InvalidSetting,
)


async def steer(gateway: Gateway, change: Callable[[UnitOfWork], Result]) -> Result:
    """What the change returns; raises RequestRefused."""

    def make() -> Result:
        with gateway.context.unit_of_work() as uow:
            return change(uow)

    try:
        return await run_in_threadpool(make)
    except _REFUSED as error:
        raise _refusal(error) from None


def _refusal(error: Exception) -> RequestRefused:
    match error:
        case control.UnknownJob():
            return unknown_job(str(error))
        case control.UnknownRun():
            return NotFound(f"run_id: there is no run {error}", field="run_id")
        case control.UnknownQueue():
            return _unknown("queue", str(error), "GET /api/queues")
        case control.RunFinished() | control.RunUnfinished():
            return Conflict(f"run_id: {error}", field="run_id")
        case InvalidSetting(field=field):
            return Invalid(str(error), field=field)
    return Invalid(f"from: {error}", field="from")


def unknown_job(name: str) -> NotFound:
    return _unknown("job", name, "GET /api/jobs/status")


def _unknown(what: str, name: str, where: str) -> NotFound:
    return NotFound(f"name: there is no {what} named {name[:100]!r}; {where} lists them", field="name")
