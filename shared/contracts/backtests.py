"""The request of a backtest, as HTTP, the command line and the job read it."""

from collections.abc import Sequence
from decimal import Decimal
from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shared.contracts.accounts import MAX_CASH, AccountSettings
from shared.contracts.bars import Interval
from shared.contracts.base import Symbol
from shared.contracts.currencies import Currency
from shared.contracts.protections import Protections
from shared.contracts.sizing import Sizing
from shared.contracts.written import Bounded, Printable

#: The symbols of one backtest.
MOST_SYMBOLS = 500
#: The kind of strategies that are made of rules.
RULES = "rules"


class StrategyChoice(BaseModel):
    """A strategy of the library by its ``kind``, or ``rules``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[Printable, Field(min_length=1, max_length=64)] | None = None
    parameters: dict[str, Any] = Field(default_factory=dict, max_length=100)
    rules: dict[str, Any] | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.kind is None) == (self.rules is None):
            raise ValueError("kind: give either kind, with its parameters, or rules")
        if self.rules is not None and self.parameters:
            raise ValueError("parameters: rules take none, write them into the rules")
        return self

    @property
    def named(self) -> tuple[str, dict[str, Any]]:
        """The kind and its parameters. Those of rules are the rules themselves."""
        return (self.kind, self.parameters) if self.kind is not None else (RULES, self.rules or {})


class BacktestSettings(AccountSettings):
    """The settings of the backtest's account, and what else the result depends on.

    ``half_spread`` is the fraction of the last price that is assumed where bars have no quote. Instruments in other
    currencies than the account's ``currency`` are converted by stored bars of the pair, such as EUR/USD.
    """

    sizing: Sizing = Sizing()
    protections: Protections = Protections()
    currency: Currency = "USD"
    half_spread: Annotated[Decimal, Bounded(ge=0, le=Decimal("0.5"))] = Decimal("0.0001")

    @property
    def account(self) -> AccountSettings:
        """The account's own part of the settings."""
        return AccountSettings.model_validate(
            self.model_dump(exclude={"sizing", "protections", "currency", "half_spread"})
        )


class BacktestRequest(BaseModel):
    """A strategy over the bars of symbols that start from ``from`` to before ``to``. Bars before only warm it up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: StrategyChoice
    symbols: Annotated[tuple[Symbol, ...], Field(min_length=1, max_length=MOST_SYMBOLS)]
    interval: Interval
    begin: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    cash: Annotated[Decimal, Bounded(gt=0, le=MAX_CASH, decimal_places=2)] = Decimal(100_000)
    settings: BacktestSettings = BacktestSettings()
    look_ahead: bool = Field(default=False, description="Run again on truncated bars, and report changed decisions.")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.begin >= self.end:
            raise ValueError("from: must be before to")
        return self


#: Sets of parameters that one optimisation tries, and values of one parameter.
MOST_TRIALS, MOST_VALUES = 1000, 500
ParameterName = Annotated[Printable, Field(min_length=1, max_length=64)]
Bound = Annotated[Decimal, Bounded(ge=-1_000_000_000, le=1_000_000_000)]


class ValueRange(BaseModel):
    """The values from ``from`` to ``to``, both among them, in steps of ``step``."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    begin: Bound = Field(alias="from")
    end: Bound = Field(alias="to")
    step: Annotated[Decimal, Bounded(gt=0, le=1_000_000_000)] = Decimal(1)

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if self.begin > self.end:
            raise ValueError("from: must not be above to")
        if (self.end - self.begin) / self.step >= MOST_VALUES:
            raise ValueError(f"step: comes to more than {MOST_VALUES} values")
        return self

    @property
    def values(self) -> list[Decimal]:
        return [self.begin + number * self.step for number in range(int((self.end - self.begin) / self.step) + 1)]


def values_of(given: Sequence[Decimal] | ValueRange) -> Sequence[Decimal]:
    """The values of a parameter."""
    return given.values if isinstance(given, ValueRange) else given


class Search(BaseModel):
    """The values of parameters to try: each combination (``grid``), or ``samples`` of them at random by ``seed``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["grid", "random"] = "grid"
    parameters: Annotated[
        dict[ParameterName, Annotated[tuple[Bound, ...], Field(min_length=1, max_length=MOST_VALUES)] | ValueRange],
        Field(min_length=1, max_length=10),
    ]
    samples: Annotated[int, Bounded(ge=1, le=MOST_TRIALS)] = 100
    seed: Annotated[int, Bounded(ge=0, le=2**31 - 1)] = 0

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.kind == "grid" and self.combinations > MOST_TRIALS:
            raise ValueError(f"parameters: a grid of {self.combinations} sets, at most {MOST_TRIALS}; search at random")
        return self

    @property
    def combinations(self) -> int:
        """The number of all combinations."""
        return prod(len(values_of(given)) for given in self.parameters.values())


class OptimisationRequest(BacktestRequest):
    """A backtest with each of several sets of parameters, which are laid over those of the strategy.

    The last ``out_of_sample`` part of the time chooses nothing: it shows what the choice was worth. ``folds`` is the
    number of steps of the walk-forward, each of which chooses on the time before it.
    """

    search: Search
    objective: Literal["sharpe", "sortino", "total_return", "calmar"] = "sharpe"
    out_of_sample: Annotated[Decimal, Bounded(ge=Decimal("0.05"), le=Decimal("0.9"))] = Decimal("0.3")
    folds: Annotated[int, Bounded(ge=1, le=20)] = 4
