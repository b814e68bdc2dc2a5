"""Declaring a job, next to the service's actors.

jobs = Jobs("marketdata")

@jobs.job("update_market_data", schedule="1m", priority="high", description="Fetch current prices from the provider.")
def update_market_data(run: RunContext) -> Counts: ...

shared/jobs/settings.py explains the settings. An operator can change them while everything runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from shared.contracts.markets import DEFAULT_MARKET
from shared.jobs.checks import check_chains
from shared.jobs.run_context import Counts, RunContext
from shared.jobs.settings import InvalidSetting, check_settings

#: Returns the reason not to run, or None. While the reason stays the same its text must too: skips for one reason are
#: one row. Runs that people start ignore the condition.
Condition = Callable[[RunContext], str | None]


@dataclass(frozen=True)
class Job:
    """A declared job. ``settings`` are its defaults, which the configuration file and operators override.

    ``parameters`` is the model of a run's parameters. ``needs`` names breakers: while one of them is open, runs are
    postponed. ``parts`` returns several sets of parameters, and ``run`` runs once for each of them, several at a time.
    ``join`` makes the counts of the whole run from the counts of its parts, in their order. By default they are summed.
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
    market: str = DEFAULT_MARKET
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
        """Declare a job. ``settings`` are fields of JobSettings. Raises InvalidSetting for any other."""

        def declare(run: Callable[[RunContext], Counts]) -> Callable[[RunContext], Counts]:
            given = check_settings({"market": self.market, **settings})
            check_chains({name: given.get("after")}, name)
            self.declared[name] = Job(name, self.service, description, run, given, parameters, when, needs, parts, join)
            return run

        return declare

    def configured(self, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Job]:
        """Put the configuration file's settings over the declared ones. Raises InvalidJob if they contradict."""
        configured = {}
        for name, job in self.declared.items():
            changes = overrides.get(name, {})
            try:
                check_settings(changes, base=job.settings)
            except InvalidSetting as error:
                raise InvalidJob(name, error) from None
            configured[name] = replace(job, settings={**job.settings, **changes})
        after = {name: job.settings.get("after") for name, job in configured.items()}
        for name in configured:
            try:
                check_chains(after, name)
            except InvalidSetting as error:
                raise InvalidJob(name, error) from None
        return configured


class InvalidJob(ValueError):
    """The settings of ``job`` are valid one by one, but not together."""

    def __init__(self, job: str, error: InvalidSetting) -> None:
        super().__init__(f"{job}.{error}")
        self.job = job
        self.error = error
