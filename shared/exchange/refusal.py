"""The answer to an order, or to a change of one, that is not accepted."""

from dataclasses import dataclass

from shared.contracts.reasons import RejectReason


@dataclass(frozen=True)
class Refusal:
    """The reason for programs, and a sentence for people that says what is wrong and what to do."""

    reason: RejectReason
    message: str
