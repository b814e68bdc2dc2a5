"""Orders of every kind: some fill on the next price, some rest, some the market decides."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from random import Random
from typing import Any

#: No price of the fleet lies below the one, or above the other.
LOW, HIGH = "0.5", "5000"
SYMBOLS = ("AAPL", "FB", "IBM", "MSFT")
#: Of the fleet's symbols the one whose market has auctions.
AUCTIONED = "GOOG"
#: An order that works, and needs nothing of the market but its next price, or its auction. The market with auctions is
#: closed during a fault run.
FILLS_NOW = f"""
status IN ('accepted', 'partially_filled')
AND (time_in_force IN ('ioc', 'fok', 'opg', 'cls')
     OR symbol <> '{AUCTIONED}' AND type <> 'trailing_stop'
        AND (limit_price IS NULL OR limit_price = CASE side WHEN 'buy' THEN {HIGH} ELSE {LOW} END)
        AND (stop_price IS NULL OR stop_price = CASE side WHEN 'buy' THEN {LOW} ELSE {HIGH} END))
"""
OTHER = {"buy": "sell", "sell": "buy"}
Ticket = dict[str, Any]


def ticket(random: Random, last: Mapping[str, Decimal]) -> Ticket:
    """Any order; ``last`` are the prices that its trader has seen."""
    side, symbol = random.choices(["buy", "sell"], [3, 2])[0], random.choice(SYMBOLS)
    order = {"symbol": symbol, "side": side, "qty": str(random.randint(1, 8))}
    kind = random.choices(list(KINDS), [6, 3, 1, 1, 2, 2, 2])[0]
    return order | KINDS[kind](random, order, last.get(symbol))


def changes(random: Random, order: Mapping[str, Any]) -> Ticket:
    """A change that a trader may ask for; not every change fits its order."""
    side, eager = order["side"], random.random() < 0.5
    return random.choice(
        [
            {"limit_price": limit(side, eager=eager)},
            {"stop_price": stop(side, eager=eager)},
            {"qty": str(random.randint(1, 8))},
            {"trail": "0.75"},
            {"client_order_id": f"instead of {order['id']}"},
            {"time_in_force": random.choice(["day", "gtc", "ioc"])},
        ]
    )


def limit(side: str, *, eager: bool) -> str:
    return HIGH if (side == "buy") == eager else LOW


def stop(side: str, *, eager: bool) -> str:
    return limit(OTHER[side], eager=eager)


def _terms(random: Random, side: str) -> Ticket:
    """A type and its prices."""
    eager = random.random() < 0.6
    limited, stopped = {"limit_price": limit(side, eager=eager)}, {"stop_price": stop(side, eager=eager)}
    trailing = random.choice([{"trail_percent": "0.5"}, {"trail_price": "0.25"}])
    return random.choice(
        [
            {"type": "market"},
            {"type": "limit", **limited},
            {"type": "stop", **stopped},
            {"type": "stop_limit", **limited, **stopped},
            {"type": "trailing_stop", **trailing},
        ]
    )


def _simple(random: Random, order: Ticket, _last: Decimal | None) -> Ticket:
    terms = _terms(random, order["side"])
    at_once = ["ioc", "fok"] if terms["type"] in {"market", "limit"} else []
    return terms | {"time_in_force": random.choice(["day", "gtc", *at_once])}


def _for_an_auction(random: Random, order: Ticket, _last: Decimal | None) -> Ticket:
    """An order for an auction; where the market never closes, it is rejected by name."""
    symbol = AUCTIONED if random.random() < 0.9 else order["symbol"]
    terms = random.choice([{"type": "market"}, {"type": "limit", "limit_price": limit(order["side"], eager=True)}])
    return {"symbol": symbol, "time_in_force": random.choice(["opg", "cls"]), **terms}


def _for_money(random: Random, _order: Ticket, _last: Decimal | None) -> Ticket:
    size: Ticket = random.choice([{"qty": None, "notional": "250.50"}, {"qty": "0.5"}])
    return {"type": "market", "time_in_force": "day", **size}


def _extended(random: Random, order: Ticket, _last: Decimal | None) -> Ticket:
    price = limit(order["side"], eager=random.random() < 0.5)
    return {"type": "limit", "limit_price": price, "time_in_force": "day", "extended_hours": True}


def _bracket(random: Random, order: Ticket, last: Decimal | None) -> Ticket:
    entry = {**_terms(random, order["side"]), "time_in_force": random.choice(["day", "gtc"])}
    own = entry.get("limit_price") or entry.get("stop_price")
    base = last if own is None else Decimal(own)
    return {"order_class": "bracket", **entry, **_exits(random, OTHER[order["side"]], base)}


def _oto(random: Random, order: Ticket, last: Decimal | None) -> Ticket:
    bracket = _bracket(random, order, last)
    del bracket[random.choice(["take_profit", "stop_loss"])]
    return bracket | {"order_class": "oto"}


def _oco(random: Random, order: Ticket, last: Decimal | None) -> Ticket:
    """The exits alone, of what is held."""
    exits = _exits(random, order["side"], last)
    if random.random() < 0.3:  # the profit is taken at once, and the loss lies beyond any price
        gain, loss = (LOW, "0.4") if order["side"] == "sell" else (HIGH, "5001")
        exits = {"take_profit": {"limit_price": gain}, "stop_loss": {"stop_price": loss}}
    price = exits["take_profit"]["limit_price"]
    return {"order_class": "oco", "type": "limit", "time_in_force": "gtc", "limit_price": price, **exits}


def _exits(random: Random, side: str, base: Decimal | None) -> Ticket:
    """Exits on that side around the base, near it or far away. Those of an entry far from the market fill at once."""
    base = Decimal(100) if base is None else base
    up, down = (Decimal(random.choice(["0.0005", "0.01", "0.05"])) for _ in range(2))
    places, tick = (2, Decimal("0.01")) if base > 1 else (4, Decimal("0.0001"))
    above, below = (str(round(price, places)) for price in (base * (1 + up) + tick, base * (1 - down) - tick))
    gain, loss = (above, below) if side == "sell" else (below, above)
    limited = {"limit_price": limit(side, eager=True)} if random.random() < 0.3 else {}
    return {"take_profit": {"limit_price": gain}, "stop_loss": {"stop_price": loss, **limited}}


KINDS: dict[str, Callable[[Random, Ticket, Decimal | None], Ticket]] = {
    "simple": _simple,
    "auction": _for_an_auction,
    "money": _for_money,
    "extended": _extended,
    "bracket": _bracket,
    "oto": _oto,
    "oco": _oco,
}
