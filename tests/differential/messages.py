"""Traders and events of the tape as settings and messages of the product."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import SubmitOrder
from shared.contracts.prices import Price
from tests.differential.events import Submit, Trader, Update


def settings_of(trader: Trader) -> AccountSettings:
    slippage: dict[str, Any] = {"kind": "fixed", "rate": trader.slippage} if trader.slippage else {}
    if trader.volume_slippage:
        slippage = {"kind": "volume_share", "rate": trader.volume_slippage}
    return AccountSettings.model_validate(
        {
            "multiplier": 4 if trader.shorts else 1,
            "shorting": trader.shorts,
            "allow_wash_trades": True,
            "fills": {
                "fills_on": "bar" if trader.in_bars else "quote",
                "participation": trader.share,
                "latency": Decimal(int(trader.latency.total_seconds())),
                "slippage": slippage,
            },
        }
    )


def price_of(update: Update) -> Price:
    return Price(
        symbol=update.symbol, bid=update.bid, ask=update.ask, bid_size=update.bid_size, ask_size=update.ask_size,
        last=update.last, open=update.open, high=update.high, low=update.low, close=update.last, volume=update.volume,
        quoted_at=update.at, since=update.since, bar_start=update.bar_start, sequence=update.number, provider="tape",
    )  # fmt: skip


def command_of(asked: Submit) -> SubmitOrder:
    gain = None if asked.gain is None else {"limit_price": asked.gain}
    loss = None if asked.loss is None else {"stop_price": asked.loss, "limit_price": asked.loss_limit}
    return SubmitOrder.model_validate(
        {
            "account_id": UUID(int=asked.trader), "order_id": UUID(int=int(asked.id)), "client_order_id": asked.id,
            "submitted_at": asked.at, "symbol": asked.symbol, "side": asked.side, "type": asked.type,
            "time_in_force": asked.tif, "qty": asked.qty, "notional": asked.notional, "limit_price": asked.limit,
            "stop_price": asked.stop, "trail_price": asked.trail, "trail_percent": asked.trail_percent,
            "extended_hours": asked.extended, "order_class": asked.order_class, "take_profit": gain, "stop_loss": loss,
        }
    )  # fmt: skip
