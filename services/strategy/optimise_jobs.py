"""The body of the job ``optimise``, which ``jobs.py`` declares: its parts, their work, and their join."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict

from services.strategy.backtest import stored
from services.strategy.backtest.heat_map import heat_map
from services.strategy.backtest.optimise import choice_of, in_parts, joined, trial, trials_of
from services.strategy.backtest.request import WrongRequest, bars_of, strategy_of
from services.strategy.backtest_jobs import with_strategies
from services.strategy.strategies.guard import StrategyFailed
from shared.contracts.backtests import MOST_TRIALS, OptimisationRequest
from shared.contracts.written import Bounded
from shared.jobs.engine.failures import Permanent
from shared.jobs.run_context import Counts, RunContext

#: Parts of a run. More than the workers have threads, so that one that is slow delays the others little.
MOST_PARTS = 16


class OptimiseParameters(OptimisationRequest):
    """The parameters of a run of ``optimise``, and in a part its whole run and the trials from ``first`` to ``end``."""

    model_config = ConfigDict(populate_by_name=True)

    whole: UUID | None = None
    first: Annotated[int, Bounded(ge=0, le=MOST_TRIALS)] | None = None
    last: Annotated[int, Bounded(ge=0, le=MOST_TRIALS)] | None = None

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return with_strategies(super().model_json_schema(*args, **kwargs))


def parts_of_optimise(run: RunContext) -> Sequence[dict[str, Any]]:
    """Make a part for each stretch of trials. Raises Permanent for a request that cannot be run."""
    request = OptimiseParameters.model_validate(run.parameters)
    try:
        trials = trials_of(request)
    except WrongRequest as error:
        raise Permanent(str(error)) from None
    return [
        {"whole": str(run.id), "first": first, "last": last}
        for first, last in in_parts(len(trials), min(len(trials), MOST_PARTS))
    ]


def optimise(run: RunContext) -> Counts:
    """Run the trials of one part, and save each."""
    request = OptimiseParameters.model_validate(run.parameters)
    if request.whole is None or request.first is None or request.last is None:
        raise Permanent("whole: is missing in a part")
    try:
        trials = trials_of(request)[request.first : request.last]
        warm_up = max(bars_of(strategy_of(choice_of(request, each)), request) for each in trials)
        with run.context.engine.connect() as connection:
            series = stored.series_of(connection, request, warm_up)
            dividends = stored.dividends_of(connection, request)
            pairs = stored.pairs_of(connection, request, series)
    except WrongRequest as error:
        raise Permanent(str(error)) from None
    for number, parameters in enumerate(trials):
        run.progress(number, len(trials))
        try:
            found = trial(request, parameters, series, dividends=dividends, pairs=pairs)
        except StrategyFailed as error:
            raise Permanent(f"strategy: {error}, with the parameters {parameters}"[:1000]) from None
        with run.context.engine.begin() as connection:
            stored.save_trial(connection, request.whole, request.first + number, found, run.context.clock())
    run.progress(len(trials), len(trials))
    return {"trials": len(trials)}


def join_optimise(run: RunContext, results: Sequence[Counts]) -> Counts:
    """Join the trials of all parts into one outcome."""
    request = OptimiseParameters.model_validate(run.parameters)
    asked = request.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    with run.context.engine.begin() as connection:
        trials = stored.trials(connection, run.id)
        outcome = joined(request, trials)
        outcome["heat_map"] = heat_map(trials, request.objective)
        stored.save(connection, run.id, "optimisation", asked, outcome, run.context.clock())
    return {"trials": sum(each["trials"] for each in results)}
