"""While a symbol is halted, no new order of it is accepted and none fills. Open orders wait or end."""

from datetime import timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from psycopg.errors import UndefinedColumn

from services.marketdata.domain.official import Official
from services.marketdata.usecases import official_prices
from services.orders.usecases.margin import check_margins
from shared.contracts.official_prices import AuctionKind
from shared.contracts.orders import SubmitOrders
from shared.storage.errors import is_transient
from tests.component.auction_days import WEDNESDAY, at, utc
from tests.component.auction_days import said as auctions_said
from tests.component.halting import halt, quoted, recover, resume, told, within_halts
from tests.component.paper_exchange import Exchange
from tests.component.watching import statements
from tests.support import broken_invariants, order

BAR = {"fills": {"fills_on": "bar"}}


def price(exchange: Exchange, last: str, **fields: str) -> int:
    """Let marketdata take in a price a second later, and orders hear of it. Returns whether there was one."""
    exchange.clock.move(seconds=1)
    taken = quoted(exchange.marketdata, last, **fields)
    if taken:
        exchange.handle(told(exchange.marketdata)[-1])
    return taken


def test_an_order_of_a_halted_symbol_is_refused_by_name(exchange: Exchange) -> None:
    """It says since when and why. Other symbols trade, and this one does again once it is resumed."""
    account = exchange.open()
    price(exchange, "100")
    halt(exchange.marketdata)
    since = exchange.clock.now
    refused, other = exchange.submit(account), exchange.submit(account, "buy 1 IBM market")
    assert (exchange.status(refused), exchange.reason(refused)) == ("rejected", "symbol_halted")
    said = f"trading in AAPL has been halted since {since:%Y-%m-%d %H:%M:%S} UTC: news pending"
    assert exchange.order(refused).reject_message == said
    assert exchange.status(other) == "accepted"
    assert exchange.account(account).reserved == 0
    resume(exchange.marketdata)
    assert exchange.status(exchange.submit(account)) == "accepted"


def test_of_many_orders_those_of_halted_symbols_are_refused(exchange: Exchange) -> None:
    """Also for an auction, and also where they only close what is held."""
    account = exchange.open()
    exchange.submit(account)
    price(exchange, "100")
    halt(exchange.marketdata)
    given = {"submitted_at": exchange.clock.now}
    sides = [(symbol, side) for symbol in ("AAPL", "IBM") for side in ("buy", "sell")]
    asked = [order(account, symbol=symbol, side=side, **given) for symbol, side in sides]
    exchange.handle(SubmitOrders(account_id=account, orders=tuple(asked)))
    reasons = [exchange.reason(each.order_id) for each in asked]
    assert reasons == ["symbol_halted", "symbol_halted", None, "insufficient_shares"]


def test_a_halt_takes_no_statement_more(exchange: Exchange) -> None:
    """The listing is read anyway."""
    account = exchange.open()
    price(exchange, "100")
    exchange.submit(account)
    with statements(exchange.orders.engine) as before:
        exchange.submit(account)
    halt(exchange.marketdata)
    with statements(exchange.orders.engine) as halted:
        exchange.submit(account)
    assert len(halted) <= len(before)


def test_before_marketdata_has_migrated_orders_is_not_ready(exchange: Exchange) -> None:
    """Its view has no halts yet: the error passes by itself, and the command is no dead letter."""
    account = exchange.open()
    rename(exchange, "halted_at", "halted_once")
    with pytest.raises(UndefinedColumn) as refused:
        exchange.submit(account)
    assert is_transient(refused.value)
    rename(exchange, "halted_once", "halted_at")
    assert exchange.status(exchange.submit(account)) == "accepted"


def rename(exchange: Exchange, column: str, to: str) -> None:
    with exchange.marketdata.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER VIEW marketdata.instruments_v1 RENAME COLUMN {column} TO {to}")


