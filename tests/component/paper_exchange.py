"""A paper exchange for tests: people hand in orders, prices come, and the books are checked after every step."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.orders import actors
from services.orders.persistence.dividends import accounts_owed
from services.orders.usecases.catch_up import sweep
from services.orders.usecases.expire import expire
from services.orders.usecases.pay_dividends import pay_dividends
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.accounts import (
    AccountSettings,
    CloseAccount,
    ConfigureAccount,
    MoveCash,
    OpenAccount,
    ResetAccount,
)
from shared.contracts.base import Message
from shared.contracts.corporate_actions import CorporateActionApplied
from shared.contracts.official_prices import OfficialPricePublished
from shared.contracts.orders import CancelOrder, CancelOrders, ReplaceOrder, SubmitOrder, SubmitOrders
from shared.contracts.prices import Price, PricesUpdated
from shared.contracts.sessions import SessionsChanged
from tests.component.watching import outbox
from tests.conftest import FakeClock
from tests.support import broken_invariants, order, price, rows

HANDLERS: dict[type[Message], Any] = {
    OpenAccount: actors.open_account,
    ConfigureAccount: actors.configure_account,
    MoveCash: actors.move_cash,
    ResetAccount: actors.reset_account,
    CloseAccount: actors.close_account,
    SubmitOrder: actors.submit_order,
    SubmitOrders: actors.submit_orders,
    CancelOrder: actors.cancel_order,
    CancelOrders: actors.cancel_orders,
    ReplaceOrder: actors.replace_order,
    PricesUpdated: actors.fill_on_prices,
    OfficialPricePublished: actors.hold_auction,
    CorporateActionApplied: actors.apply_corporate_action,
    SessionsChanged: actors.follow_changed_sessions,
}
#: A new account may not hold more than it has paid for; one with these may.
MARGIN = {"multiplier": 2, "shorting": True}


@dataclass
class Exchange:
    """Every message is handled at once, in a transaction of its own, a second after the one before it."""

    orders: ServiceContext
    marketdata: ServiceContext
    valuation: ServiceContext
    clock: FakeClock
    sequences: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        with self.marketdata.engine.begin() as connection:
            add_instruments(connection, [Instrument(symbol, symbol) for symbol in ("AAPL", "IBM", "MSFT")])

    def handle(self, message: Message) -> None:
        self.clock.move(seconds=1)
        with self.orders.unit_of_work() as uow:
            HANDLERS[type(message)](message, uow)
        assert broken_invariants(self.orders.engine) == {}

    def open(self, cash: str = "100000", currency: str = "USD", /, **settings: Any) -> UUID:
        account_id = uuid4()
        known = AccountSettings.model_validate(settings)
        self.handle(
            OpenAccount(account_id=account_id, name="test", cash=Decimal(cash), currency=currency, settings=known)
        )
        return account_id

    def submit(self, account: UUID, text: str = "buy 10 AAPL market", **fields: Any) -> UUID:
        """Submit ``<side> <qty> <symbol> <type>``, with the rest as fields. Returns the order's id."""
        side, qty, symbol, kind = text.split()
        given = {"side": side, "qty": Decimal(qty), "symbol": symbol, "type": kind, "submitted_at": self.clock.now}
        if "notional" in fields:
            given["qty"] = None
        submitted = order(account, **{**given, **fields})
        self.handle(submitted)
        return submitted.order_id

    def cancel(self, account: UUID, order_id: UUID) -> None:
        self.handle(CancelOrder(account_id=account, order_id=order_id, requested_at=self.clock.now))

    def replace(self, account: UUID, order_id: UUID, **changes: Any) -> UUID:
        new = uuid4()
        self.handle(
            ReplaceOrder(
                account_id=account, order_id=order_id, new_order_id=new, requested_at=self.clock.now, **changes
            )
        )
        return new

    def price(self, text: str, **fields: Any) -> None:
        """Price ``AAPL 99/101 100``, a quote and a last price, as of now. Fields are ``open``, ``high`` and more."""
        symbol, sides, last = text.split()
        self.clock.move(seconds=1)
        bid, _, ask = sides.partition("/")
        self.sequences[symbol] += 1
        numbers = {name: Decimal(value) for name, value in fields.items() if isinstance(value, str)}
        middle = Decimal(last)
        bar = {"open": middle, "high": middle, "low": middle, "close": middle, "volume": Decimal(1000)}
        others = {name: value for name, value in fields.items() if not isinstance(value, str)}
        made = Price(
            symbol=symbol,
            bid=Decimal(bid) if bid else None,
            ask=Decimal(ask) if ask else None,
            last=middle,
            quoted_at=self.clock.now,
            sequence=self.sequences[symbol],
            provider="test",
            **{**bar, **others, **numbers},
        )
        self.show(made)
        self.handle(PricesUpdated(prices=(made,), at=self.clock.now))

    def bar(self, text: str, low: str, high: str, **fields: Any) -> None:
        """A price whose bar began after all that was handed in so far: ``AAPL 99/101 100`` and its range."""
        since = self.clock.now + timedelta(milliseconds=1)
        self.price(text, low=low, high=high, since=since, **fields)

    def show(self, price: Price) -> None:
        """Let marketdata's view show the price."""
        with self.marketdata.engine.begin() as connection:
            names = {"last", "bid", "ask", "bid_size", "ask_size", "sequence", "symbol", "quoted_at"}
            connection.exec_driver_sql(_SHOW, price.model_dump(include=names))

    def missed(self, bars: Sequence[tuple[str, str, str, str]]) -> None:
        """Minutes of AAPL, (open, high, low, close), that marketdata stored and no event told of.

        The first begins now, and a last price comes a minute after them all.
        """
        self.clock.now = self.clock.now.replace(second=0, microsecond=0) + timedelta(minutes=1)
        for numbers in (*bars, None):
            if numbers is not None:
                with self.marketdata.engine.begin() as connection:
                    connection.exec_driver_sql(_STORE_BAR, (self.clock.now, *map(Decimal, numbers)))
            self.clock.move(minutes=1)
            self.sequences["AAPL"] += 1
        last = price("AAPL", bars[-1][3], at=self.clock.now, sequence=self.sequences["AAPL"])
        self.show(last)

    def configure(self, account: UUID, /, **settings: Any) -> None:
        self.handle(ConfigureAccount(account_id=account, settings=AccountSettings.model_validate(settings)))

    def summarize(self, account: UUID, equity: str) -> None:
        """Store a summary of valuation with this equity."""
        with self.valuation.engine.begin() as connection:
            given = {"account": account, "at": self.clock.now, "equity": Decimal(equity)}
            connection.exec_driver_sql(_SUMMARIZE, given)

    def pay_dividends(self) -> tuple[int, int]:
        """Pay as the job does. Returns the number of dividends that were paid, and of those that wait for a rate."""
        with self.orders.unit_of_work() as uow:
            paid = pay_dividends(uow, accounts_owed(uow.connection, uow.now))
        assert broken_invariants(self.orders.engine) == {}
        return paid

    def sweep(self) -> int:
        """Sweep as process_orders does, with the prices of marketdata's view."""
        filled = self.sweep_once()
        assert broken_invariants(self.orders.engine) == {}
        return filled

    def sweep_once(self) -> int:
        return sweep(self.orders)

    def expire(self, **after: float) -> int:
        self.clock.move(**after)
        with self.orders.unit_of_work() as uow:
            count = expire(uow)
        assert broken_invariants(self.orders.engine) == {}
        return count

    def order(self, order_id: UUID) -> Any:
        (row,) = rows(self.orders.engine, "SELECT * FROM orders.orders WHERE id = :id", id=order_id)
        return row

    def status(self, order_id: UUID) -> str:
        return str(self.order(order_id).status)

    def legs(self, order_id: UUID) -> dict[str, Any]:
        """The exits of the order's group, by their leg, without those that were replaced."""
        found = rows(
            self.orders.engine,
            "SELECT * FROM orders.orders WHERE order_group = :id AND leg IS NOT NULL AND status <> 'replaced'",
            id=order_id,
        )
        return {row.leg: row for row in found}

    def fills(self, order_id: UUID) -> list[Any]:
        """(quantity, price) of each fill of the order."""
        found = rows(
            self.orders.engine, "SELECT qty, price FROM orders.fills WHERE order_id = :id ORDER BY number", id=order_id
        )
        return [(row.qty, row.price) for row in found]

    def account(self, account: UUID) -> Any:
        (row,) = rows(self.orders.engine, "SELECT * FROM orders.accounts WHERE id = :id", id=account)
        return row

    def held(self, account: UUID, symbol: str = "AAPL") -> Any:
        found = rows(
            self.orders.engine,
            "SELECT qty FROM orders.positions WHERE account_id = :a AND symbol = :s",
            a=account,
            s=symbol,
        )
        return found[0].qty if found else Decimal(0)

    def reason(self, order_id: UUID) -> Any:
        row = self.order(order_id)
        return row.reject_reason or row.cancel_reason

    def said(self, account: UUID) -> list[tuple[str, dict[str, Any]]]:
        """(event, body) of all events of the account. Their sequence has no gap."""
        found = self.everything(account)
        assert [body["sequence"] for _, body in found] == list(range(1, len(found) + 1))
        return found

    def everything(self, account: UUID) -> list[tuple[str, dict[str, Any]]]:
        """(event, body) of all events of the account, whatever their sequence is."""
        found = [(sent.name.partition(".")[0], sent.body) for sent in outbox(self.orders)]
        return [(name, body) for name, body in found if body.get("account_id") == str(account)]


_STORE_BAR = """
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider)
VALUES ('AAPL', '1m', %s, %s, %s, %s, %s, 1000, 'test')
"""
_SHOW = """
UPDATE marketdata.instruments SET last_price = %(last)s, bid = %(bid)s, ask = %(ask)s, bid_size = %(bid_size)s,
  ask_size = %(ask_size)s, sequence = %(sequence)s, quoted_at = %(quoted_at)s, provider = 'test'
WHERE symbol = %(symbol)s
"""
_SUMMARIZE = """
INSERT INTO valuation.account_summaries (account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions)
VALUES (%(account)s, gen_random_uuid(), %(at)s, 0, %(equity)s, %(equity)s, 0, 1)
"""
