"""The answer to an order, or to a change of one, that is not accepted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.contracts.reasons import RejectReason


@dataclass(frozen=True)
class Refusal:
    """The reason for programs, and a sentence for people that says what is wrong and what to do.

    ``details`` are the figures behind it, by the names of Alpaca's answers.
    """

    reason: RejectReason
    message: str
    details: Mapping[str, str] = field(default_factory=dict)
