"""The values that rules compare: numbers, prices, indicators, the position and the time."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from services.strategy.strategies.view import Indicator, SymbolView, View
from shared.contracts.indicators import OUTPUTS, GivenParameters, IndicatorName, complete
from shared.contracts.written import Bounded

HUNDRED = Decimal(100)
#: Bars back from the newest one.
Back = Annotated[int, Bounded(ge=0, le=400)]
Number = Annotated[Decimal, Bounded(ge=-1_000_000_000_000, le=1_000_000_000_000)]


class Part(BaseModel):
    """A part of the rules. Unknown fields are refused, since they are mostly misspelt ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceValue(Part):
    """A price of a bar, ``back`` bars before the newest one, or of the newest quote: last, bid and ask."""

    price: Literal["open", "high", "low", "close", "volume", "last", "bid", "ask"]
    back: Back = 0

    def read(self, _view: View, symbol: SymbolView, more: int = 0) -> Decimal | None:
        """The value, ``more`` bars further back. A quote has no value of an earlier bar."""
        if self.price in {"last", "bid", "ask"}:
            quote = symbol.quote
            return None if quote is None or self.back + more else getattr(quote, self.price)
        bars = symbol.bars(self.back + more + 1)
        found: Decimal | None = getattr(bars[0], self.price) if len(bars) > self.back + more else None
        return found

    def __str__(self) -> str:
        return self.price + _ago(self.back)


class IndicatorValue(Part):
    """An indicator of the symbol's bars. Parameters that are missing have their defaults.

    A parameter may also stand beside the indicator's name: ``{"indicator": "rsi", "period": 14}``.
    """

    indicator: IndicatorName
    parameters: GivenParameters = GivenParameters()
    output: Annotated[str, Field(max_length=32)] | None = None
    back: Back = 0

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        """The parameters that stand beside the name, under ``parameters``."""
        if not isinstance(given, dict) or "parameters" in given:
            return given
        beside = {name: value for name, value in given.items() if name in GivenParameters.model_fields}
        return {**{name: value for name, value in given.items() if name not in beside}, "parameters": beside}

    @model_validator(mode="after")
    def _known(self) -> "IndicatorValue":
        complete(self.indicator, self.parameters)
        if self.output is not None and self.output not in OUTPUTS[self.indicator]:
            raise ValueError(f"output: {self.indicator} has {', '.join(OUTPUTS[self.indicator])}")
        return self

    @property
    def key(self) -> str:
        """The name under which the strategy finds the indicator in its views."""
        given = self.parameters.model_dump(exclude_none=True, mode="json")
        inner = ", ".join(f"{name} {value}" for name, value in given.items())
        return f"{self.indicator}{f'({inner})' if inner else ''}{f' {self.output}' if self.output else ''}"

    def wanted(self) -> Indicator:
        return Indicator(self.indicator.value, self.parameters.model_dump(exclude_none=True), self.output)

    def read(self, _view: View, symbol: SymbolView, more: int = 0) -> Decimal | None:
        value = symbol.value(self.key, self.back + more)
        return None if value is None else Decimal(repr(value))

    def __str__(self) -> str:
        return self.key + _ago(self.back)


class PositionValue(Part):
    """The strategy's position: shares, bars since the entry, or the profit of a share in percent of its cost.

    ``best_percent`` is the profit at the best close since the entry.
    """

    position: Literal["qty", "bars_held", "profit_percent", "best_percent"]

    def read(self, _view: View, symbol: SymbolView, more: int = 0) -> Decimal | None:
        held = symbol.position
        if more:
            return None
        if self.position == "qty":
            return held.qty
        if not held.qty or held.entry_price is None or symbol.close is None:
            return None
        if self.position == "bars_held":
            return Decimal(len(symbol.bars_since_entry()))
        at = symbol.close if self.position == "profit_percent" else best_close(symbol)
        gain = at - held.entry_price if held.qty > 0 else held.entry_price - at
        return gain / held.entry_price * HUNDRED

    def __str__(self) -> str:
        return self.position


class TimeValue(Part):
    """The time: minutes since the session's open or to its close, or by the clock of ``time_zone``.

    ``weekday`` is 1 on Monday and 7 on Sunday. ``minute`` counts from midnight.
    """

    time: Literal["minutes_since_open", "minutes_to_close", "hour", "minute", "weekday"]
    time_zone: Annotated[str, Field(max_length=64)] = "America/New_York"

    @model_validator(mode="after")
    def _known(self) -> "TimeValue":
        try:
            ZoneInfo(self.time_zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"time_zone: {self.time_zone!r} is not a time zone of the IANA database") from None
        return self

    def read(self, view: View, symbol: SymbolView, more: int = 0) -> Decimal | None:
        if more:
            return None
        if self.time in {"minutes_since_open", "minutes_to_close"}:
            session, since = symbol.session, self.time == "minutes_since_open"
            edge = session.open_at if since else session.close_at
            if edge is None:
                return None
            return _minutes(view.now, edge) if since else _minutes(edge, view.now)
        local = view.now.astimezone(ZoneInfo(self.time_zone))
        return Decimal(
            {"hour": local.hour, "minute": local.hour * 60 + local.minute}.get(self.time, local.isoweekday())
        )

    def __str__(self) -> str:
        return self.time


class Constant(Part):
    """A number."""

    number: Number

    def read(self, _view: View, _symbol: SymbolView, _more: int = 0) -> Decimal | None:
        return self.number

    def __str__(self) -> str:
        return f"{self.number.normalize():f}"


def best_close(symbol: SymbolView) -> Decimal:
    """The best close since the entry for the position's side. Without a complete bar it is the newest close."""
    closes = [bar.close for bar in symbol.bars_since_entry()]
    best = max if symbol.position.qty > 0 else min
    return best(closes) if closes else symbol.close or Decimal(0)


def _minutes(later: datetime, earlier: datetime) -> Decimal:
    return Decimal(int((later - earlier).total_seconds() // 60))


def _ago(back: int) -> str:
    return f" {back} {'bar' if back == 1 else 'bars'} before" if back else ""


def _tag(value: Any) -> str:
    """The key that tells which value it is. A plain number has none."""
    if isinstance(value, Part):
        return next(iter(type(value).model_fields))
    if isinstance(value, Mapping):
        return next((key for key in ("price", "indicator", "position", "time") if key in value), "unknown")
    return "number"


def _constant(value: Any) -> Any:
    return value if isinstance(value, Part) else {"number": value}


Value = Annotated[
    Annotated[PriceValue, Tag("price")]
    | Annotated[IndicatorValue, Tag("indicator")]
    | Annotated[PositionValue, Tag("position")]
    | Annotated[TimeValue, Tag("time")]
    | Annotated[Constant, BeforeValidator(_constant), Tag("number")],
    Discriminator(
        _tag,
        custom_error_type="value",
        custom_error_message="is neither a number nor an object with price, indicator, position or time",
    ),
]
