"""The checks of an order's own prices, in new orders and in replaces."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from shared.contracts.orders import OrderStatus, ReplaceOrder
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.acceptance.replace import Replaced, admit_replacement
from shared.exchange.order import Order
from shared.exchange.refusal import Refusal
from tests.unit.trading_examples import ACCEPTED, ACCOUNT, INSTRUMENT, MARGIN, account, order, submission

RICH = account("100000", **MARGIN)
CHEAP = Instrument(tradable=True, ask=Decimal("0.5001"), bid=Decimal("0.4999"), last=Decimal("0.50"))
UNPRICED = Instrument(tradable=True)


def refusal_of(text: str, *, held: str = "0", instrument: Instrument = INSTRUMENT) -> Refusal | None:
    found = admit(submission(text), instrument, RICH, Exposure(held=Decimal(held)), ACCEPTED)
    return found if isinstance(found, Refusal) else None


def reason_of(text: str, **known: Any) -> str | None:
    refusal = refusal_of(text, **known)
    return None if refusal is None else refusal.reason


def group(text: str, *, held: str = "0", instrument: Instrument = INSTRUMENT) -> list[Order]:
    found = admit(submission(text), instrument, RICH, Exposure(held=Decimal(held)), ACCEPTED)
    assert isinstance(found, Admitted)
    return list(found.orders)


def answer_to(
    orders: list[Order], place: int = 0, *, held: str = "0", instrument: Instrument = INSTRUMENT, **changes: Any
) -> str | None:
    """The reason why that order of the group cannot be replaced in this way."""
    command = ReplaceOrder(
        account_id=ACCOUNT, order_id=orders[place].id, new_order_id=ACCOUNT, requested_at=ACCEPTED, **changes
    )
    promised = sum((each.held_for_orders for each in orders), Decimal(0))
    exposure = Exposure(held=Decimal(held), held_for_orders=promised)
    found = admit_replacement(orders, command, instrument, RICH, exposure, ACCEPTED)
    assert isinstance(found, Refusal | Replaced)
    return found.reason if isinstance(found, Refusal) else None


@pytest.mark.parametrize(
    ("text", "name", "price"),
    [
        ("buy 10 AAPL limit 50.1234", "limit_price", "50.1234"),
        ("buy 10 AAPL limit 1.001", "limit_price", "1.001"),
        ("buy 10 AAPL limit 0.99999", "limit_price", "0.99999"),
        ("buy 10 AAPL stop 500.0001", "stop_price", "500.0001"),
        ("buy 10 AAPL stop_limit 101.005 102", "stop_price", "101.005"),
        ("buy 10 AAPL stop_limit 101 102.005", "limit_price", "102.005"),
        ("buy 10 AAPL trailing_stop 1.005", "trail_price", "1.005"),
        ("buy 10 AAPL limit 100 bracket 110.001/95", "take_profit.limit_price", "110.001"),
        ("buy 10 AAPL limit 100 bracket 110/95.001", "stop_loss.stop_price", "95.001"),
        ("buy 10 AAPL limit 100 bracket 110/95:94.001", "stop_loss.limit_price", "94.001"),
    ],
)
def test_a_price_between_two_increments_is_refused(text: str, name: str, price: str) -> None:
    """Two decimals from 1.00 on, four below (SEC Rule 612)."""
    text_of = f"invalid {name} {price}. sub-penny increment does not fulfill minimum pricing criteria"
    assert refusal_of(text) == Refusal(RejectReason.SUB_PENNY, text_of)


@pytest.mark.parametrize(
    "text", ["limit 1", "limit 50.12", "limit 0.9999", "limit 0.12340", "trailing_stop 0.0125", "trailing_stop 1.2345%"]
)
def test_a_price_on_an_increment_is_accepted(text: str) -> None:
    """A percentage is no price."""
    assert reason_of(f"buy 10 AAPL {text}", instrument=CHEAP) is None
    assert reason_of(f"buy 10 AAPL {text}", instrument=UNPRICED) is None


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("buy 10 AAPL limit 100", {"limit_price": "99.999"}),
        ("buy 10 AAPL stop 101", {"stop_price": "101.001"}),
        ("buy 10 AAPL trailing_stop 5", {"trail": "4.999"}),
        ("buy 10 AAPL limit 0.5", {"limit_price": "0.50001"}),
    ],
)
def test_a_replace_cannot_bring_in_a_sub_penny_price(text: str, changes: dict[str, Any]) -> None:
    """The rule is that of new orders."""
    assert answer_to([order(text)], **changes) == "sub_penny"


def test_a_replace_leaves_the_prices_alone_that_it_does_not_change() -> None:
    """They may come from a split, or from before the rule."""
    old = order("buy 10 AAPL stop_limit 101.00005 102")
    assert answer_to([old], limit_price="103") is None
    assert answer_to([order("buy 10 AAPL trailing_stop 5%")], trail="4.999") is None


LONG_GAIN, LONG_LOSS = ">= base_price + 0.01", "<= base_price - 0.01"


@pytest.mark.parametrize(
    ("text", "name", "bound", "base"),
    [
        ("buy 10 AAPL market bracket 130/120", "stop_loss.stop_price", LONG_LOSS, "100"),
        ("buy 10 AAPL market bracket 80/70", "take_profit.limit_price", LONG_GAIN, "100"),
        ("buy 10 AAPL market bracket 100/70", "take_profit.limit_price", LONG_GAIN, "100"),
        ("buy 10 AAPL market oto /100", "stop_loss.stop_price", LONG_LOSS, "100"),
        ("buy 10 AAPL market oto 99/", "take_profit.limit_price", LONG_GAIN, "100"),
        ("buy 10 AAPL limit 90 bracket 95/91", "stop_loss.stop_price", LONG_LOSS, "90"),
        ("buy 10 AAPL limit 90 bracket 89/85", "take_profit.limit_price", LONG_GAIN, "90"),
        ("buy 10 AAPL stop 105 bracket 104/90", "take_profit.limit_price", LONG_GAIN, "105"),
        ("buy 10 AAPL stop_limit 105 106 bracket 110/107", "stop_loss.stop_price", LONG_LOSS, "106"),
        ("sell 10 AAPL market bracket 110/120", "take_profit.limit_price", LONG_LOSS, "100"),
        ("sell 10 AAPL market bracket 80/90", "stop_loss.stop_price", LONG_GAIN, "100"),
        ("sell 10 AAPL limit 110 oto /109", "stop_loss.stop_price", LONG_GAIN, "110"),
    ],
)
def test_an_exit_on_the_wrong_side_of_its_entry_is_refused(text: str, name: str, bound: str, base: str) -> None:
    """The base is the entry's own price, or the market's (Alpaca: orders-at-alpaca)."""
    assert refusal_of(text) == Refusal(RejectReason.EXIT_PRICE, f"{name} must be {bound}", {"base_price": base})


@pytest.mark.parametrize(
    "text",
    [
        "buy 10 AAPL market bracket 100.01/99.99",
        "buy 10 AAPL limit 90 bracket 95/85",
        "sell 10 AAPL market bracket 99.99/100.01",
        "sell 10 AAPL limit 110 bracket 105/115",
    ],
)
def test_exits_on_both_sides_of_their_entry_are_accepted(text: str) -> None:
    """A cent is enough."""
    assert reason_of(text) is None


def test_an_exit_of_a_cheap_share_may_be_nearer() -> None:
    """Below one dollar the increment is a hundredth of a cent."""
    assert reason_of("buy 1000 AAPL market bracket 0.5001/0.4999", instrument=CHEAP) is None
    assert reason_of("buy 1000 AAPL market bracket 0.5/0.4999", instrument=CHEAP) == "exit_price"


def test_without_a_price_a_market_entry_has_no_base() -> None:
    """Nothing is made up. The exits are still checked against each other."""
    assert reason_of("buy 10 AAPL market bracket 130/120", instrument=UNPRICED) is None
    assert reason_of("buy 10 AAPL limit 90 bracket 130/120", instrument=UNPRICED) == "exit_price"


@pytest.mark.parametrize(
    ("text", "held", "reason"),
    [
        ("sell 10 AAPL limit 110 oco 110/100", "10", "exit_price"),
        ("sell 10 AAPL limit 110 oco 110/99.99", "10", None),
        ("buy 10 AAPL limit 90 oco 90/100", "-10", "exit_price"),
        ("buy 10 AAPL limit 90 oco 90/100.01", "-10", None),
    ],
)
def test_the_stop_of_an_oco_order_lies_beyond_the_market(text: str, held: str, reason: str | None) -> None:
    """It would fill at once otherwise."""
    assert reason_of(text, held=held) == reason


@pytest.mark.parametrize(
    ("place", "changes", "reason"),
    [
        (0, {"limit_price": "110"}, "exit_price"),
        (0, {"limit_price": "95"}, "exit_price"),
        (0, {"limit_price": "109.99"}, None),
        (1, {"limit_price": "100"}, "exit_price"),
        (1, {"limit_price": "94"}, "exit_price"),
        (1, {"limit_price": "100.01"}, None),
        (2, {"stop_price": "100"}, "exit_price"),
        (2, {"stop_price": "111"}, "exit_price"),
        (2, {"stop_price": "99.99"}, None),
    ],
)
def test_a_replace_cannot_move_an_exit_to_the_wrong_side(
    place: int, changes: dict[str, Any], reason: str | None
) -> None:
    """Neither the entry nor a held exit may pass the other."""
    assert answer_to(group("buy 10 AAPL limit 100 bracket 110/95"), place, **changes) == reason


@pytest.mark.parametrize(
    ("place", "changes", "reason"),
    [
        (0, {"limit_price": "95"}, "exit_price"),
        (0, {"limit_price": "96"}, None),  # it is marketable, and takes the profit now
        (1, {"stop_price": "100"}, "exit_price"),
        (1, {"stop_price": "110"}, "exit_price"),
        (1, {"stop_price": "99.99"}, None),
    ],
)
def test_working_exits_stay_on_their_sides_of_each_other(
    place: int, changes: dict[str, Any], reason: str | None
) -> None:
    """Their entry is over, so only the other exit and the market count."""
    assert answer_to(group("sell 10 AAPL limit 110 oco 110/95", held="10"), place, held="10", **changes) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sell 1 AAPL trailing_stop 500", "trail"),
        ("sell 1 AAPL trailing_stop 100", "trail"),
        ("sell 1 AAPL trailing_stop 99.99", None),
        ("buy 1 AAPL trailing_stop 500", None),
        ("sell 1 AAPL trailing_stop 99%", None),
    ],
)
def test_the_trail_of_a_sell_is_less_than_the_price(text: str, reason: str | None) -> None:
    """Its stop would be negative, and could never be reached."""
    assert reason_of(text, held="1") == reason


def test_a_replace_cannot_bring_in_a_trail_larger_than_the_price() -> None:
    """The rule is that of new orders."""
    old = replace(order("sell 1 AAPL trailing_stop 5"), held_for_orders=Decimal(1), status=OrderStatus.ACCEPTED)
    assert answer_to([old], held="1", trail="500") == "trail"
    assert answer_to([old], held="1", trail="50") is None
