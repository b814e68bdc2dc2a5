"""The outcome of an order in either engine."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True)
class Filled:
    """A fill of ``qty`` shares at a price, on the quote of that number."""

    quote: int
    qty: Decimal
    price: Decimal


@dataclass
class Outcome:
    """``status``: open, filled, canceled, expired or rejected, at the end of the tape."""

    status: str = "open"
    fills: list[Filled] = field(default_factory=list)

    @property
    def filled(self) -> Decimal:
        return sum((fill.qty for fill in self.fills), Decimal(0))


def read_outcomes(lines: Iterable[str]) -> dict[int, Outcome]:
    """Number of the order → its outcome, from the lines that the other engine writes."""
    known = [json.loads(line) for line in lines]
    return {
        each["id"]: Outcome(
            each["status"], [Filled(quote, Decimal(qty), Decimal(price)) for quote, qty, price in each["fills"]]
        )
        for each in known
    }
