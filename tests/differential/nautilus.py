"""NautilusTrader on the tape: lines of JSON in, one line for each order out. Runs in the environment beside this file.

It is set as much like our engine as it can be. A quote is a book of one level a side (a book of quote ticks would move
with each fill, and invent shares a tick away). An order reaches the exchange with the first quote after it; cancels and
changes do at once. Stops that are in the market are taken. Orders of the day are good till the session's end. Exits are
not bound to a position. Nobody lacks money.
"""

import json
import sys
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import BookOrder, OrderBookDepth10
from nautilus_trader.model.enums import (
    AccountType,
    BookType,
    OmsType,
    OrderSide,
    OrderType,
    TimeInForce,
    TriggerType,
)
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("SIM")
SIDES = {"buy": OrderSide.BUY, "sell": OrderSide.SELL}
TIMES = {"day": TimeInForce.DAY, "gtc": TimeInForce.GTC, "ioc": TimeInForce.IOC, "fok": TimeInForce.FOK}
#: The statuses that end an order, by our names.
ENDS = {"FILLED": "filled", "CANCELED": "canceled", "EXPIRED": "expired", "REJECTED": "rejected", "DENIED": "rejected"}

Line = dict[str, Any]


class Trader(Strategy):
    """Sends what the tape has between two quotes of a symbol."""

    def __init__(self, plan: dict[int, tuple[list[Line], list[Line]]], symbols: list[str]) -> None:
        super().__init__()
        self._plan = plan
        self._symbols = symbols

    def on_start(self) -> None:
        for symbol in self._symbols:
            self.subscribe_order_book_depth(_instrument_id(symbol), BookType.L2_MBP)

    def on_order_book_depth(self, depth: OrderBookDepth10) -> None:
        """The orders from before this quote, then the cancels and changes from after it."""
        orders, changes = self._plan.get(depth.sequence, ([], []))
        for line in orders:
            self._send(line)
        for line in changes:
            self._change(line)

    def _send(self, line: Line) -> None:
        if "gain" in line:
            self.submit_order_list(self._bracket(line))
        else:
            self.submit_order(self._order(line))

    def _order(self, line: Line) -> Any:
        common = {
            "instrument_id": _instrument_id(line["symbol"]),
            "order_side": SIDES[line["side"]],
            "quantity": Quantity.from_int(line["qty"]),
            "client_order_id": _order_id(line["id"]),
            "time_in_force": TIMES[line["time_in_force"]],
        }
        kind, new = line["type"], self.order_factory
        if kind == "market":
            return new.market(**common)
        if line["time_in_force"] == "day":
            common |= {"time_in_force": TimeInForce.GTD, "expire_time": _time(line["ends_at"])}
        if kind == "limit":
            return new.limit(price=_price(line["limit"]), **common)
        if kind == "stop":
            return new.stop_market(trigger_price=_price(line["stop"]), **common)
        if kind == "stop_limit":
            return new.stop_limit(price=_price(line["limit"]), trigger_price=_price(line["stop"]), **common)
        return new.trailing_stop_market(
            trailing_offset=Decimal(line["trail"]), trigger_type=TriggerType.BID_ASK, **common
        )

    def _bracket(self, line: Line) -> Any:
        limit = line.get("limit")
        return self.order_factory.bracket(
            instrument_id=_instrument_id(line["symbol"]),
            order_side=SIDES[line["side"]],
            quantity=Quantity.from_int(line["qty"]),
            entry_order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
            entry_price=None if limit is None else _price(limit),
            entry_client_order_id=_order_id(line["id"]),
            tp_price=_price(line["gain"]),
            tp_post_only=False,
            tp_client_order_id=_order_id(line["id"] + 1),
            sl_trigger_price=_price(line["loss"]),
            sl_client_order_id=_order_id(line["id"] + 2),
        )

    def _change(self, line: Line) -> None:
        order = self.cache.order(_order_id(line["id"]))
        if order is None or order.is_closed:
            return
        if line["kind"] == "cancel":
            self.cancel_order(order)
            return
        qty, limit, stop = line.get("qty"), line.get("limit"), line.get("stop")
        if qty is not None and qty <= order.filled_qty:
            return  # it would not refuse, but abort: what is left would be less than nothing
        self.modify_order(
            order,
            None if qty is None else Quantity.from_int(qty),
            None if limit is None else _price(limit),
            None if stop is None else _price(stop),
        )


def main() -> None:
    lines = [json.loads(line) for line in sys.stdin]
    symbols = sorted({line["symbol"] for line in lines})
    quotes = [line for line in lines if line["kind"] == "quote"]
    engine = _engine(symbols)
    engine.add_data([_depth(quote) for quote in quotes])
    engine.add_strategy(Trader(_plan(lines), symbols))
    engine.run()
    numbers = {quote["at"]: quote["number"] for quote in quotes}
    for order in engine.cache.orders():
        fills = [
            (numbers[event.ts_event], int(event.last_qty), str(event.last_px))
            for event in order.events
            if isinstance(event, OrderFilled)
        ]
        number = int(order.client_order_id.value)
        print(json.dumps({"id": number, "status": ENDS.get(order.status.name, "open"), "fills": fills}))
    engine.dispose()


def _engine(symbols: list[str]) -> BacktestEngine:
    quiet = LoggingConfig(log_level="OFF", bypass_logging=True)
    engine = BacktestEngine(BacktestEngineConfig(logging=quiet, risk_engine=RiskEngineConfig(bypass=True)))
    engine.add_venue(
        venue=VENUE,
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        starting_balances=[Money(10**12, USD)],
        base_currency=USD,
        book_type=BookType.L2_MBP,
        reject_stop_orders=False,
        use_reduce_only=False,
    )
    for symbol in symbols:
        engine.add_instrument(
            Equity(_instrument_id(symbol), Symbol(symbol), USD, 2, _price("0.01"), Quantity.from_int(1), 0, 0)
        )
    return engine


def _plan(lines: list[Line]) -> dict[int, tuple[list[Line], list[Line]]]:
    """Quote → the orders that came before it and the changes that come after it, on its symbol."""
    plan: dict[int, tuple[list[Line], list[Line]]] = defaultdict(lambda: ([], []))
    waiting: dict[str, list[Line]] = defaultdict(list)
    latest: dict[str, int] = {}
    for line in lines:
        symbol = line["symbol"]
        if line["kind"] == "quote":
            latest[symbol] = line["number"]
            plan[latest[symbol]][0].extend(waiting.pop(symbol, []))
        elif line["kind"] == "submit":
            waiting[symbol].append(line)
        else:
            plan[latest[symbol]][1].append(line)
    return dict(plan)


def _depth(quote: Line) -> OrderBookDepth10:
    bid = BookOrder(OrderSide.BUY, _price(quote["bid"]), Quantity.from_int(quote["bid_size"]), 1)
    ask = BookOrder(OrderSide.SELL, _price(quote["ask"]), Quantity.from_int(quote["ask_size"]), 2)
    at = quote["at"]
    return OrderBookDepth10(_instrument_id(quote["symbol"]), [bid], [ask], [1], [1], 0, quote["number"], at, at)


def _instrument_id(symbol: str) -> InstrumentId:
    return InstrumentId(Symbol(symbol), VENUE)


def _order_id(number: int) -> ClientOrderId:
    return ClientOrderId(str(number))


def _price(text: str) -> Price:
    return Price(Decimal(text), 2)


def _time(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds // 10**9, UTC)


if __name__ == "__main__":
    main()
