"""Job control: an operator's change to jobs, runs or queues, in one transaction, with errors that name the field."""

from collections.abc import Callable
from typing import TypeVar

from psycopg.errors import DeadlockDetected
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool

from services.gateway.http.errors import Conflict, Invalid, NotFound
from services.gateway.http.requests import Gateway
from shared.bus.unit_of_work import UnitOfWork
from shared.jobs.admin import control
from shared.jobs.admin.removal import JobDeclared
from shared.jobs.settings import InvalidSetting

Result = TypeVar("Result")
#: PostgreSQL ends one of two transactions that wait for each other, and another try succeeds.
MOST_TRIES = 3


async def change(gateway: Gateway, make: Callable[[UnitOfWork], Result]) -> Result:
    """Make a change of ``shared.jobs.admin.control`` and return its result.

    Raises NotFound where the job, run or queue is unknown, Conflict where the state of the job or run forbids it, and
    Invalid where a field of the request is wrong.
    """
    try:
        return await run_in_threadpool(_commit, gateway, make)
    except control.UnknownJob as error:
        raise unknown_job(str(error)) from None
    except control.UnknownRun as error:
        raise NotFound(f"run_id: there is no run {error}", field="run_id") from None
    except control.UnknownQueue as error:
        raise NotFound(
            f"name: there is no queue {str(error)[:100]!r}; GET /api/queues lists them", field="name"
        ) from None
    except (control.RunFinished, control.RunUnfinished) as error:
        raise Conflict(f"run_id: {error}", field="run_id") from None
    except (control.JobRetired, JobDeclared) as error:
        raise Conflict(f"name: {error}", field="name") from None
    except control.TooManyRuns as error:
        raise Conflict(str(error)) from None
    except control.NotPassed as error:
        raise Invalid(f"to: {error}", field="to") from None
    except (control.NotBackfilled, control.NoSlots, control.TooManySlots) as error:
        raise Invalid(f"from: {error}", field="from") from None
    except InvalidSetting as error:
        raise Invalid(str(error), field=error.field) from None


def _commit(gateway: Gateway, make: Callable[[UnitOfWork], Result], tries: int = MOST_TRIES) -> Result:
    """Make the change. A part that ends meanwhile locks its row before that of the whole run, so it may deadlock."""
    try:
        with gateway.context.unit_of_work() as uow:
            return make(uow)
    except OperationalError as error:
        if tries == 1 or not isinstance(error.orig, DeadlockDetected):
            raise
        return _commit(gateway, make, tries - 1)


def unknown_job(name: str) -> NotFound:
    """Make the error for a job that no service has declared."""
    return NotFound(f"name: there is no job {name[:100]!r}; GET /api/jobs/status lists them", field="name")
