"""Halts as marketdata keeps them, and prices that it takes in meanwhile."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from services.marketdata.actors import halt_trading, resume_trading
from services.marketdata.usecases.update_prices import update_prices
from services.orders.usecases.catch_up import catch_up
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.halts import HaltTrading, ResumeTrading
from shared.contracts.prices import PricesUpdated
from tests.component.paper_exchange import Exchange
from tests.component.scripted_prices import MINUTE, Scripted, made_up_quote
from tests.component.watching import outbox
from tests.support import broken_invariants, rows


def halt(marketdata: ServiceContext, reason: str = "news pending", symbol: str = "AAPL") -> UUID:
    command = HaltTrading(halt_id=uuid4(), symbol=symbol, reason=reason)
    with marketdata.unit_of_work() as uow:
        halt_trading(command, uow)
    return command.halt_id


def resume(marketdata: ServiceContext, symbol: str = "AAPL") -> None:
    with marketdata.unit_of_work() as uow:
        resume_trading(ResumeTrading(symbol=symbol), uow)


def quoted(marketdata: ServiceContext, last: str, at: datetime | None = None, /, **fields: str) -> int:
    """Let marketdata take in a price of AAPL, as of now unless told, with fields of its bar. 1 if it is news."""
    bar = {name: Decimal(value) for name, value in fields.items()}
    quote = replace(made_up_quote("AAPL", last, at or marketdata.clock()), **bar)  # type: ignore[arg-type]
    provider = Scripted(quotes=[quote])
    return update_prices(marketdata, provider, provider.poll, interval="1m", length=MINUTE)


def halts(marketdata: ServiceContext) -> list[Any]:
    """The oldest first."""
    return rows(marketdata.engine, "SELECT * FROM marketdata.halts_v1 ORDER BY symbol, began_at, ended_at")


def said(marketdata: ServiceContext) -> list[str]:
    return [sent.name.partition(".")[0] for sent in outbox(marketdata)]


def told(marketdata: ServiceContext) -> list[PricesUpdated]:
    """The messages of marketdata about prices."""
    found = [sent.body for sent in outbox(marketdata) if sent.name == "PricesUpdated.v1"]
    return [PricesUpdated.model_validate(body) for body in found]


def within_halts(exchange: Exchange) -> Sequence[Any]:
    """The fills on prices whose time lies in a halt."""
    return rows(exchange.orders.engine, _WITHIN)


def recover(exchange: Exchange) -> int:
    """Do as process_orders does. Returns the number of fills."""
    filled = catch_up(exchange.orders, lambda _done, _of: None) + exchange.sweep_once()
    assert broken_invariants(exchange.orders.engine) == {}
    return filled


_WITHIN = """
SELECT f.order_id, f.quoted_at FROM orders.fills f JOIN marketdata.halts_v1 h ON h.symbol = f.symbol
WHERE h.began_at < f.quoted_at AND COALESCE(h.ended_at, 'infinity') > f.quoted_at
"""
