"""The real service on PostgreSQL keeps its books under everything that people, markets and operators do.

Splits, dividends, resets, sales by hand beside exits and liquidations come between orders and prices. After each step
the nightly proof holds, nothing is held for orders beyond the position, and no exit has opened one.

PAPERPROFIT_TEST_STATES is the number of lives that are tried, each another time: without it a few, always the same.
"""

import os
from collections import Counter
from decimal import ROUND_DOWN, Decimal
from random import Random, SystemRandom
from typing import Any
from uuid import UUID

import pytest

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.orders.usecases.margin import charge_interest, check_margins
from shared.contracts.accounts import MoveCash, OpenAccount, ResetAccount
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied
from shared.contracts.orders import CancelOrder, OrderType, ReplaceOrder, Side, TimeInForce
from shared.contracts.prices import PricesUpdated
from shared.exchange.order import LEAST_QTY
from shared.money import CENT
from tests.component.paper_exchange import Exchange
from tests.differential.messages import command_of, price_of, settings_of
from tests.differential.wide_tape import SYMBOLS, TRADERS, Drawing
from tests.support import broken_invariants, order, rows

LONG = int(os.environ.get("PAPERPROFIT_TEST_STATES", "0"))
SEEDS = [SystemRandom().randrange(2**32) for _ in range(LONG)] if LONG else range(4)
STEPS = 120
#: (new, old) shares. Some leave fractions of every position.
SPLITS = ((2, 1), (4, 1), (3, 2), (7, 3), (1, 3), (1, 10))
OWNERS = [UUID(int=trader.name) for trader in TRADERS]
DOES = {
    "trade": 40, "sell_by_hand": 10, "cancel": 6, "replace": 8, "split": 4, "dividend": 3, "move_cash": 3,
    "reset": 1, "crash": 2, "wait": 6, "expire": 3,
}  # fmt: skip


