"""Declaring a job, next to the service's actors.

jobs = Jobs("marketdata")

@jobs.job("update_market_data", schedule="1m", priority="high", description="Fetch current prices from the provider.")
def update_market_data(run: JobRun) -> Counts: ...

What the keywords of settings mean, shared/jobs/settings.py says; an operator can change them while everything runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from shared.jobs.run_context import Counts, RunContext
from shared.jobs.settings import InvalidSetting, check_settings

#: Why this run should not be, in a few words that are the same each time; None where it should.
Condition = Callable[[RunContext], str | None]


@dataclass(frozen=True)
class Job:
    """A job as declared; ``settings`` are its defaults, which the configuration file and the live table override.

    ``parameters`` is the model of what a run may be given. ``needs`` are the dependencies without which the job is put
    off: names of breakers. With ``parts``, a run is one run of ``run`` for each set of parameters that it answers,
    several at a time; ``join`` is given what each counted, in their order, and makes the counts of the whole.
    """

    name: str
    service: str
    description: str
    run: Callable[[RunContext], Counts]
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: type[BaseModel] | None = None
    when: Condition | None = None
    needs: tuple[str, ...] = ()
    parts: Callable[[RunContext], Sequence[Mapping[str, Any]]] | None = None
    join: Callable[[RunContext, Sequence[Counts]], Counts] | None = None


@dataclass
class Jobs:
    """The jobs of one service."""

    service: str
    market: str = "DEMO"
    declared: dict[str, Job] = field(default_factory=dict)

    def job(
        self,
        name: str,
        *,
        description: str,
        parameters: type[BaseModel] | None = None,
        when: Condition | None = None,
        needs: tuple[str, ...] = (),
        parts: Callable[[RunContext], Sequence[Mapping[str, Any]]] | None = None,
        join: Callable[[RunContext, Sequence[Counts]], Counts] | None = None,
        **settings: Any,
    ) -> Callable[[Callable[[RunContext], Counts]], Callable[[RunContext], Counts]]:
        """``settings`` are fields of JobSettings; raises InvalidSetting for what it does not take."""

        def declare(run: Callable[[RunContext], Counts]) -> Callable[[RunContext], Counts]:
            given = check_settings({"market": self.market, **settings})
            self.declared[name] = Job(name, self.service, description, run, given, parameters, when, needs, parts, join)
            return run

        return declare

    def configured(self, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Job]:
        """The declared jobs with the configuration file's settings over them; raises InvalidJob where they clash."""
        return {name: _over(job, overrides.get(name, {})) for name, job in self.declared.items()}


class InvalidJob(ValueError):
    """Settings that are right by themselves and wrong together; ``job`` has them."""

    def __init__(self, job: str, error: InvalidSetting) -> None:
        super().__init__(f"{job}.{error}")
        self.job = job
        self.error = error


def _over(job: Job, overrides: Mapping[str, Any]) -> Job:
    try:
        check_settings(overrides, base=job.settings)
    except InvalidSetting as error:
        raise InvalidJob(job.name, error) from None
    return replace(job, settings={**job.settings, **overrides})
