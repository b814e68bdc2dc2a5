"""The reference and the product on one tape, order by order."""

from collections.abc import Sequence

from tests.differential.events import Event
from tests.differential.product import Product
from tests.differential.reference import Reference
from tests.differential.reference_prices import Order
from tests.differential.wide_tape import TRADERS, sessions


def parted(tape: Sequence[Event], days: int) -> list[str]:
    """Each order that does not have the same fills and the same end in both, with those of both."""
    stated, ours = Reference(TRADERS, sessions(days)).run(tape), Product(TRADERS, sessions(days)).run(tape)
    wanted = {name: (order.status, order.fills) for name, order in stated.items()}
    names = sorted(wanted.keys() | ours.keys())
    return [
        f"{name}: stated {wanted.get(name)}, ours {ours.get(name)}"
        for name in names
        if wanted.get(name) != ours.get(name)
    ]


def stated(tape: Sequence[Event], days: int) -> dict[str, Order]:
    return Reference(TRADERS, sessions(days)).run(tape)
