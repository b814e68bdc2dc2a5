"""The mark of a share of the equity: a resume does not halt again at once for a position that is as large as before.

A share is marked when it is measured first after a resume. A share that was over its limit then has to grow by a tenth
to halt again. The mark ends when the share is below its limit.
"""

from decimal import Decimal

from shared.money import ZERO

FURTHER = Decimal("1.1")
#: The precision of a share of the equity.
SHARE = Decimal("0.000001")
#: The share of what is held without equity.
WITHOUT_EQUITY = Decimal(10)


def share_of(amount: Decimal, equity: Decimal) -> Decimal:
    """The amount as a share of the equity. Anything held without equity is 1,000 %."""
    if amount <= ZERO:
        return ZERO
    return min((amount / equity).quantize(SHARE), WITHOUT_EQUITY) if equity > ZERO else WITHOUT_EQUITY


def marked(mark: Decimal | None, share: Decimal, limit: Decimal) -> Decimal:
    """The mark after this measurement. None is that of a share that was not measured since the resume."""
    if share < limit:
        return ZERO
    return share if mark is None else mark


def is_reached(share: Decimal, limit: Decimal, mark: Decimal) -> bool:
    """True if the share reached its limit, and is further from it than its mark."""
    return share >= limit and share > mark * FURTHER
