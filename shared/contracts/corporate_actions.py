"""Splits, dividends and new symbols, which each service applies to its own data."""

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, model_validator

from shared.contracts.base import Command, Count, Event, Positive, Symbol
from shared.contracts.written import Bounded, check_number

#: The largest ``old_shares`` that a ratio alone can stand for, and the digits that a ratio may lack.
MOST_OLD_SHARES = 1000
LAST_DECIMAL = Fraction(1, 10**9)
MOST_SHARES = 1_000_000
Shares = Annotated[int, Bounded(ge=1, le=MOST_SHARES)]


class ActionKind(StrEnum):
    SPLIT = "split"
    DIVIDEND = "dividend"
    SYMBOL_CHANGE = "symbol_change"


class CorporateAction(BaseModel):
    """A split, a cash dividend of ``amount`` a share in the instrument's currency, or a ``new_symbol``.

    A split turns every ``old_shares`` into ``new_shares``. ``ratio`` is the quotient of the two to nine decimals, and
    may be sent in their place: 0.333333333 is 1 for 3. Fractions of a share stay in the position, unless the issuer
    pays ``cash_in_lieu`` of those that it makes of whole shares.

    The action takes effect at ``effective_at`` for the shares held just before, which for a dividend is the ex-date. A
    dividend is paid at ``pay_at``, which is ``effective_at`` where it is not given. Raises ValueError unless the action
    has exactly the numbers of its kind.
    """

    symbol: Symbol
    kind: ActionKind
    ratio: Annotated[Decimal, Bounded(gt=0, le=1000, decimal_places=9)] | None = None
    new_shares: Shares | None = None
    old_shares: Shares | None = None
    cash_in_lieu: bool = False
    amount: Annotated[Decimal, Bounded(gt=0, le=1_000_000, decimal_places=9)] | None = None
    effective_at: AwareDatetime
    pay_at: AwareDatetime | None = None
    new_symbol: Symbol | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_ratio_and_shares(cls, given: Any) -> Any:
        """Complete the ratio by its shares, or the shares by their ratio. A wrong type is left to its field."""
        if not isinstance(given, dict):
            return given
        ratio, new, old = (given.get(name) for name in ("ratio", "new_shares", "old_shares"))
        if ratio is None and isinstance(new, int) and isinstance(old, int):
            fits = 0 < min(new, old) <= max(new, old) <= MOST_SHARES  # else a field refuses them
            return {**given, "ratio": rounded_ratio(new, old)} if fits else given
        if isinstance(ratio, str | int | Decimal) and new is None and old is None:
            try:
                shares = shares_of(Decimal(check_number(str(ratio))))
            except (InvalidOperation, ZeroDivisionError, OverflowError, ValueError):
                return given
            return given if shares is None else {**given, "new_shares": shares[0], "old_shares": shares[1]}
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, kind in _REQUIRED.items():
            if (getattr(self, name) is not None) != (self.kind is kind):
                raise ValueError(f"{name} is required for a {kind} and cannot be set on any other action")
        if self.new_symbol == self.symbol:
            raise ValueError("new_symbol: is the symbol that it has")
        if self.kind is not ActionKind.DIVIDEND and self.pay_at is not None:
            raise ValueError("pay_at: only a dividend has one")
        if self.pay_at is not None and self.pay_at < self.effective_at:
            raise ValueError("pay_at: must not be before effective_at")
        if self.kind is ActionKind.SPLIT:
            self._check_shares()
        elif self.new_shares or self.old_shares or self.cash_in_lieu:
            raise ValueError("new_shares, old_shares and cash_in_lieu: only a split has them")
        return self

    def _check_shares(self) -> None:
        if self.new_shares is None or self.old_shares is None:
            raise ValueError("new_shares and old_shares: send both, the ratio is not that of two small numbers")
        if abs(Fraction(self.new_shares, self.old_shares) - Fraction(self.ratio or 0)) >= LAST_DECIMAL:
            raise ValueError("ratio: is not new_shares / old_shares, leave it out")


#: The field that an action of each kind needs, and no other may have.
_REQUIRED = {
    "ratio": ActionKind.SPLIT,
    "amount": ActionKind.DIVIDEND,
    "new_symbol": ActionKind.SYMBOL_CHANGE,
}


def rounded_ratio(new_shares: int, old_shares: int) -> Decimal:
    """New shares for each old one, to nine decimals."""
    return round(Decimal(new_shares) / Decimal(old_shares), 9)


def shares_of(ratio: Decimal) -> tuple[int, int] | None:
    """The whole numbers (new, old) that nine decimals of a ratio stand for. None where there are no small ones.

    Fractions of so small denominators lie much further apart than the ninth decimal, so no two stand for one ratio.
    """
    exact = Fraction(ratio)
    nearest = exact.limit_denominator(MOST_OLD_SHARES)
    near = nearest > 0 and abs(nearest - exact) < LAST_DECIMAL
    return (nearest.numerator, nearest.denominator) if near else None


class EnterCorporateAction(Command, CorporateAction):
    """Enter a corporate action. The sender chooses ``action_id``, so that entering it twice enters it once."""

    service: ClassVar[str] = "marketdata"

    action_id: UUID


class CorporateActionApplied(Event, CorporateAction):
    """The action took effect. Later prices of the symbol include it.

    ``split_count`` counts the symbol's corporate actions. ``last`` is its last price, that of a new share after a
    split, at which cash in lieu is paid. It is None before the first price.
    """

    service: ClassVar[str] = "marketdata"

    action_id: UUID
    split_count: Count
    last: Positive | None = None
