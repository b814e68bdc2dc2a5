"""The risk figures of an account: each is measured from a mark, which a resume of the account sets anew."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from shared.contracts.account_risk import AccountRiskLimits, RiskKind
from shared.contracts.risk_marks import SHARE, is_reached, marked, share_of
from shared.money import ZERO

_NAMES = {
    RiskKind.DRAWDOWN: "the drawdown",
    RiskKind.DAILY_LOSS: "the loss of the day",
    RiskKind.CONCENTRATION: "the largest position",
    RiskKind.GROSS_EXPOSURE: "the gross exposure",
}


@dataclass(frozen=True)
class RiskFacts:
    """An account at its last summary. ``growth`` is that of 1 since the generation began, without deposits.

    ``day`` is the last summarized trading day before today, and ``day_pl`` the profit since then. ``halt_id`` is the
    account's last halt, over or not.
    """

    generation: int
    halt_id: UUID | None
    at: datetime
    equity: Decimal
    growth: Decimal
    peak_growth: Decimal
    day: date | None
    day_pl: Decimal
    largest_value: Decimal
    gross_value: Decimal


@dataclass(frozen=True)
class Mark:
    """The point that the figures are measured from: the begin of the generation, or the last resume in it.

    A mark of a share is None until the first measurement after a resume.
    """

    generation: int
    halt_id: UUID | None
    marked_at: datetime | None
    peak_growth: Decimal
    day: date | None = None
    day_pl: Decimal = ZERO
    concentration: Decimal | None = ZERO
    exposure: Decimal | None = ZERO


@dataclass(frozen=True)
class Measured:
    """The figures and the mark to keep with them. ``reached`` is the first figure at its limit, or None."""

    mark: Mark
    figures: Mapping[RiskKind, Decimal]
    reached: RiskKind | None


def measure(limits: AccountRiskLimits, facts: RiskFacts, before: Mark | None) -> Measured:
    """Measure the account by its mark, after a reset or a resume by a new one."""
    mark = _mark(facts, before)
    gained = facts.day_pl - (mark.day_pl if mark.day == facts.day else ZERO)
    figures = {
        RiskKind.DRAWDOWN: _fall(facts.growth, mark.peak_growth),
        RiskKind.DAILY_LOSS: share_of(-gained, facts.equity - gained),
        RiskKind.CONCENTRATION: share_of(facts.largest_value, facts.equity),
        RiskKind.GROSS_EXPOSURE: share_of(facts.gross_value, facts.equity),
    }
    concentration = _share_mark(mark.concentration, figures[RiskKind.CONCENTRATION], limits.max_concentration)
    exposure = _share_mark(mark.exposure, figures[RiskKind.GROSS_EXPOSURE], limits.max_gross_exposure)
    mark = replace(mark, concentration=concentration, exposure=exposure)
    marks = {RiskKind.CONCENTRATION: concentration, RiskKind.GROSS_EXPOSURE: exposure}
    for kind, value in figures.items():
        limit = limits.limit_of(kind)
        if limit is not None and is_reached(value, limit, marks.get(kind, ZERO)):
            return Measured(mark, figures, kind)
    return Measured(mark, figures, None)


def sentence(kind: RiskKind, value: Decimal, limit: Decimal, symbol: str | None) -> str:
    """The reason of a halt, for people."""
    name = f"{_NAMES[kind]} ({symbol})" if kind is RiskKind.CONCENTRATION and symbol else _NAMES[kind]
    return f"{name} is {value:.2%} and reached the limit of {limit:.2%}"


def _mark(facts: RiskFacts, before: Mark | None) -> Mark:
    """The mark that holds now, with the highest growth since then."""
    if before is None or before.generation != facts.generation:
        return Mark(facts.generation, facts.halt_id, None, facts.peak_growth)
    if before.halt_id != facts.halt_id:
        return Mark(facts.generation, facts.halt_id, facts.at, facts.growth, facts.day, facts.day_pl, None, None)
    return replace(before, peak_growth=max(before.peak_growth, facts.growth))


def _fall(growth: Decimal, peak: Decimal) -> Decimal:
    return max((1 - growth / peak).quantize(SHARE), ZERO) if peak > ZERO else ZERO


def _share_mark(mark: Decimal | None, share: Decimal, limit: Decimal | None) -> Decimal:
    return ZERO if limit is None else marked(mark, share, limit)
