"""Technical indicators by their names, with their parameters and outputs, and the commands that add and remove them."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, model_validator

from shared.contracts.base import Symbol
from shared.contracts.halts import OfSymbol
from shared.contracts.written import Bounded


class IndicatorName(StrEnum):
    SMA = "sma"
    EMA = "ema"
    RSI = "rsi"
    MACD = "macd"
    BOLLINGER = "bollinger"
    ATR = "atr"
    VWAP = "vwap"
    OBV = "obv"
    ADX = "adx"
    STOCHASTIC = "stochastic"


#: The intervals of bars that indicators are computed of.
Interval = Literal["1m", "5m", "15m", "1h", "1d"]
#: The parameters of an indicator by their names.
Parameters = Mapping[str, Decimal]


@dataclass(frozen=True)
class Parameter:
    """A parameter's default and its bounds."""

    default: int
    least: int
    most: int


_AVERAGE = Parameter(20, 2, 400)
_WILDER = Parameter(14, 2, 100)
PARAMETERS: Mapping[IndicatorName, Mapping[str, Parameter]] = {
    IndicatorName.SMA: {"period": _AVERAGE},
    IndicatorName.EMA: {"period": _AVERAGE},
    IndicatorName.RSI: {"period": _WILDER},
    IndicatorName.MACD: {"fast": Parameter(12, 2, 200), "slow": Parameter(26, 3, 200), "signal": Parameter(9, 1, 100)},
    IndicatorName.BOLLINGER: {"period": _AVERAGE, "deviations": Parameter(2, 0, 10)},
    IndicatorName.ATR: {"period": _WILDER},
    IndicatorName.VWAP: {},
    IndicatorName.OBV: {},
    IndicatorName.ADX: {"period": _WILDER},
    IndicatorName.STOCHASTIC: {
        "k_period": Parameter(14, 1, 400),
        "k_smoothing": Parameter(3, 1, 100),
        "d_period": Parameter(3, 1, 100),
    },
}
OUTPUTS: Mapping[IndicatorName, tuple[str, ...]] = {
    **dict.fromkeys(IndicatorName, ("value",)),
    IndicatorName.MACD: ("macd", "signal", "histogram"),
    IndicatorName.BOLLINGER: ("upper", "middle", "lower"),
    IndicatorName.ADX: ("adx", "plus_di", "minus_di"),
    IndicatorName.STOCHASTIC: ("k", "d"),
}

Period = Annotated[int, Bounded(ge=1, le=400)]


class GivenParameters(BaseModel):
    """Parameters of an indicator. Those that are missing have their defaults.

    ``period``: 20 of sma, ema and bollinger, 14 of rsi, atr and adx. ``deviations``: 2, of bollinger. ``fast``,
    ``slow`` and ``signal``: 12, 26 and 9, of macd. ``k_period``, ``k_smoothing`` and ``d_period``: 14, 3 and 3, of
    stochastic. vwap and obv have none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    period: Period | None = None
    fast: Period | None = None
    slow: Period | None = None
    signal: Period | None = None
    deviations: Annotated[Decimal, Bounded(gt=0, le=10, decimal_places=4)] | None = None
    k_period: Period | None = None
    k_smoothing: Period | None = None
    d_period: Period | None = None


def complete(name: IndicatorName, given: GivenParameters) -> dict[str, Decimal]:
    """Return the indicator's parameters with their defaults.

    Raises ValueError for a parameter that the indicator does not have, or that is outside of its bounds.
    """
    chosen = {parameter: Decimal(value) for parameter, value in given.model_dump(exclude_none=True).items()}
    known = PARAMETERS[name]
    if unknown := sorted(chosen.keys() - known):
        takes = f"takes {', '.join(known)}" if known else "takes no parameters"
        raise ValueError(f"{unknown[0]}: is not a parameter of {name}, which {takes}")
    parameters = {each: chosen.get(each, Decimal(bounds.default)) for each, bounds in known.items()}
    for each, value in parameters.items():
        bounds = known[each]
        if not bounds.least <= value <= bounds.most:
            raise ValueError(f"{each}: must be from {bounds.least} to {bounds.most} for {name}")
    if name is IndicatorName.MACD and parameters["fast"] >= parameters["slow"]:
        raise ValueError("fast: must be less than slow")
    return parameters


def written(parameters: Parameters) -> dict[str, str]:
    """Return the parameters as text in which equal numbers are equal: 2.50 is 2.5."""
    return {name: f"{value.normalize():f}" for name, value in sorted(parameters.items())}


def indicator_id(symbol: str, interval: str, name: IndicatorName, parameters: Parameters) -> UUID:
    """Return the id, which is the same for the same indicator."""
    terms = ",".join(f"{each}={value}" for each, value in written(parameters).items())
    return uuid5(NAMESPACE_URL, f"paperprofit:indicator:{symbol}/{interval}/{name}/{terms}")


class Indicator(BaseModel):
    """An indicator of the bars of one symbol and interval."""

    symbol: Symbol
    interval: Interval
    name: IndicatorName
    parameters: GivenParameters = GivenParameters()

    @model_validator(mode="after")
    def _complete(self) -> "Indicator":
        complete(self.name, self.parameters)
        return self

    @property
    def all_parameters(self) -> dict[str, Decimal]:
        return complete(self.name, self.parameters)

    @property
    def id(self) -> UUID:
        return indicator_id(self.symbol, self.interval, self.name, self.all_parameters)


class AddIndicator(OfSymbol, Indicator):
    """Compute the indicator from now on, and for the bars that are stored. A known indicator stays."""

    requested_at: AwareDatetime


class RemoveIndicator(OfSymbol):
    """Compute the indicator no longer, and remove its values."""

    indicator_id: UUID
