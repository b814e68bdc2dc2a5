"""The rules of an exchange at any time, whatever people, prices and crashes do, beside the books' invariants."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from shared.contracts.accounts import MoveCash, ResetAccount
from shared.contracts.orders import SubmitOrder
from shared.contracts.prices import Price
from shared.money import CENT, cents_down, cents_up
from tests.component.simulated_exchange import START, Exchange, column
from tests.support import broken_invariants, rows
from tests.unit.random_market import OWNERS

#: How far a status is; it never goes back. Those not here are ends.
COME = {"held": 0, "accepted": 1, "partially_filled": 2}
ENDS = {"OrderCanceled", "OrderExpired", "OrderReplaced", "OrderRejected"}
#: Half of an assumed spread, as a fraction, where the provider has no quote.
HALF_SPREAD = Decimal("0.0001")


class Key(NamedTuple):
    account: UUID
    order: UUID


@dataclass
class Model:
    """The test's own knowledge: the messages that were sent, and how often each has to be answered."""

    prices: dict[tuple[str, int, datetime], Price] = field(default_factory=dict)
    latest: dict[str, Price] = field(default_factory=dict)
    #: Prices that were made and not told of yet.
    late: list[Price] = field(default_factory=list)
    split_counts: Counter[str] = field(default_factory=Counter)
    sequences: Counter[str] = field(default_factory=Counter)
    submitted: dict[Key, SubmitOrder] = field(default_factory=dict)
    #: When each order was asked for; nothing older fills it.
    asked_at: dict[Key, datetime] = field(default_factory=dict)
    cancels: Counter[Key] = field(default_factory=Counter)
    replaces: Counter[Key] = field(default_factory=Counter)
    moved: dict[UUID, MoveCash | ResetAccount] = field(default_factory=dict)


