"""Orders and quotes in few words: ``order("buy 10 AAPL limit 99.50")``, ``quote("AAPL 99.90/100.10 100")``."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce
from shared.contracts.prices import Price
from shared.exchange.acceptance.pre_trade import Instrument
from shared.exchange.order import Account, Order
from shared.money import ZERO

ACCOUNT = UUID(int=1)
ACCEPTED = datetime(2026, 11, 23, 15, tzinfo=UTC)
#: The default time of quotes, newer than that of orders.
QUOTED = ACCEPTED + timedelta(seconds=1)
#: The settings of an account that may hold twice its equity and sell short.
MARGIN: dict[str, Any] = {"multiplier": 2, "shorting": True}
#: AAPL, by default.
INSTRUMENT = Instrument(tradable=True, ask=Decimal("100.10"), bid=Decimal("99.90"), last=Decimal(100))

_CLASSES = ("bracket", "oto", "oco")


def order(text: str, number: int = 1, **fields: Any) -> Order:
    """An open order: ``<side> <qty> <symbol> <type> [<prices>] [<time in force>]``.

    A quantity may be money, ``$1000``. A stop_limit has its stop and then its limit, a trailing_stop ``2`` or ``2%``.
    """
    given = {"account_id": ACCOUNT, "id": UUID(int=number), "accepted_at": ACCEPTED, "active_at": ACCEPTED}
    return Order(**{**given, **_terms(text), **fields})


def submission(text: str, number: int = 1, **fields: Any) -> SubmitOrder:
    """The command for such an order. ``bracket 110/95`` at its end adds the prices of take-profit and stop-loss.

    An ``oto`` leaves out one of the two. The stop of ``/95:94`` has a limit.
    """
    common = {
        "account_id": ACCOUNT,
        "order_id": UUID(int=number),
        "client_order_id": str(number),
        "submitted_at": ACCEPTED,
    }
    return SubmitOrder(**{**common, **_terms(text), **fields})


def account(cash: str, reserved: str = "0", *, long: str = "0", short: str = "0", **settings: Any) -> Account:
    """An account, by default a cash account."""
    known = AccountSettings.model_validate(settings)
    return Account(ACCOUNT, Decimal(cash), Decimal(reserved), 1, Decimal(long), Decimal(short), known)


def facts(*each: Any) -> tuple[Any, ...]:
    """The values side by side, to compare them with plain numbers and words."""
    return each


def _terms(text: str) -> dict[str, Any]:
    side, size, symbol, kind, *words = text.split()
    terms = {"side": Side(side), "symbol": symbol, "type": OrderType(kind), **_size(size)}
    if len(words) > 1 and words[-2] in _CLASSES:
        *words, order_class, exits = words
        terms |= {"order_class": order_class, **_exits(exits)}
    if words and words[-1] in {*TimeInForce}:
        terms["time_in_force"] = TimeInForce(words.pop())
    return {**terms, **_prices(kind, words)}


def _size(text: str) -> dict[str, Any]:
    """The size. Notional and fractional orders are day orders by default, others gtc."""
    if text.startswith("$"):
        return {"qty": None, "notional": Decimal(text[1:]), "time_in_force": TimeInForce.DAY}
    qty = Decimal(text)
    return {"qty": qty, "time_in_force": TimeInForce.DAY if qty % 1 else TimeInForce.GTC}


def _prices(kind: str, words: list[str]) -> dict[str, Any]:
    if kind == "trailing_stop":
        (trail,) = words
        return {"trail_percent" if trail.endswith("%") else "trail_price": Decimal(trail.rstrip("%"))}
    names = {"stop_limit": ["stop_price", "limit_price"]}.get(kind, [f"{kind}_price"])
    return dict(zip(names, map(Decimal, words), strict=False))


def _exits(text: str) -> dict[str, Any]:
    gain, _, loss = text.partition("/")
    stop, _, limit = loss.partition(":")
    return {
        "take_profit": {"limit_price": gain} if gain else None,
        "stop_loss": {"stop_price": stop, "limit_price": limit or None} if loss else None,
    }


def quote(text: str, *, at: datetime = QUOTED, sequence: int = 1, **fields: Any) -> Price:
    """A price, ``<symbol> [<bid>/<ask>] <last> [of <open> <high> <low>]``, where either side may be left out.

    A bar began with the orders. Other ``fields``, such as ``ask_size``, are passed on.
    """
    words, _, bar = text.partition(" of ")
    symbol, *sides, last = words.split()
    bid, _, ask = "".join(sides).partition("/")
    first, high, low = bar.split() if bar else (last, last, last)
    return Price(
        symbol=symbol,
        bid=Decimal(bid) if bid else None,
        ask=Decimal(ask) if ask else None,
        last=Decimal(last),
        open=Decimal(first),
        high=Decimal(high),
        low=Decimal(low),
        close=Decimal(last),
        quoted_at=at,
        sequence=sequence,
        provider="test",
        **{"volume": ZERO, "since": ACCEPTED if bar else None, **fields},
    )