class Life:
    """One exchange with an account of each kind, and a random history."""

    def __init__(self, exchange: Exchange, seed: int) -> None:
        self.exchange, self.random = exchange, Random(seed)
        self.drawing = Drawing(seed, days=1)
        self.sequences: Counter[str] = Counter()
        self.split_counts: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.checked = 0
        with exchange.marketdata.engine.begin() as connection:
            add_instruments(connection, [Instrument(symbol, symbol) for symbol in SYMBOLS])
        for trader in TRADERS:
            cash, given = Decimal(self.random.randint(2_000, 40_000)), settings_of(trader)
            settings = given.model_copy(update={"margin_grace": 0})
            exchange.handle(OpenAccount(account_id=UUID(int=trader.name), name="test", cash=cash, settings=settings))

    def step(self) -> None:
        name = self.random.choices(list(DOES), list(DOES.values()))[0]
        self.done[name] += 1
        getattr(self, name)()
        if self.random.random() < 0.7:
            self.price(self.random.choice(list(SYMBOLS)))
        self.check()

    def check(self) -> None:
        """Beside the invariants of the books, which the exchange checks after each message."""
        assert rows(self.exchange.orders.engine, _HELD_BEYOND_THE_POSITION) == []
        fills = rows(self.exchange.orders.engine, _FILLS_WITH_POSITIONS)
        for fill in fills[self.checked :]:
            if fill.leg is not None:
                assert fill.after * (1 if fill.side == "sell" else -1) >= 0, f"an exit opened a position: {fill}"
        self.checked = len(fills)

    # what people do

    def trade(self) -> None:
        for _ in range(self.random.choice([1, 1, 2, 3])):
            symbol = self.random.choice(list(SYMBOLS))
            asked = self.drawing.order(symbol, self.exchange.clock.now)
            if asked.tif not in {"opg", "cls"}:
                self.exchange.handle(command_of(asked))

    def sell_by_hand(self) -> None:
        """A part of a position or all of it is closed, whatever waits for the same shares."""
        positions = rows(self.exchange.orders.engine, "SELECT * FROM orders.positions WHERE qty <> 0 ORDER BY 1, 2")
        if positions:
            held = self.random.choice(positions)
            qty = abs(held.qty) * self.random.choice([1, 1, Decimal("0.5")])
            whole = qty if self.random.random() < 0.5 else qty // 1
            whole = whole.quantize(LEAST_QTY, rounding=ROUND_DOWN)
            self.exchange.handle(
                order(
                    held.account_id, order_id=self._id(), symbol=held.symbol, qty=max(whole, CENT),
                    side=Side.SELL if held.qty > 0 else Side.BUY, type=OrderType.MARKET,
                    time_in_force=TimeInForce.DAY, submitted_at=self.exchange.clock.now,
                )
            )  # fmt: skip

    def cancel(self) -> None:
        found = self._open_order()
        if found is not None:
            now = self.exchange.clock.now
            self.exchange.handle(CancelOrder(account_id=found.account_id, order_id=found.id, requested_at=now))

    def replace(self) -> None:
        found = self._open_order()
        if found is None:
            return
        changes: dict[str, Any] = {}
        for name in ("limit_price", "stop_price"):
            if getattr(found, name) is not None:
                changes[name] = self._near(getattr(found, name))
        if found.qty is not None and found.leg is None:
            changes["qty"] = found.filled_qty + self.random.randint(1, 30)
        picked = self.random.sample(sorted(changes), min(1, len(changes)))
        self.exchange.handle(
            ReplaceOrder(
                account_id=found.account_id, order_id=found.id, new_order_id=self._id(),
                requested_at=self.exchange.clock.now, **{name: changes[name] for name in picked},
            )
        )  # fmt: skip

    def move_cash(self) -> None:
        amount = Decimal(self.random.randint(-2_000_000, 500_000)) * CENT
        owner = self.random.choice(OWNERS)
        self.exchange.handle(MoveCash(account_id=owner, transfer_id=self._id(), amount=amount or CENT))

    def reset(self) -> None:
        cash = Decimal(self.random.randint(2_000, 40_000))
        self.exchange.handle(ResetAccount(account_id=self.random.choice(OWNERS), reset_id=self._id(), cash=cash))

    def _open_order(self) -> Any:
        found = rows(self.exchange.orders.engine, "SELECT * FROM orders.orders WHERE is_open ORDER BY account_id, id")
        return self.random.choice(found) if found else None

    def _id(self) -> UUID:
        return UUID(int=self.random.getrandbits(128))

    # what the market and its operators do

    def price(self, symbol: str) -> None:
        now = self.exchange.clock.move(seconds=1)
        update = self.drawing.update(symbol, now)
        self.sequences[symbol] += 1
        made = price_of(update).model_copy(
            update={"sequence": self.sequences[symbol], "split_count": self.split_counts[symbol]}
        )
        self.exchange.show(made)
        self.exchange.handle(PricesUpdated(prices=(made,), at=now))

    def split(self) -> None:
        """The last price is that of a new share from then on."""
        symbol, (new, old) = self.random.choice(list(SYMBOLS)), self.random.choice(SPLITS)
        if not Decimal("0.05") < self.drawing.lasts[symbol] * old / new < 2_000:
            return
        self.drawing.lasts[symbol] = self._tick(self.drawing.lasts[symbol] * old / new)
        self.split_counts[symbol] += 1
        ratio = round(Decimal(new) / Decimal(old), 9)
        self._act(symbol, ActionKind.SPLIT, ratio=ratio, cash_in_lieu=self.random.random() < 0.5)

    def dividend(self) -> None:
        symbol = self.random.choice(list(SYMBOLS))
        self._act(symbol, ActionKind.DIVIDEND, amount=self.drawing.lasts[symbol] / 50)

    def _act(self, symbol: str, kind: ActionKind, **figures: Any) -> None:
        """Marketdata shows the split before orders hear of it."""
        now = self.exchange.clock.move(seconds=1)
        event = CorporateActionApplied.model_validate(
            {
                "action_id": self._id(), "symbol": symbol, "kind": kind, "effective_at": now,
                "split_count": self.split_counts[symbol], "last": self.drawing.lasts[symbol], **figures,
            }
        )  # fmt: skip
        with self.exchange.marketdata.engine.begin() as connection:
            count = {"symbol": symbol, "count": event.split_count, "last": self.drawing.lasts[symbol]}
            connection.exec_driver_sql(_SHOW_SPLIT, count)
        self.exchange.handle(event)

    def crash(self) -> None:
        """A price falls or rises by two fifths, margins are called at once, and the accounts are liquidated."""
        symbol, factor = self.random.choice(list(SYMBOLS)), self.random.choice([Decimal("0.6"), Decimal("1.4")])
        self.drawing.lasts[symbol] = self._tick(self.drawing.lasts[symbol] * factor)
        self.price(symbol)
        for _ in range(3):
            self.exchange.clock.move(seconds=1)
            with self.exchange.orders.unit_of_work() as uow:
                counts = check_margins(uow)
            self.done.update({f"margin {name}": count for name, count in counts.items()})
            assert broken_invariants(self.exchange.orders.engine) == {}
            for each in SYMBOLS:
                self.price(each)

    def wait(self) -> None:
        """A day's interest is charged, and the sweep finds what no event told of."""
        self.exchange.clock.move(minutes=self.random.choice([1, 30]))
        with self.exchange.orders.unit_of_work() as uow:
            charge_interest(uow, self.exchange.clock.now.date())
        self.exchange.sweep()

    def expire(self) -> None:
        self.exchange.expire(hours=self.random.choice([1, 12]))

    def _near(self, price: Decimal) -> Decimal:
        return self._tick(price * self.random.randint(990, 1010) / 1000)

    def _tick(self, price: Decimal) -> Decimal:
        step = CENT if price >= 1 else Decimal("0.0001")
        return max(price.quantize(step), step)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_books_hold_under_every_operation(exchange: Exchange, seed: int) -> None:
    """An account of each kind lives through them, in a sequence drawn by the seed."""
    life = Life(exchange, seed)
    for symbol in SYMBOLS:
        life.price(symbol)
    for _ in range(STEPS):
        life.step()
    assert life.checked > 20


_HELD_BEYOND_THE_POSITION = """
SELECT o.account_id, o.symbol, o.side, sum(o.held_for_orders) AS promised, COALESCE(max(p.qty), 0) AS held
FROM orders.orders o LEFT JOIN orders.positions p USING (account_id, symbol)
WHERE o.is_open GROUP BY 1, 2, 3
HAVING sum(o.held_for_orders) > abs(COALESCE(max(p.qty), 0))
"""
#: With the position after each fill. A split or a reset in between changes it too.
_FILLS_WITH_POSITIONS = """
SELECT f.account_id, f.order_id, f.side, f.qty, f.filled_at, o.leg,
  (SELECT sum(l.qty) FROM orders.ledger l WHERE l.account_id = f.account_id AND l.symbol = f.symbol
   AND l.generation = f.generation AND l.id <= e.id) AS after
FROM orders.fills f JOIN orders.orders o ON o.account_id = f.account_id AND o.id = f.order_id
JOIN orders.ledger e ON e.account_id = f.account_id AND e.kind = 'fill' AND e.reference = f.id
ORDER BY f.filled_at, f.account_id, f.order_id, f.number
"""
_SHOW_SPLIT = """
UPDATE marketdata.instruments SET split_count = %(count)s, last_price = %(last)s, bid = NULL, ask = NULL
WHERE symbol = %(symbol)s
"""