@dataclass
class Oracle:
    """``start``: what each account began with. ``seen``: kinds of fills. ``before``: the orders as last seen."""

    exchange: Exchange
    model: Model
    start: dict[UUID, Decimal]
    seen: Counter[str]
    before: dict[Key, Any] = field(default_factory=dict)
    fills: list[Any] = field(default_factory=list)

    def check(self) -> None:
        assert broken_invariants(self.exchange.books) == {}
        self._check_orders()
        self._check_fills()
        self._check_told()

    def _check_orders(self) -> None:
        """They only move forward, and what has ended stays as it is."""
        found = {
            Key(row.account_id, row.id): row
            for row in rows(self.exchange.books, "SELECT * FROM orders.orders ORDER BY accepted_at, account_id, id")
        }
        for key, was in self.before.items():
            order = found[key]
            if was.status not in COME:
                assert order == was
            elif order.status in COME:
                assert COME[order.status] >= COME[was.status]
            assert order.filled_qty >= was.filled_qty
        assert {key for key in self.model.submitted if key not in found} == set()
        self.before = found

    def _check_fills(self) -> None:
        """Each lies on the price that it names, which is newer than the order and of the same shares."""
        fills = rows(self.exchange.books, "SELECT * FROM orders.fills ORDER BY filled_at, account_id, order_id, number")
        for fill in fills[len(self.fills) :]:
            order = self.before[Key(fill.account_id, fill.order_id)]
            self.seen.update([fill.stage, order.type, order.order_class, order.time_in_force, order.status])
            assert fill.quoted_at > self.model.asked_at.get(Key(fill.account_id, order.id), START)
            if fill.stage != "auction":
                on = self.model.prices[fill.symbol, fill.price_sequence, fill.quoted_at]
                assert on.split_count == self.model.split_counts[fill.symbol], "the price is of these shares"
                check_place(fill, on, order.limit_price)
        assert fills[: len(self.fills)] == self.fills
        self.fills = fills

    def _check_told(self) -> None:
        """No event is missing or comes twice, each request has one answer, and cash is as the events say."""
        for owner in OWNERS:
            told = self.exchange.told[owner]
            assert sorted(told) == list(range(1, len(told) + 1))
            assert all(len(each) == 1 for each in told.values())
            events = [(name, json.loads(body)) for number in sorted(told) for name, body in told[number]]
            self._check_ends(events)
            self._check_answers(owner, answers_among(events))
            (found,) = column(self.exchange, "SELECT cash, sequence FROM orders.accounts WHERE id = :id", id=owner)
            assert found == (told_cash(self.start[owner], events), len(told))

    def _check_ends(self, events: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Nothing is heard of an order after it was told that it has ended."""
        ended: set[str] = set()
        for name, body in events:
            if name in {"OrderFilled", "OrderAdjusted", *ENDS}:
                assert body["order_id"] not in ended
            if name in ENDS or body.get("order_status") == "filled":
                ended.add(body["order_id"])

    def _check_answers(self, owner: UUID, answers: Counter[tuple[str, str]]) -> None:
        asked: Counter[tuple[str, str]] = Counter()
        for what, counts in (
            ("submit", Counter(list(self.model.submitted))),
            ("cancel", self.model.cancels),
            ("replace", self.model.replaces),
        ):
            asked.update({(what, str(key.order)): count for key, count in counts.items() if key.account == owner})
        asked.update(("cash", str(about)) for about, each in self.model.moved.items() if each.account_id == owner)
        given = Counter({key: count for key, count in answers.items() if key in asked or key[0] != "submit"})
        assert given == asked, (owner, given - asked, asked - given)


def answers_among(events: Sequence[tuple[str, dict[str, Any]]]) -> Counter[tuple[str, str]]:
    """The number of answers to each request. A rejection of an order that was accepted is its end, and no answer."""
    found: Counter[tuple[str, str]] = Counter()
    accepted: set[str] = set()
    for name, body in events:
        answer = answer_of(name, body)
        if answer is not None and not (name == "OrderRejected" and body["order_id"] in accepted):
            found[answer] += 1
        if name == "OrderAccepted":
            accepted.add(body["order_id"])
    return found


def answer_of(name: str, body: dict[str, Any]) -> tuple[str, str] | None:
    """The command that the event answers: its kind and id. Exits and orders that go on are accepted, too."""
    if name in {"OrderAccepted", "OrderRejected"}:
        return "submit", body["order_id"]
    if name == "CancelRejected" or (name == "OrderCanceled" and body["reason"] == "requested"):
        return "cancel", body["order_id"]
    if name in {"OrderReplaced", "ReplaceRejected"}:
        return "replace", body["new_order_id"]
    if name in {"CashMoved", "CashRefused", "AccountReset"}:
        return "cash", body.get("transfer_id") or body["reset_id"]
    return None


def told_cash(start: Decimal, events: Sequence[tuple[str, dict[str, Any]]]) -> Decimal:
    """The cash that was paid in since the account began anew, with that of fills and dividends."""
    total = start
    for name, body in events:
        if name == "AccountReset":
            total = Decimal(body["cash"])
        elif name in {"CashMoved", "DividendPaid"}:
            total += Decimal(body["amount"])
        elif name == "OrderFilled":
            exact, buys = Decimal(body["qty"]) * Decimal(body["price"]) * Decimal(body["rate"]), body["side"] == "buy"
            total += (-cents_up(exact) if buys else cents_down(exact)) - Decimal(body["fee"])
        if "cash" in body:
            assert Decimal(body["cash"]) == total
    return total


def check_place(fill: Any, on: Price, limit: Decimal | None) -> None:
    """It lies in the bar or on the quote. A limit that rested fills at its limit, where the quote is better."""
    market = fill.price - fill.slippage if fill.side == "buy" else fill.price + fill.slippage
    side = on.ask if fill.side == "buy" else on.bid
    if fill.stage != "quote":
        assert on.low <= fill.price <= on.high
    elif side is not None:
        assert market == side or (limit is not None and (market > side if fill.side == "buy" else market < side))
    else:
        assert on.bid is None, "one side of a quote is no price for the other"
        assert on.ask is None, "one side of a quote is no price for the other"
        assert limit is not None or abs(market - on.last) <= on.last * HALF_SPREAD + CENT / 100


def came_out(exchange: Exchange) -> dict[str, Any]:
    """All that does not depend on when a worker died: to the cent, the share and the event."""
    found = {name: column(exchange, statement) for name, statement in OUTCOMES.items()}
    told = exchange.told
    events = {owner: [next(iter(told[owner][n]))[0] for n in sorted(told[owner])] for owner in OWNERS}
    return {**found, **{f"events of {owner}": events[owner] for owner in OWNERS}}


OUTCOMES = {
    "fills": """
SELECT account_id, order_id, number, id, symbol, side, qty, price, amount, fee, slippage, stage, price_sequence,
       quoted_at, rate FROM orders.fills ORDER BY 1, 2, 3""",
    "orders": """
SELECT account_id, id, status, qty, filled_qty, filled_avg_price, fees, reserved, held_for_orders, limit_price,
  stop_price,
       hwm, triggered, cancel_reason, reject_reason, replaces FROM orders.orders ORDER BY 1, 2""",
    "accounts": "SELECT id, cash, reserved, sequence, generation FROM orders.accounts ORDER BY 1",
    "positions": "SELECT account_id, symbol, qty, cost FROM orders.positions ORDER BY 1, 2",
}
