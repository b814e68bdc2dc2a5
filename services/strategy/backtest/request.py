"""A request of a backtest as a setup, with mistakes in one sentence that begins with the field."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from services.strategy.backtest.dividends import Dividend
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import SEED, Setup
from services.strategy.strategies.needs import bars_needed, indicators_of
from services.strategy.strategies.registry import UnknownStrategy, make_strategy
from services.strategy.strategies.rule_paths import path_of
from services.strategy.strategies.strategy import Strategy
from shared.contracts.backtests import RULES, BacktestRequest, BacktestSettings, StrategyChoice
from shared.exchange.market_rules import MarketRules


class WrongRequest(ValueError):
    """The request cannot be run. The message begins with the field, and says what to do."""


def strategy_of(choice: StrategyChoice, symbols: Iterable[str] | None = None) -> Strategy[Any]:
    """The strategy, for these symbols where they are known already. Raises WrongRequest."""
    kind, parameters = choice.named
    try:
        strategy = make_strategy(kind, parameters)
    except UnknownStrategy as error:
        raise WrongRequest(str(error)) from None
    except ValidationError as error:
        raise WrongRequest(sentence(error, "rules" if kind == RULES else "parameters")) from None
    missing = strategy.missing_symbol(symbols) if symbols is not None else None
    if missing is not None:
        raise WrongRequest(f"parameters.{missing}")
    return strategy


def setup_of(
    strategy: Strategy[Any],
    settings: BacktestSettings,
    cash: Decimal,
    begin: datetime | None = None,
    seed: UUID = SEED,
    *,
    dividends: Iterable[Dividend] = (),
    pairs: Iterable[Series] = (),
) -> Setup:
    return Setup(
        strategy=strategy,
        sizing=settings.sizing,
        protections=settings.protections,
        cash=cash,
        settings=settings.account,
        rules=MarketRules(half_spread=settings.half_spread),
        currency=settings.currency,
        pairs=tuple(pairs),
        begin=begin,
        seed=seed,
        dividends=tuple(dividends),
    )


def bars_of(strategy: Strategy[Any], request: BacktestRequest) -> int:
    """The bars before ``from`` on which the strategy's values depend."""
    return bars_needed(strategy, indicators_of(strategy, request.settings.sizing), request.interval)


def sentence(error: ValidationError, prefix: str = "") -> str:
    """The first mistake as ``field: message``, and the number of further ones."""
    first: Mapping[str, Any] = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(path_of(first["loc"]) if prefix == "rules" else map(str, first["loc"]))
    message = str(first["msg"]).removeprefix("Value error, ")
    place = ".".join(part for part in (prefix, path) if part)
    more = error.error_count() - 1
    return f"{place}: {message}"[:400] + (f" ({more} more)" if more else "")
