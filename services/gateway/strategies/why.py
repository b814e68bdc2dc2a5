"""The reasons of an order in sentences, from the decision that it comes from."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from shared.money import plain
from shared.storage.keyset import Record

_ACTIONS = {
    "enter_long": "to buy",
    "enter_short": "to sell short",
    "exit": "to close its position in",
    "target": "to bring the weight to its target in",
    "buy": "to buy",
}
_HOLDS = {True: "yes", False: "no", None: "not known"}


def sentences(order: Record) -> list[str]:
    """All that led to the order, and what became of it."""
    decision = order["decision"]
    if decision is None:
        return [_by_hand(order), _fate(order)]
    return [*_decided(order, decision), _fate(order)]


def _by_hand(order: Record) -> str:
    if order["strategy_id"] is not None:
        return f"The strategy {order['strategy_id']} sent the order, and its decision is no longer kept."
    return "No strategy sent the order: it came through the API."


def _decided(order: Record, decision: Record) -> Iterator[str]:
    named = f"The strategy {decision['name']} ({decision['kind']}, version {decision['version']})"
    wanted = f"{_ACTIONS.get(decision['action'], decision['action'])} {decision['symbol']}"
    yield f"{named} decided at {_at(decision['at'])} {wanted}: {decision['reason']}"
    if decision["bar_at"] is not None:
        yield f"Its newest bar began at {_at(decision['bar_at'])} and closed at {plain(decision['close'])}."
    if decision["last"] is not None:
        yield f"The newest price was {plain(decision['last'])}, from {_at(decision['quote_at'])}."
    for text, holds, values in decision["conditions"] or ():
        seen = ", ".join(f"{name} was {value if value is not None else 'not known'}" for name, value in values.items())
        yield f"Condition: {text}: {_HOLDS[holds]}{f', {seen}' if seen else ''}."
    if decision["position"] is not None:
        equity = decision["equity"]
        worth = f", and the account's equity was {plain(equity)} {order['currency']}" if equity is not None else ""
        shares = "1 share" if decision["position"] == 1 else f"{plain(decision['position'])} shares"
        yield f"The strategy held {shares}{worth}."
    yield f"It ordered to {decision['side']} {plain(decision['qty'])}."
    yield from decision["cuts"] or ()
    if order["leg"] is not None:
        yield f"This order is the {str(order['leg']).replace('_', ' ')} of that order's bracket."


def _fate(order: Record) -> str:
    """The order's state."""
    status = str(order["status"]).replace("_", " ")
    if order["reject_message"]:
        return f"The order was rejected: {order['reject_message']}."
    if order["filled_qty"]:
        of = f" of {plain(order['qty'])}" if order["qty"] is not None else ""
        price = plain(order["filled_avg_price"])
        return f"The order is {status}: {plain(order['filled_qty'])}{of} at {price} on average."
    why = f" ({order['cancel_reason']})" if order["cancel_reason"] else ""
    return f"The order is {status}{why}."


def _at(moment: datetime | Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
