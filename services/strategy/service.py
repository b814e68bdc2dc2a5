"""The service strategy: its actors and jobs, the catalog of kinds, and the demo's strategies."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from services.strategy.actors import actors
from services.strategy.jobs import jobs
from services.strategy.persistence import strategies
from services.strategy.persistence.market import REPLAY
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.rebalancing.follower import RebalanceFollower
from services.strategy.strategies.protections import Watch
from services.strategy.strategies.registry import strategies as known_strategies
from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.strategy import StrategyState
from shared.service import Service
from shared.settings import DEMO_ACCOUNT_ID, ServiceSettings

#: The demo's strategies trade small lots on the replayed bars: a crossover of averages, and rules without code.
DEMO_STRATEGIES = (
    StrategyRow(
        id=uuid5(NAMESPACE_URL, "paperprofit:demo-strategy"),
        name="demo-sma",
        account_id=DEMO_ACCOUNT_ID,
        kind="sma_crossover",
        parameters={"fast": 3, "slow": 8},
        symbols=("AAPL", "IBM", "MSFT"),
        interval=REPLAY,
        sizing={"kind": "qty", "value": "10", "max_position_qty": "50"},
        state=StrategyState.RUNNING,
    ),
    StrategyRow(
        id=uuid5(NAMESPACE_URL, "paperprofit:demo-rules"),
        name="demo-rules",
        account_id=DEMO_ACCOUNT_ID,
        kind="rules",
        parameters={
            "long": {
                "entry": {"left": {"price": "close"}, "op": ">", "right": {"indicator": "sma", "period": 20}},
                "exit": {"left": {"price": "close"}, "op": "<", "right": {"indicator": "sma", "period": 20}},
            },
            "time_stop": 120,
        },
        symbols=("AAPL", "IBM", "MSFT"),
        interval=REPLAY,
        sizing={"kind": "qty", "value": "5", "max_position_qty": "20"},
        protections={"cool_down_minutes": 1},
        state=StrategyState.RUNNING,
    ),
)


def _catalog() -> list[tuple[str, str, str, dict[str, Any]]]:
    """Kind, title, source and the JSON schema of the parameters of each strategy."""
    return [
        (kind, each.title, each.source, each.parameters_model.model_json_schema())
        for kind, each in sorted(known_strategies().items())
    ]


def prepare(context: ServiceContext) -> None:
    """Publish the kinds that this release knows. Add the demo's strategies in a demo."""
    now = context.clock()
    with context.engine.begin() as connection:
        strategies.save_kinds(connection, _catalog())
        if ServiceSettings().demo:
            for each in DEMO_STRATEGIES:
                strategies.add(connection, replace(each, watch=Watch(since=now)), now)


def components(context: ServiceContext) -> Sequence[Background]:
    """Let rebalances go on, beside the messages."""
    return (RebalanceFollower(context),)


service = Service("strategy", actors, jobs, prepare, components=components)
