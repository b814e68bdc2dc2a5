"""Orders that end without a price, by a cancel or an expiry."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.orders import OrderClass, OrderStatus
from shared.exchange.matching.ending import Ending, end
from shared.exchange.order import Leg, Order
from tests.unit.trading_examples import ACCOUNT, QUOTED, account, facts, order

FAMILY = UUID(int=1)


def bracket(*, filled: str = "0") -> list[Order]:
    """An entry of ten shares that has bought ``filled`` of them, and its held exits."""
    common: dict[str, Any] = {"order_group": FAMILY, "order_class": OrderClass.BRACKET}
    bought = {"filled_qty": Decimal(filled), "held_for_orders": Decimal(filled), "reserved": Decimal(600)}
    held: dict[str, Any] = {**common, "status": OrderStatus.HELD}
    return [
        order("buy 10 AAPL limit 100", 1, **common, **bought),
        order("sell 10 AAPL limit 110", 2, **held, leg=Leg.TAKE_PROFIT),
        order("sell 10 AAPL stop 95", 3, **held, leg=Leg.STOP_LOSS),
    ]


def ended(
    ending: Sequence[Order], open_orders: Sequence[Order], status: OrderStatus = OrderStatus.CANCELED
) -> tuple[Ending, Decimal]:
    """The orders afterwards, and the account's reserved cash, which was 1,000 before."""
    accounts = {ACCOUNT: account("5000", "1000")}
    return end(ending, status, open_orders, accounts, QUOTED), accounts[ACCOUNT].reserved


def statuses(ending: Ending) -> dict[int, str]:
    return {each.id.int: each.status.value for each in ending.orders.values()}


@pytest.mark.parametrize("status", [OrderStatus.CANCELED, OrderStatus.EXPIRED])
def test_an_order_that_ends_frees_its_reservation(status: OrderStatus) -> None:
    """It does so once, also after a partial fill, which stays."""
    begun = order("buy 10 AAPL limit 100", reserved=Decimal(600), filled_qty=Decimal(4))
    ending, reserved = ended([begun], [begun], status)
    assert ending.ended == [replace(begun, status=status, reserved=Decimal(0))]
    assert facts(reserved, ending.canceled) == (400, [])


def test_other_orders_of_the_account_do_not_change() -> None:
    """Simple orders do not form a group, although none of them has one."""
    orders = [order("buy 1 AAPL limit 100", number) for number in (1, 2)]
    ending, _ = ended(orders[:1], orders)
    assert statuses(ending) == {1: "canceled"}


def test_the_exits_of_an_unfilled_entry_end_with_it() -> None:
    """They have nothing to sell."""
    orders = bracket()
    ending, reserved = ended(orders[:1], orders)
    assert statuses(ending) == {1: "canceled", 2: "canceled", 3: "canceled"}
    assert [each.id.int for each in ending.canceled] == [2, 3]
    assert reserved == 400


def test_the_exits_of_a_partly_filled_entry_get_its_shares() -> None:
    """They work from now on, and hold the shares once."""
    orders = bracket(filled="4")
    ending, _ = ended(orders[:1], orders, OrderStatus.EXPIRED)
    assert statuses(ending) == {1: "expired", 2: "accepted", 3: "accepted"}
    gain, loss = (ending.orders[each.key] for each in orders[1:])
    assert [facts(leg.qty, leg.held_for_orders, leg.active_at) for leg in (gain, loss)] == [
        (4, 4, QUOTED),
        (4, 0, QUOTED),
    ]
    assert facts(ending.canceled, ending.orders[orders[0].key].held_for_orders) == ([], 0)


def test_the_exits_get_the_shares_of_replaced_entries() -> None:
    """The entry was replaced after four had filled, and the new one has filled three more."""
    entry, *exits = bracket(filled="3")
    entry = replace(entry, carried=Decimal(4), held_for_orders=Decimal(7))
    ending, _ = ended([entry], [entry, *exits])
    assert [ending.orders[leg.key].qty for leg in exits] == [7, 7]


@pytest.mark.parametrize("filled", ["0", "4"])
def test_an_exit_that_ends_ends_its_group(filled: str) -> None:
    """The entry ends too, and its shares are free again."""
    orders = bracket(filled=filled)
    ending, reserved = ended(orders[2:], orders)
    assert statuses(ending) == {1: "canceled", 2: "canceled", 3: "canceled"}
    assert sum(each.held_for_orders for each in ending.orders.values()) == 0
    assert reserved == 400


def test_all_orders_of_a_group_may_end_together() -> None:
    """Each ends once, at the end of the session or at a reset."""
    orders = bracket(filled="4")
    ending, reserved = ended(orders, orders, OrderStatus.EXPIRED)
    assert statuses(ending) == {1: "expired", 2: "expired", 3: "expired"}
    assert facts(len(ending.ended), ending.canceled, reserved) == (3, [], 400)


def test_the_same_group_of_another_account_does_not_change() -> None:
    """Two senders may have chosen the same ids."""
    mine = bracket()
    theirs = [replace(each, account_id=UUID(int=2)) for each in mine]
    ending, _ = ended(mine[:1], [*mine, *theirs])
    assert {each.account_id for each in ending.orders.values()} == {ACCOUNT}
