"""Order types, times in force, fill models and replaces, on real rows: each rule by example."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from shared.contracts.orders import SubmitOrders
from tests.component.paper_exchange import Exchange
from tests.support import order, rows

BAR = {"fills": {"fills_on": "bar"}}


def test_a_stop_limit_becomes_a_limit_when_its_stop_is_reached(exchange: Exchange) -> None:
    """Triggered above its limit it rests, also when the price is far below its stop again."""
    account = exchange.open()
    buying = exchange.submit(account, "buy 10 AAPL stop_limit", stop_price="105", limit_price="104")
    exchange.price("AAPL 99/101 100")
    assert not exchange.order(buying).triggered
    exchange.price("AAPL 105/106 105")
    assert (exchange.status(buying), exchange.order(buying).triggered) == ("accepted", True)
    exchange.price("AAPL 102/103 102")
    assert exchange.fills(buying) == [(Decimal(10), Decimal(104))]


@pytest.mark.parametrize(
    ("trail", "hwm", "falls_to"), [({"trail_price": "5"}, 120, "115"), ({"trail_percent": "10"}, 120, "108")]
)
def test_a_trailing_stop_follows_the_best_price(
    exchange: Exchange, trail: dict[str, str], hwm: int, falls_to: str
) -> None:
    """Up to 120 and back: it sells where its trail is reached, and not before."""
    account = exchange.open()
    exchange.price("AAPL 99/101 100")
    exchange.submit(account)
    exchange.price("AAPL 99/101 100")
    trailing = exchange.submit(account, "sell 10 AAPL trailing_stop", **trail)
    for last in ("110", "120", str(Decimal(falls_to) + 1)):
        exchange.price(f"AAPL {last}/{last} {last}")
        assert exchange.status(trailing) == "accepted"
    assert exchange.order(trailing).hwm == hwm
    exchange.price(f"AAPL {falls_to}/{falls_to} {falls_to}")
    assert exchange.fills(trailing) == [(Decimal(10), Decimal(falls_to))]


def test_what_must_fill_at_once_does_or_ends(exchange: Exchange) -> None:
    """Ioc takes what is there, fok all or nothing. Neither waits for a second quote."""
    account = exchange.open(fills={"participation": "0.5"})
    ioc = exchange.submit(account, "buy 10 AAPL limit", limit_price="101", time_in_force="ioc")
    fok = exchange.submit(account, "buy 10 IBM market", time_in_force="fok")
    away = exchange.submit(account, "buy 10 MSFT limit", limit_price="50", time_in_force="ioc")
    exchange.price("AAPL 99/101 100", ask_size="12")
    exchange.price("IBM 99/101 100", ask_size="12")
    exchange.price("MSFT 99/101 100", ask_size="1000")
    assert exchange.fills(ioc) == [(Decimal(6), Decimal(101))]
    assert [(exchange.status(each), exchange.reason(each)) for each in (ioc, fok, away)] == [
        ("canceled", "ioc"),
        ("canceled", "fok"),
        ("canceled", "ioc"),
    ]
    assert exchange.account(account).reserved == 0


def test_a_notional_order_buys_what_it_can_pay(exchange: Exchange) -> None:
    """1,000 dollars at 301 a share: nine decimals, and not a cent more."""
    account = exchange.open()
    exchange.price("AAPL 299/300 300")
    bought = exchange.submit(account, "buy 0 AAPL market", notional="1000")
    assert exchange.account(account).reserved == 1000
    exchange.price("AAPL 300/301 300")
    assert exchange.fills(bought) == [(Decimal("3.322259136"), Decimal(301))]
    assert exchange.status(bought) == "filled"
    assert exchange.account(account).cash == 99_000


@pytest.mark.parametrize(
    ("kind", "terms", "fill"),
    [
        ("limit", {"limit_price": "97"}, 97),  # traded through inside the bar
        ("limit", {"limit_price": "96"}, None),  # only touched
        ("stop", {"stop_price": "104"}, 104),  # reached inside the bar, and filled there
        ("stop", {"stop_price": "99"}, 100),  # gapped through: at the open
        ("market", {}, 101),  # at the quote
    ],
)
def test_inside_a_bar_an_order_fills_where_the_market_was(
    exchange: Exchange, kind: str, terms: dict[str, str], fill: int | None
) -> None:
    """The bar opened at 100, and went from 96 to 105. The quote is 100 to 101."""
    account = exchange.open(**BAR)
    buying = exchange.submit(account, f"buy 10 AAPL {kind}", **terms)
    exchange.bar("AAPL 99/101 100", low="96", high="105", open="100")
    assert [price for _, price in exchange.fills(buying)] == ([Decimal(fill)] if fill else [])


def test_a_bar_that_began_before_the_order_does_not_fill_it(exchange: Exchange) -> None:
    """The low from before the order came is no price for it. The quote is."""
    account = exchange.open(**BAR)
    since = exchange.clock.now
    buying = exchange.submit(account, "buy 10 AAPL limit", limit_price="98")
    exchange.price("AAPL 99/101 100", low="90", high="105", since=since)
    assert exchange.status(buying) == "accepted"
    quoting = exchange.open(fills={"fills_on": "quote"})
    other = exchange.submit(quoting, "buy 10 AAPL limit", limit_price="98")
    exchange.bar("AAPL 99/101 100", low="90", high="105")
    assert exchange.fills(buying) == [(Decimal(10), Decimal(98))]
    assert exchange.status(other) == "accepted"  # its account fills on quotes alone


def test_what_one_order_took_is_not_there_for_the_next(exchange: Exchange) -> None:
    """Half of the 100 shares at the ask may be consumed, by the better limit first, then by the earlier one."""
    first, second = (exchange.open(fills={"participation": "0.5"}) for _ in range(2))
    late = exchange.submit(first, "buy 30 AAPL limit", limit_price="101")
    later = exchange.submit(second, "buy 30 AAPL limit", limit_price="101")
    best = exchange.submit(second, "buy 10 AAPL limit", limit_price="102")
    exchange.price("AAPL 99/101 100", ask_size="100")
    taken = [sum(qty for qty, _ in exchange.fills(each)) for each in (best, late, later)]
    assert taken == [10, 30, 10]
    assert exchange.status(later) == "partially_filled"
    exchange.price("AAPL 99/101 100", ask_size="100")
    assert [qty for qty, _ in exchange.fills(later)] == [10, 20]


def test_the_sweep_takes_no_share_twice(exchange: Exchange) -> None:
    """The same price again: what was taken of it stays taken."""
    account = exchange.open(fills={"participation": "0.5"})
    buying = exchange.submit(account, "buy 100 AAPL market")
    exchange.price("AAPL 99/101 100", ask_size="60")
    exchange.sweep()
    assert exchange.fills(buying) == [(Decimal(30), Decimal(101))]


def test_commission_and_slippage_are_on_the_fill_and_in_the_ledger(exchange: Exchange) -> None:
    """Two cents a share, at least five dollars an order. Ten basis points worse than the market."""
    costs = {"commission": {"kind": "per_share", "rate": "0.02", "minimum": "5"}}
    account = exchange.open(fills={**costs, "slippage": {"kind": "fixed", "rate": "10"}, "participation": "1"})
    buying = exchange.submit(account, "buy 300 AAPL market")
    for size in ("100", "100", "100"):
        exchange.price("AAPL 99/100 100", ask_size=size)
    found = rows(exchange.orders.engine, "SELECT price, fee, slippage FROM orders.fills ORDER BY number")
    assert [(row.price, row.fee, row.slippage) for row in found] == [
        (Decimal("100.1"), 5, Decimal("0.1")),
        (Decimal("100.1"), 0, Decimal("0.1")),
        (Decimal("100.1"), 1, Decimal("0.1")),
    ]
    assert exchange.account(account).cash == 100_000 - 30_030 - 6
    assert exchange.order(buying).fees == 6


def test_a_quote_within_the_latency_does_not_fill(exchange: Exchange) -> None:
    """Four seconds after its acceptance the order is at the market, and not before."""
    account = exchange.open(fills={"latency": "4"})
    buying = exchange.submit(account)
    for _ in range(2):
        exchange.price("AAPL 99/101 100")
        assert exchange.status(buying) == "accepted"
    exchange.price("AAPL 102/103 102")
    exchange.price("AAPL 104/105 104")
    assert exchange.fills(buying) == [(Decimal(10), Decimal(103))]


def test_a_replaced_order_carries_only_what_was_left(exchange: Exchange) -> None:
    """Four of ten have filled. The whole quantity becomes twelve, so eight are still to come."""
    account = exchange.open(fills={"participation": "1"})
    old = exchange.submit(account, "buy 10 AAPL limit", limit_price="101")
    exchange.price("AAPL 99/101 100", ask_size="4")
    new = exchange.replace(account, old, qty="12", limit_price="102")
    assert (exchange.status(old), exchange.order(old).replaced_by) == ("replaced", new)
    after = exchange.order(new)
    assert (after.qty, after.filled_qty, after.replaces, after.reserved) == (8, 0, old, 816)
    exchange.price("AAPL 99/101 100", ask_size="100")
    assert (exchange.status(new), exchange.held(account)) == ("filled", 12)
    assert [name for name, _ in exchange.said(account)] == [
        "OrderAccepted", "OrderFilled", "PositionChanged", "OrderReplaced", "OrderFilled", "PositionChanged",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"qty": "4"}, "qty"),
        ({"stop_price": "90"}, "invalid"),
        ({"trail": "1"}, "trail"),
        ({"limit_price": "1000000"}, "insufficient_buying_power"),
        ({"client_order_id": "taken"}, "duplicate_client_order_id"),
    ],
)
def test_a_replace_that_cannot_be_leaves_the_order_as_it_was(
    exchange: Exchange, changes: dict[str, str], reason: str
) -> None:
    """Four of ten have filled. The sender is told why nothing changes."""
    account = exchange.open(fills={"participation": "1"})
    exchange.submit(account, "buy 1 IBM limit", limit_price="1", client_order_id="taken")
    old = exchange.submit(account, "buy 10 AAPL limit", limit_price="101")
    exchange.price("AAPL 99/101 100", ask_size="4")
    before = exchange.order(old)
    new = exchange.replace(account, old, **changes)
    assert exchange.order(old) == before
    name, body = exchange.said(account)[-1]
    assert (name, body["reason"], body["new_order_id"]) == ("ReplaceRejected", reason, str(new))


def test_an_order_that_has_ended_cannot_be_replaced(exchange: Exchange) -> None:
    """The fill came first, and wins."""
    account = exchange.open()
    filled = exchange.submit(account)
    exchange.price("AAPL 99/101 100")
    exchange.replace(account, filled, qty="20")
    assert exchange.said(account)[-1][1]["message"] == "the order is filled"


def test_two_senders_may_mint_the_same_order_id(exchange: Exchange) -> None:
    """In accounts of their own: each order fills, and each fill has its entry."""
    first, second = exchange.open(), exchange.open()
    order_id = exchange.submit(first)
    exchange.submit(second, order_id=order_id)
    exchange.price("AAPL 99/101 100")
    assert (exchange.held(first), exchange.held(second)) == (10, 10)


def test_an_ended_order_says_why_it_cannot_be_replaced(exchange: Exchange) -> None:
    account = exchange.open()
    order_id = exchange.submit(account)
    exchange.price("AAPL 99/101 100")
    exchange.replace(account, order_id, qty="20")
    assert exchange.said(account)[-1][1]["reason"] == "not_replaceable"


def test_many_orders_in_one_command_are_each_decided(exchange: Exchange) -> None:
    """Each sees the reservations of those before it. An order that comes twice is placed once."""
    account = exchange.open("1000")
    asked = [order(account, type="limit", limit_price="60", qty=Decimal(10)) for _ in range(3)]
    command = SubmitOrders(account_id=account, orders=tuple(asked))
    for _ in range(2):
        exchange.handle(command)
    assert [exchange.status(each.order_id) for each in asked] == ["accepted", "rejected", "rejected"]
    assert [name for name, _ in exchange.said(account)] == ["OrderAccepted", "OrderRejected", "OrderRejected"]


def test_an_order_that_one_command_has_twice_is_placed_once(exchange: Exchange) -> None:
    account = exchange.open()
    asked = order(account)
    exchange.handle(SubmitOrders(account_id=account, orders=(asked, asked)))
    assert exchange.status(asked.order_id) == "accepted"
    assert [name for name, _ in exchange.said(account)] == ["OrderAccepted"]


LIMITS: list[tuple[dict[str, Any], str, dict[str, str], str]] = [
    ({"trading_blocked": True}, "buy 1 AAPL market", {}, "trading_blocked"),
    ({"limits": {"max_order_qty": "9"}}, "buy 10 AAPL market", {}, "order_too_large"),
    ({"limits": {"max_order_notional": "900"}}, "buy 10 AAPL market", {}, "order_too_large"),
    ({"limits": {"max_position_qty": "15"}}, "buy 10 AAPL market", {}, "position_limit"),
    ({"limits": {"max_position_notional": "1500"}}, "buy 10 AAPL market", {}, "position_limit"),
    ({"limits": {"max_position_share": "0.015"}}, "buy 10 AAPL market", {}, "position_limit"),
    ({"limits": {"orders_per_minute": 1}}, "buy 1 AAPL market", {}, "too_many_orders"),
    ({"limits": {"price_collar": "0.1"}}, "buy 1 AAPL limit", {"limit_price": "111"}, "price_collar"),
    ({"limits": {"allowed_symbols": ["IBM"]}}, "buy 1 AAPL market", {}, "symbol_not_allowed"),
    ({"limits": {"blocked_symbols": ["AAPL"]}}, "buy 1 AAPL market", {}, "symbol_blocked"),
    ({}, "buy 2000 AAPL market", {}, "insufficient_buying_power"),
    ({}, "sell 11 AAPL market", {}, "insufficient_shares"),
    ({}, "buy 1 NOPE market", {}, "unknown_symbol"),
]


@pytest.mark.parametrize(("settings", "text", "terms", "reason"), LIMITS, ids=[each[-1] for each in LIMITS])
def test_each_limit_refuses_by_name(
    exchange: Exchange, settings: dict[str, Any], text: str, terms: dict[str, str], reason: str
) -> None:
    """The account holds ten shares at 100. The refusal is a row and an event, and changes nothing else."""
    account = exchange.open()
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    exchange.configure(account, **settings)
    before = exchange.account(account)
    refused = exchange.submit(account, text, **terms)
    assert (exchange.status(refused), exchange.reason(refused)) == ("rejected", reason)
    name, body = exchange.said(account)[-1]
    assert (name, body["order_id"], body["reason"]) == ("OrderRejected", str(refused), reason)
    after = exchange.account(account)
    assert (after.cash, after.reserved) == (before.cash, before.reserved)


def test_what_open_orders_would_add_counts_for_the_limit_on_positions(exchange: Exchange) -> None:
    """Nine held or on their way of ten. A replaced order counts once, one that closes not at all."""
    account = exchange.open(limits={"max_position_qty": "10"})
    exchange.submit(account, "buy 5 AAPL market")
    exchange.price("AAPL 100/100 100")
    waiting = exchange.submit(account, "buy 4 AAPL limit", limit_price="90")
    assert exchange.status(exchange.submit(account, "sell 5 AAPL limit", limit_price="150")) == "accepted"
    assert exchange.reason(exchange.submit(account, "buy 2 AAPL limit", limit_price="90")) == "position_limit"
    assert exchange.status(exchange.replace(account, waiting, qty="5")) == "accepted"
    assert exchange.reason(exchange.submit(account, "buy 1 AAPL limit", limit_price="90")) == "position_limit"


def test_a_strategy_has_limits_of_its_own(exchange: Exchange) -> None:
    """They bind its orders beside those of the account, and nobody else's."""
    careful = uuid4()
    account = exchange.open(strategies={str(careful): {"max_order_qty": "5"}})
    its, others = (exchange.submit(account, strategy_id=strategy) for strategy in (careful, uuid4()))
    assert (exchange.reason(its), exchange.status(others)) == ("order_too_large", "accepted")


def test_a_strategy_s_orders_in_a_minute_are_its_own(exchange: Exchange) -> None:
    """Orders of people and of other strategies do not count, and neither do its rejected ones."""
    eager = uuid4()
    account = exchange.open(strategies={str(eager): {"orders_per_minute": 2}})
    for strategy in (None, uuid4(), eager, None, eager):
        assert exchange.status(exchange.submit(account, "buy 1 AAPL market", strategy_id=strategy)) == "accepted"
    for strategy, status in ((eager, "rejected"), (None, "accepted"), (eager, "rejected")):
        assert exchange.status(exchange.submit(account, "buy 1 AAPL market", strategy_id=strategy)) == status
    exchange.clock.move(seconds=60)
    assert exchange.status(exchange.submit(account, "buy 1 AAPL market", strategy_id=eager)) == "accepted"
