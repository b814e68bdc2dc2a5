"""A strategy without code: conditions to enter and to exit, as validated JSON. docs/strategies.md has examples.

A condition whose values are missing, such as an average of too few bars, is neither true nor false. Then nothing is
done, and the decision says so.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.strategy import Parameters, SymbolStrategy, act, hold
from services.strategy.strategies.values import HUNDRED, Constant, IndicatorValue, Part, Value, best_close
from services.strategy.strategies.view import Indicator, SymbolView, View
from shared.contracts.written import Bounded
from shared.exchange.corporate_actions import on_tick
from shared.money import ZERO

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
Percent = Annotated[Decimal, Bounded(gt=0, lt=100, decimal_places=4)]
#: Conditions in one list, and names under ``define``.
MOST = 50
#: Conditions that one look at a symbol may come to.
MOST_LOOKED = 200

#: Values of indicators that are nearer to each other than this part of them are equal.
_NEAR = Decimal("1e-10")
#: The sides of the left value at which a comparison holds.
_HOLDS = {"<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1), "==": (0,)}
_SIGNS = {"crosses_above": "crosses above", "crosses_below": "crosses below"}


class Comparison(Part):
    """Two values compared. A crossing compares them at the newest bar and at the one before it."""

    left: Value
    op: Literal["<", "<=", ">", ">=", "==", "crosses_above", "crosses_below"]
    right: Value

    def look(self, view: View, symbol: SymbolView, _rules: "Rules") -> Condition:
        left, right = self.left.read(view, symbol), self.right.read(view, symbol)
        values: list[tuple[str, Decimal | None]] = self._named(left, right)
        text = f"{self.left} {_SIGNS.get(self.op, self.op)} {self.right}"
        if self.op not in _SIGNS:
            holds = None if left is None or right is None else self._side(left, right) in _HOLDS[self.op]
            return Condition(text, holds, tuple(values))
        before = self.left.read(view, symbol, 1), self.right.read(view, symbol, 1)
        values += self._named(*before, " before")
        if left is None or right is None or before[0] is None or before[1] is None:
            return Condition(text, None, tuple(values))
        above = self.op == "crosses_above"
        was, is_ = self._side(before[0], before[1]), self._side(left, right)
        return Condition(text, was <= 0 < is_ if above else was >= 0 > is_, tuple(values))

    def _named(self, left: Decimal | None, right: Decimal | None, when: str = "") -> list[tuple[str, Decimal | None]]:
        """The values by their names, without numbers, which the text has already."""
        both = ((self.left, left), (self.right, right))
        return [(f"{part}{when}", value) for part, value in both if not isinstance(part, Constant)]

    def _side(self, left: Decimal, right: Decimal) -> int:
        """1 if the left value is above the right one, -1 if it is below. Indicators are rounded, prices are not."""
        rounded = isinstance(self.left, IndicatorValue) or isinstance(self.right, IndicatorValue)
        near = _NEAR * max(abs(left), abs(right)) if rounded else ZERO
        return (left - right > near) - (left - right < -near)

    def parts(self) -> Iterator["AnyCondition"]:
        return iter(())


class All(Part):
    """All of the conditions hold."""

    all: Annotated[tuple["AnyCondition", ...], Field(min_length=1, max_length=MOST)]

    def look(self, view: View, symbol: SymbolView, rules: "Rules") -> Condition:
        looked = [part.look(view, symbol, rules) for part in self.all]
        return _joined(" and ", looked, holds=_all(each.holds for each in looked))

    def parts(self) -> Iterator["AnyCondition"]:
        return iter(self.all)


class AnyOf(Part):
    """At least one of the conditions holds."""

    any: Annotated[tuple["AnyCondition", ...], Field(min_length=1, max_length=MOST)]

    def look(self, view: View, symbol: SymbolView, rules: "Rules") -> Condition:
        looked = [part.look(view, symbol, rules) for part in self.any]
        none = _all(None if each.holds is None else not each.holds for each in looked)
        return _joined(" or ", looked, holds=None if none is None else not none)

    def parts(self) -> Iterator["AnyCondition"]:
        return iter(self.any)


class Not(Part):
    """The condition does not hold."""

    not_: "AnyCondition" = Field(alias="not")

    def look(self, view: View, symbol: SymbolView, rules: "Rules") -> Condition:
        looked = self.not_.look(view, symbol, rules)
        return Condition(f"not ({looked.text})", None if looked.holds is None else not looked.holds, looked.values)

    def parts(self) -> Iterator["AnyCondition"]:
        yield self.not_


class Reference(Part):
    """A condition under ``define``, by its name."""

    ref: Name

    def look(self, view: View, symbol: SymbolView, rules: "Rules") -> Condition:
        looked = rules.define[self.ref].look(view, symbol, rules)
        return Condition(f"{self.ref} ({looked.text})", looked.holds, looked.values)

    def parts(self) -> Iterator["AnyCondition"]:
        return iter(())


def _tag(value: Any) -> str:
    if isinstance(value, Part):
        return {"Comparison": "op", "All": "all", "AnyOf": "any", "Not": "not", "Reference": "ref"}[
            type(value).__name__
        ]
    if isinstance(value, Mapping):
        return next((key for key in ("all", "any", "not", "ref", "op") if key in value), "unknown")
    return "unknown"


AnyCondition = Annotated[
    Annotated[All, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Reference, Tag("ref")]
    | Annotated[Comparison, Tag("op")],
    Discriminator(
        _tag,
        custom_error_type="condition",
        custom_error_message="is no condition: give an object with all, any, not, ref, or left, op and right",
    ),
]


class SideRules(Part):
    """When to enter, and when to exit besides the stops. Without ``exit`` only the stops close the position."""

    entry: AnyCondition
    exit: AnyCondition | None = None


class Rules(Parameters):
    """Conditions to enter and exit. ``define`` names conditions that others refer to.

    ``stop_loss`` and ``take_profit`` are percent of the close at the entry and become a bracket order.
    ``trailing_stop`` is percent below the best close since the entry, ``time_stop`` a number of bars since it.
    """

    long: SideRules | None = None
    short: SideRules | None = None
    define: Annotated[dict[Name, AnyCondition], Field(max_length=MOST)] = Field(default_factory=dict)
    stop_loss: Percent | None = None
    take_profit: Annotated[Decimal, Bounded(gt=0, le=10_000, decimal_places=4)] | None = None
    trailing_stop: Percent | None = None
    time_stop: Annotated[int, Bounded(ge=1, le=100_000)] | None = None
    #: Enter only within this many minutes of the session.
    enter_after_open: Annotated[int, Bounded(ge=0, le=1440)] | None = None
    enter_before_close: Annotated[int, Bounded(ge=0, le=1440)] | None = None
    exit_before_close: Annotated[int, Bounded(ge=1, le=1440)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.long is None and self.short is None:
            raise ValueError("long: the rules enter nothing, give long, short or both")
        sizes: dict[str, int] = {}
        for name in self.define:
            self._size(Reference(ref=name), f"define.{name}", sizes, ())
        for name, side in (("long", self.long), ("short", self.short)):
            if side is not None:
                self._size(side.entry, f"{name}.entry", sizes, ())
                if side.exit is not None:
                    self._size(side.exit, f"{name}.exit", sizes, ())
        return self

    def _size(self, condition: AnyCondition, field: str, sizes: dict[str, int], path: tuple[str, ...]) -> int:
        """The number of conditions to look at, with those behind names, which ``sizes`` has where they are known.

        Refuses a reference to an unknown name or into a cycle, and conditions that are too many.
        """
        if isinstance(condition, Reference):
            name = condition.ref
            if name not in self.define:
                raise ValueError(f"{field}: there is no condition {name!r} under define")
            if name in path:
                raise ValueError(f"{field}: the conditions form a cycle: {' → '.join((*path, name))}")
            if name not in sizes:
                sizes[name] = self._size(self.define[name], field, sizes, (*path, name))
            return sizes[name]
        size = 1 + sum(self._size(part, field, sizes, path) for part in condition.parts())
        if size > MOST_LOOKED:
            raise ValueError(f"{field}: has more than {MOST_LOOKED} conditions, those behind names counted each time")
        return size

    def conditions(self) -> Iterator[AnyCondition]:
        """All conditions, those inside of others among them."""
        waiting: list[AnyCondition] = list(self.define.values())
        for side in (self.long, self.short):
            if side is not None:
                waiting += [side.entry, *([side.exit] if side.exit is not None else [])]
        while waiting:
            condition = waiting.pop()
            yield condition
            waiting += condition.parts()


class RuleStrategy(SymbolStrategy[Rules]):
    """Enter and exit by the conditions of the rules."""

    kind = "rules"
    title = "Rules without code"
    source = "The user's own conditions"
    parameters_model = Rules

    @property
    def warm_up(self) -> int:
        return self.back + 2

    @property
    def back(self) -> int:
        comparisons = [each for each in self.parameters.conditions() if isinstance(each, Comparison)]
        backs = [getattr(value, "back", 0) for each in comparisons for value in (each.left, each.right)]
        return max(backs, default=0)

    def indicators(self) -> Mapping[str, Indicator]:
        found: dict[str, Indicator] = {}
        for condition in self.parameters.conditions():
            if isinstance(condition, Comparison):
                for value in (condition.left, condition.right):
                    if isinstance(value, IndicatorValue):
                        found[value.key] = value.wanted()
        return found

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:
        if symbol.position.qty:
            return self._exit(view, symbol)
        looked: list[Condition] = []
        closed = self._too_late(view, symbol)
        if closed is not None:
            return hold(symbol, closed)
        for side, action in ((self.parameters.long, Action.ENTER_LONG), (self.parameters.short, Action.ENTER_SHORT)):
            if side is None:
                continue
            condition = side.entry.look(view, symbol, self.parameters)
            looked.append(condition)
            if condition.holds:
                return act(
                    symbol, action, f"Entered because {condition.text}.", condition, **self._exits(symbol, action)
                )
        if any(condition.holds is None for condition in looked):
            return hold(symbol, f"Nothing was done because {_missing(looked)} is not known yet.", *looked)
        return hold(symbol, "No condition to enter holds.", *looked)

    def _exit(self, view: View, symbol: SymbolView) -> Decision:
        rules, long = self.parameters, symbol.position.qty > 0
        stops = [stop for stop in self._stops(view, symbol) if stop is not None]
        side = rules.long if long else rules.short
        looked = [*stops, *([side.exit.look(view, symbol, rules)] if side is not None and side.exit else [])]
        due = next((condition for condition in looked if condition.holds), None)
        if due is not None:
            return act(symbol, Action.EXIT, f"Exited because {due.text}.", *looked)
        if any(condition.holds is None for condition in looked):
            return hold(symbol, f"Nothing was done because {_missing(looked)} is not known yet.", *looked)
        return hold(symbol, "No condition to exit holds.", *looked)

    def _stops(self, view: View, symbol: SymbolView) -> Iterator[Condition | None]:
        rules, position = self.parameters, symbol.position
        if rules.time_stop is not None:
            bars = len(symbol.bars_since_entry())
            yield Condition(f"bars held >= {rules.time_stop}", bars >= rules.time_stop, (("bars held", Decimal(bars)),))
        if rules.trailing_stop is not None and symbol.close is not None:
            best, part = best_close(symbol), rules.trailing_stop / HUNDRED
            stop = best * (1 - part) if position.qty > 0 else best * (1 + part)
            hit = symbol.close <= stop if position.qty > 0 else symbol.close >= stop
            text = f"close is {rules.trailing_stop.normalize():f} % off the best close"
            yield Condition(text, hit, (("close", symbol.close), ("stop", stop), ("best close", best)))
        left = self._minutes_left(view, symbol)
        if rules.exit_before_close is not None and left is not None:
            text = f"at most {rules.exit_before_close} minutes to the close"
            yield Condition(text, left <= rules.exit_before_close, (("minutes to close", left),))

    def _too_late(self, view: View, symbol: SymbolView) -> str | None:
        """The reason why the session's time allows no entry, or None."""
        rules, session = self.parameters, symbol.session
        if rules.enter_after_open is not None and session.open_at is not None:
            since = (view.now - session.open_at).total_seconds() / 60
            if since < rules.enter_after_open:
                return f"It is less than {rules.enter_after_open} minutes after the open."
        left, least = self._minutes_left(view, symbol), rules.enter_before_close or rules.exit_before_close
        if least is not None and left is not None and left <= least:
            return f"It is at most {least} minutes to the close."
        return None

    def _minutes_left(self, view: View, symbol: SymbolView) -> Decimal | None:
        close_at = symbol.session.close_at
        return None if close_at is None else Decimal(int((close_at - view.now).total_seconds() // 60))

    def _exits(self, symbol: SymbolView, action: Action) -> dict[str, Decimal]:
        """The prices of the bracket's exits, in whole ticks and never better for the trader than the percentage."""
        close, rules = symbol.close, self.parameters
        if close is None:
            return {}
        up = 1 if action is Action.ENTER_LONG else -1
        exits = {}
        if rules.stop_loss is not None:
            exits["stop_loss"] = on_tick(close * (1 - up * rules.stop_loss / HUNDRED), "ROUND_HALF_UP")
        if rules.take_profit is not None:
            target = close * (1 + up * rules.take_profit / HUNDRED)
            if target > 0:
                exits["take_profit"] = on_tick(target, "ROUND_HALF_UP")
        return exits


def _all(holds: Iterator[bool | None]) -> bool | None:
    """True if all are, False if one is not, and None where one is not known and none is False."""
    known = list(holds)
    if False in known:
        return False
    return None if None in known else True


def _joined(word: str, looked: list[Condition], *, holds: bool | None) -> Condition:
    values = {name: value for each in looked for name, value in each.values}
    return Condition(
        word.join(f"({each.text})" if len(looked) > 1 else each.text for each in looked), holds, tuple(values.items())
    )


def _missing(looked: list[Condition]) -> str:
    names = [
        name for condition in looked if condition.holds is None for name, value in condition.values if value is None
    ]
    return " and ".join(dict.fromkeys(names)) or "a value"
