"""Plays a case of ``trading_cases``: orders, prices and other events a second apart, and what is expected of them."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from services.marketdata.domain.sessions import Hours, sessions_of
from services.marketdata.persistence.sessions import replace_sessions
from services.orders.usecases.margin import check_margins
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied
from shared.contracts.markets import MARKETS
from shared.contracts.orders import StopLoss, TakeProfit
from tests.component.auction_days import utc
from tests.component.paper_exchange import Exchange
from tests.support import order, rows

CASES = Path(__file__).parent / "trading_cases"
#: Closes in New York around Thanksgiving 2026, by trading day.
CLOSES = {
    date(2026, 11, 24): "21:00",
    date(2026, 11, 25): "21:00",
    date(2026, 11, 27): "18:00",
    date(2026, 11, 30): "21:00",
    date(2026, 12, 1): "21:00",
}
#: The sum of what open orders hold of each position. A stop shares what its profit holds.
_HELD_FOR_ORDERS = """
SELECT o.symbol, o.side, sum(o.held_for_orders) AS promised, COALESCE(max(p.qty), 0) AS qty
FROM orders.orders o LEFT JOIN orders.positions p ON p.account_id = o.account_id AND p.symbol = o.symbol
WHERE o.account_id = :account AND o.is_open AND o.held_for_orders <> 0 GROUP BY 1, 2
"""


class Case:
    """One account on a paper exchange, and the orders that it has handed in by name."""

    def __init__(self, exchange: Exchange, name: str) -> None:
        self.exchange = exchange
        self.steps = json.loads((CASES / f"{name}.json").read_text())
        self.orders: dict[str, UUID] = {}
        self.split_counts: dict[str, int] = {}
        if self.steps.get("market") == "XNYS":
            self._move_to_new_york()
        account = self.steps["account"]
        self.account = exchange.open(account["cash"], **account.get("settings", {}))

    def play(self) -> None:
        for step in self.steps["steps"]:
            ((kind, given),) = step.items()
            action: Callable[[Any], None] = getattr(self, f"_{kind}")
            action(given)

    def _move_to_new_york(self) -> None:
        self.exchange.clock.now = utc(min(CLOSES), "15:00")
        days = [Hours(day, utc(day, "14:30"), utc(day, close), close == "18:00") for day, close in CLOSES.items()]
        held = [session for hours in days for session in sessions_of(MARKETS["XNYS"], hours)]
        with self.exchange.marketdata.engine.begin() as connection:
            replace_sessions(connection, ["XNYS"], min(CLOSES), max(CLOSES), held)
            connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS'")

    def _at(self, time: str) -> None:
        self.exchange.clock.now = datetime.fromisoformat(time).astimezone(UTC)

    def _wait(self, duration: dict[str, float]) -> None:
        self.exchange.clock.move(**duration)

    def _order(self, terms: dict[str, Any]) -> None:
        given = {"qty": None, "submitted_at": self.exchange.clock.now, **terms}
        name = given.pop("as")
        numbers = {"qty", "notional", "limit_price", "stop_price", "trail_price", "trail_percent"}
        given |= {key: Decimal(given[key]) for key in numbers & given.keys() if given[key] is not None}
        for key, part in (("take_profit", TakeProfit), ("stop_loss", StopLoss)):
            if key in given:
                given[key] = part.model_validate(given[key])
        submitted = order(self.account, **given)
        self.exchange.handle(submitted)
        self.orders[name] = submitted.order_id

    def _replace(self, changes: dict[str, Any]) -> None:
        old, name = self.orders[changes["order"]], changes["as"]
        changed = {key: value for key, value in changes.items() if key not in {"order", "as"}}
        new = self.exchange.replace(self.account, old, **changed)
        replaced = self.exchange.order(old).status == "replaced"
        self.orders[name] = new if replaced else old

    def _cancel(self, name: str) -> None:
        self.exchange.cancel(self.account, self.orders[name])

    def _quote(self, quote: dict[str, Any]) -> None:
        sides = f"{quote.get('bid', '')}/{quote.get('ask', '')}"
        named = {"open", "high", "low", "volume", "bid_size", "ask_size"}
        fields: dict[str, Any] = {key: value for key, value in quote.items() if key in named}
        count = quote.get("adjustment", self.split_counts.get(quote["symbol"], 0))
        given = {"split_count": count, **fields}
        text = f"{quote['symbol']} {sides} {quote['last']}"
        if quote.get("bar"):
            self.exchange.price(text, since=self.exchange.clock.now + timedelta(milliseconds=1), **given)
        else:
            self.exchange.price(text, **given)

    def _split(self, split: dict[str, Any]) -> None:
        self._act(split["symbol"], kind=ActionKind.SPLIT, ratio=Decimal(split["ratio"]))

    def _dividend(self, dividend: dict[str, Any]) -> None:
        self._act(dividend["symbol"], kind=ActionKind.DIVIDEND, amount=Decimal(dividend["amount"]))

    def _act(self, symbol: str, **action: Any) -> None:
        """Let orders hear that a corporate action took effect now."""
        if action["kind"] is ActionKind.SPLIT:
            self.split_counts[symbol] = self.split_counts.get(symbol, 0) + 1
        self.exchange.handle(
            CorporateActionApplied(
                action_id=uuid4(),
                symbol=symbol,
                effective_at=self.exchange.clock.move(seconds=1),
                split_count=self.split_counts.get(symbol, 0),
                **action,
            )
        )

    def _expire(self, after: dict[str, float]) -> None:
        self.exchange.expire(**after)

    def _configure(self, settings: dict[str, Any]) -> None:
        self.exchange.configure(self.account, **settings)

    def _check_margins(self, _: bool) -> None:
        with self.exchange.orders.unit_of_work() as uow:
            check_margins(uow)

    def _cancel_liquidation(self, _: bool) -> None:
        """The owner tries to cancel all open orders, as they are those of the margin call."""
        for row in self._rows("SELECT id FROM orders.orders o WHERE o.account_id = :account AND o.is_open"):
            self.exchange.cancel(self.account, row.id)

    def _expect(self, expected: dict[str, Any]) -> None:
        for name, fields in expected.get("orders", {}).items():
            self._expect_order(name, fields)
        for symbol, qty in expected.get("held", {}).items():
            assert self.exchange.held(self.account, symbol) == Decimal(qty), symbol
        for symbol, most in expected.get("held_at_most", {}).items():
            assert self.exchange.held(self.account, symbol) <= Decimal(most), symbol
        for symbol in expected.get("not_short", []):
            assert self.exchange.held(self.account, symbol) >= 0, symbol
        if expected.get("promised_at_most_held"):
            for held in self._rows(_HELD_FOR_ORDERS):
                assert held.promised <= (held.qty if held.side == "sell" else -held.qty), held
        if "cash_at_most" in expected:
            assert self.exchange.account(self.account).cash <= Decimal(expected["cash_at_most"])

    def _expect_order(self, name: str, fields: dict[str, str]) -> None:
        entry, _, leg = name.partition("/")
        row = self.exchange.legs(self.orders[entry])[leg] if leg else self.exchange.order(self.orders[entry])
        for field, value in fields.items():
            if field == "not_status":
                assert row.status != value, (name, row.status)
                continue
            stored = getattr(row, field)
            if isinstance(stored, Decimal):
                assert stored == Decimal(value), (name, field, stored)
            elif isinstance(stored, datetime):
                assert stored == datetime.fromisoformat(value), (name, field, stored)
            else:
                assert stored == value, (name, field, stored)

    def _rows(self, statement: str) -> list[Any]:
        return list(rows(self.exchange.orders.engine, statement, account=self.account))