def test_what_is_halted_can_be_canceled_and_not_replaced(exchange: Exchange) -> None:
    """Neither a simple order nor an exit that waits for its entry."""
    account = exchange.open()
    simple = exchange.submit(account, "buy 10 AAPL limit", limit_price="90")
    exits = {"take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "80"}}
    entry = exchange.submit(account, "buy 10 AAPL limit", limit_price="90", order_class="bracket", **exits)
    held = exchange.legs(entry)["stop_loss"].id
    halt(exchange.marketdata)
    for old, change in ((simple, {"limit_price": "91"}), (held, {"stop_price": "81"})):
        exchange.replace(account, old, **{name: Decimal(value) for name, value in change.items()})
        name, body = exchange.said(account)[-1]
        assert (name, body["reason"], body["order_id"]) == ("ReplaceRejected", "symbol_halted", str(old))
    for each in (simple, entry):
        exchange.cancel(account, each)
    assert [exchange.status(each) for each in (simple, entry, held)] == ["canceled"] * 3
    assert exchange.account(account).reserved == 0


def test_nothing_fills_while_its_symbol_is_halted(exchange: Exchange) -> None:
    """It fills neither on a price nor in the sweep, but on the first quote afterwards, not inside the bar before."""
    account = exchange.open(**BAR)
    price(exchange, "100")
    resting = exchange.submit(account, "buy 10 AAPL limit", limit_price="95")
    stop = exchange.submit(account, "buy 10 AAPL stop", stop_price="110")
    halt(exchange.marketdata)
    for last in ("94", "120"):
        assert price(exchange, last) == 0
        assert recover(exchange) == 0
    resume(exchange.marketdata)
    assert price(exchange, "100", low="80", high="130") == 1
    assert [exchange.status(each) for each in (resting, stop)] == ["accepted", "accepted"]
    price(exchange, "100", low="94")
    assert exchange.fills(resting) == [(Decimal(10), Decimal(95))]
    price(exchange, "111")
    assert exchange.status(stop) == "filled"
    assert within_halts(exchange) == []


def test_orders_keep_their_priority_over_a_halt(exchange: Exchange) -> None:
    """The shares on offer go to the order that came first."""
    account = exchange.open(fills={"participation": "0.1"})
    price(exchange, "100")
    first, second = (exchange.submit(account, "buy 8 AAPL limit", limit_price="101") for _ in range(2))
    halt(exchange.marketdata)
    price(exchange, "100")
    resume(exchange.marketdata)
    price(exchange, "100")
    assert [exchange.order(each).filled_qty for each in (first, second)] == [8, 2]


def test_an_order_of_the_day_expires_in_a_halt(exchange: Exchange) -> None:
    """One until it is canceled waits for the end of it."""
    account = exchange.open()
    day, gtc = (exchange.submit(account, time_in_force=each) for each in ("day", "gtc"))
    halt(exchange.marketdata)
    assert exchange.expire(days=1) == 1
    assert (exchange.status(day), exchange.status(gtc)) == ("expired", "accepted")
    resume(exchange.marketdata)
    price(exchange, "100")
    assert exchange.status(gtc) == "filled"


@pytest.mark.parametrize("turns", list(permutations(range(4))), ids=lambda turns: "".join(map(str, turns)))
def test_no_order_of_the_messages_fills_on_a_price_of_a_halt(exchange: Exchange, turns: tuple[int, ...]) -> None:
    """A price from before it and two from after it, as late as they like, and the sweep before any of them."""
    account = exchange.open(**BAR)
    buying = [exchange.submit(account, "buy 1 AAPL limit", limit_price=limit) for limit in ("99.5", "94", "89")]
    exchange.clock.move(seconds=1)
    quoted(exchange.marketdata, "99")
    halt(exchange.marketdata)
    for last in ("85", "84"):
        exchange.clock.move(seconds=20)
        assert quoted(exchange.marketdata, last) == 0
    inside = exchange.clock.now
    exchange.clock.move(seconds=20)
    resume(exchange.marketdata)
    assert quoted(exchange.marketdata, "83", inside) == 0
    for last, low in (("96", "80"), ("93", "93")):  # the bar of the first reaches into the halt
        exchange.clock.move(seconds=20)
        assert quoted(exchange.marketdata, last, low=low) == 1
    messages = told(exchange.marketdata)
    assert len(messages) == 3
    for turn in turns:
        if turn < len(messages):
            exchange.handle(messages[turn])
        else:
            recover(exchange)
    assert within_halts(exchange) == []
    assert exchange.status(buying[2]) == "accepted"
    filled = [price for each in buying for _, price in exchange.fills(each)]
    assert filled
    assert all(price >= 93 for price in filled)


def test_what_was_missed_is_made_up_for_without_the_halt(exchange: Exchange) -> None:
    """A price every twenty seconds, those of the halt at 80. The minute in which it begins, at 94, is left out."""
    account = exchange.open(**BAR)
    exchange.clock.now = exchange.clock.now.replace(second=0, microsecond=0)
    price(exchange, "100")
    limits = ("98", "95", "91", "96.5")
    before, minute, within, after = (exchange.submit(account, "buy 1 AAPL limit", limit_price=each) for each in limits)
    start = exchange.clock.now.replace(second=0) + timedelta(minutes=1)
    for number, last in enumerate(["97"] * 9 + ["94"] + ["80"] * 10 + ["96"] * 10):
        exchange.clock.now = start + number * timedelta(seconds=20)
        if number == 10:
            halt(exchange.marketdata)
        if number == 20:
            resume(exchange.marketdata)
        quoted(exchange.marketdata, last)
    assert recover(exchange) == 2
    assert exchange.fills(before) == [(Decimal(1), Decimal(97))]
    assert exchange.fills(after) == [(Decimal(1), Decimal(96))]
    assert {exchange.status(minute), exchange.status(within)} == {"accepted"}
    assert within_halts(exchange) == []


def official(exchange: Exchange, kind: str, clock: str) -> int:
    found = Official("AAPL", AuctionKind(kind), WEDNESDAY, Decimal(100), utc(WEDNESDAY, clock), "test")
    with exchange.marketdata.unit_of_work() as uow:
        return official_prices.record(uow, [found])


def test_there_is_no_auction_in_a_halt(floor: Exchange) -> None:
    """Its price may come before or after the end of the halt. The order for the close ends with the next open."""
    account = floor.open()
    opening, closing = (floor.submit(account, time_in_force=each) for each in ("opg", "cls"))
    at(floor, "14:29")
    halt(floor.marketdata)
    at(floor, "14:31")
    assert official(floor, "open", "14:30") == 0
    at(floor, "14:35")
    resume(floor.marketdata)
    assert official(floor, "open", "14:30") == 0
    assert official(floor, "open", "14:35") == 1
    floor.handle(auctions_said(floor)[-1])
    assert (floor.status(opening), floor.status(closing)) == ("filled", "accepted")
    at(floor, "20:58")
    price(floor, "101")
    halt(floor.marketdata)
    at(floor, "21:10:30")
    with floor.marketdata.unit_of_work() as uow:
        assert official_prices.record_closes(uow) == 0
    assert official(floor, "close", "21:00") == 0
    assert recover(floor) == 0
    assert floor.expire(days=2) == 1
    assert floor.status(closing) == "expired"


def test_a_margin_call_closes_what_is_halted_when_that_is_over(exchange: Exchange) -> None:
    """Nobody answers it: the shares are sold with the first price after the halt."""
    account = exchange.open("10000", multiplier=2, margin_grace=1)
    price(exchange, "100")
    exchange.submit(account, "buy 190 AAPL limit", limit_price="101")
    price(exchange, "100")
    price(exchange, "60")
    call(exchange)
    halt(exchange.marketdata)
    exchange.clock.move(hours=1)
    assert call(exchange)["liquidated"] == 1
    assert recover(exchange) == 0
    assert exchange.held(account) == 190
    resume(exchange.marketdata)
    price(exchange, "50")
    assert exchange.held(account) == 0
    assert within_halts(exchange) == []


def call(exchange: Exchange) -> dict[str, int]:
    exchange.clock.move(seconds=1)
    with exchange.orders.unit_of_work() as uow:
        done = check_margins(uow)
    assert broken_invariants(exchange.orders.engine) == {}
    return done
