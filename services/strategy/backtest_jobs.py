"""The bodies of the jobs of backtests, which ``jobs.py`` declares."""

from typing import Any

from pydantic import ConfigDict

from services.strategy.backtest import look_ahead, stored
from services.strategy.backtest.outcome import outcome
from services.strategy.backtest.request import WrongRequest, bars_of, setup_of, strategy_of
from services.strategy.backtest.run import run as run_backtest
from services.strategy.strategies.guard import StrategyFailed, gathered
from services.strategy.strategies.registry import strategies
from shared.contracts.backtests import RULES, BacktestRequest
from shared.jobs.engine.failures import Permanent
from shared.jobs.run_context import Counts, RunContext


class BacktestParameters(BacktestRequest):
    """The parameters of a run of ``backtest``. Its schema has the parameters of each strategy."""

    model_config = ConfigDict(populate_by_name=True)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return with_strategies(super().model_json_schema(*args, **kwargs))


def with_strategies(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with one for the parameters of each kind of strategy, so that the gateway can refuse wrong ones.

    Rules have none: they are read in more notations than a schema can say.
    """
    known = sorted(set(strategies()) - {RULES})
    definitions, cases = schema.setdefault("$defs", {}), []
    for kind in known:
        own = strategies()[kind].parameters_model.model_json_schema(ref_template=f"#/$defs/{kind}.{{model}}")
        definitions |= {f"{kind}.{name}": part for name, part in own.pop("$defs", {}).items()}
        definitions[f"strategy.{kind}"] = own
        asked = {"properties": {"kind": {"const": kind}}, "required": ["kind"]}
        cases.append({"if": asked, "then": {"properties": {"parameters": {"$ref": f"#/$defs/strategy.{kind}"}}}})
    choice = definitions["StrategyChoice"]
    choice["properties"]["kind"] = {"enum": [*known, RULES]}
    choice["allOf"] = cases
    return schema


def backtest(run: RunContext) -> Counts:
    """Run a strategy over stored bars, and save the result. Raises Permanent for a request that cannot be run."""
    request = BacktestParameters.model_validate(run.parameters)
    try:
        strategy = strategy_of(request.strategy, request.symbols)
        needed = gathered(lambda found: bars_of(found, request), strategy)
        with run.context.engine.connect() as connection:
            series = stored.series_of(connection, request, needed)
            dividends = stored.dividends_of(connection, request)
            pairs = stored.pairs_of(connection, request, series)
    except WrongRequest as error:
        raise Permanent(str(error)) from None
    except StrategyFailed as error:
        raise Permanent(f"strategy: {error}") from None
    terms = (strategy, request.settings, request.cash, request.begin, run.id)
    setup = setup_of(*terms, dividends=dividends, pairs=pairs)
    try:
        result = run_backtest(setup, series, run.progress)
        found = outcome(result, request.begin)
        if request.look_ahead:
            found["look_ahead"] = look_ahead.check(setup, series, run.progress)
    except StrategyFailed as error:
        raise Permanent(f"strategy: {error}") from None
    asked = request.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    with run.context.engine.begin() as connection:
        stored.save(connection, run.id, "backtest", asked, found, run.context.clock())
    return {
        "bars": result.bars,
        "decisions": result.decisions,
        "fills": found["fills_total"],
        "round_trips": found["round_trips_total"],
    }
