"""The reasons of an order in sentences, from the decision that it comes from."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
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
    if decision is not None:
        return [*_decided(order, decision), *_place(order), _fate(order)]
    if order["liquidation"]:
        return [*_LIQUIDATION, _wish(order), _fate(order)]
    if order["rebalance"] is not None:
        return [*_rebalanced(order, order["rebalance"]), _fate(order)]
    return [*_by_hand(order), _wish(order), *_place(order), _fate(order)]


_LIQUIDATION = (
    "No strategy sent the order: it is the liquidation of a margin call.",
    "The account's equity stayed below its maintenance margin until the time of grace was over.",
    "All other orders were canceled, and each position is closed at the market.",
)


def _rebalanced(order: Record, found: Record) -> Iterator[str]:
    begun = (
        "the job rebalance_accounts, because a weight was outside of its band" if found["scheduled"] else "a request"
    )
    yield f"The rebalance {found['id']} sent the order. It was begun by {begun}, at {_at(found['at'])}."
    if found["weight_before"] is not None:
        target = "no target" if found["target"] is None else f"a target of {_percent(found['target'])}"
        after = f"{_percent(found['weight_before'])} before it, and {_percent(found['weight_after'])} in its plan"
        yield f"{order['symbol']} has {target}. Its weight was {after}."
    if found["note"]:
        yield f"{found['note'].rstrip('.')}."
    yield _wish(order)


def _by_hand(order: Record) -> Iterator[str]:
    if order["strategy_id"] is not None:
        yield f"The strategy {order['strategy_id']} sent the order, and its decision is no longer kept."
    else:
        yield "No strategy sent the order: it came through the API."


def _wish(order: Record) -> str:
    """The order's terms."""
    size = plain(order["qty"]) if order["qty"] is not None else f"{plain(order['notional'])} {order['currency']} of"
    prices = (("limit_price", "at a limit of"), ("stop_price", "with a stop at"), ("trail_price", "trailing by"))
    terms = "".join(f" {words} {plain(order[name])}" for name, words in prices if order[name] is not None)
    trail = f" trailing by {plain(order['trail_percent'])} %" if order["trail_percent"] is not None else ""
    kind = str(order["type"]).replace("_", " ")
    return f"It asks to {order['side']} {size} {order['symbol']} by a {kind} order{terms}{trail}."


def _place(order: Record) -> Iterator[str]:
    """Its place among other orders."""
    if order["leg"] is not None:
        group = "OCO pair" if order["order_class"] == "oco" else "bracket"
        yield f"It is the {str(order['leg']).replace('_', ' ')} of the {group} of the order {order['order_group']}."
    if order["replaces"] is not None:
        yield f"It replaces the order {order['replaces']}, which was changed through the API."
    if order["replaced_by"] is not None:
        yield f"The order {order['replaced_by']} has replaced it."


def _percent(share: str) -> str:
    return f"{100 * Decimal(share):.2f} %"


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
