"""Rows as the JSON of Alpaca's Trading API v2: numbers are strings, absent values are null."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from services.gateway.alpaca import Account, Order, Position
from shared.money import ZERO, plain

Record = Mapping[str, Any]

_AVERAGE_STEP = Decimal("0.000001")


def account_json(row: Record) -> Account:
    equity = row["cash"] + row["market_value"]
    last_equity = equity if row["last_equity"] is None else row["last_equity"]
    buying_power = plain(row["cash"] - row["reserved"])
    market_value = plain(row["market_value"])
    return {
        "id": str(row["id"]),
        "account_number": row["number"],
        "status": row["status"],
        "crypto_status": None,
        "currency": row["currency"],
        "cash": plain(row["cash"]),
        "buying_power": buying_power,
        "regt_buying_power": buying_power,
        "daytrading_buying_power": "0",
        "non_marginable_buying_power": buying_power,
        "accrued_fees": "0",
        "pending_transfer_in": "0",
        "pending_transfer_out": "0",
        "equity": plain(equity),
        "last_equity": plain(last_equity),
        "portfolio_value": plain(equity),
        "long_market_value": market_value,
        "short_market_value": "0",
        "unrealized_pl": plain(row["unrealized_pl"]),
        "initial_margin": "0",
        "maintenance_margin": "0",
        "last_maintenance_margin": "0",
        "sma": "0",
        "multiplier": "1",
        "daytrade_count": 0,
        "pattern_day_trader": False,
        "shorting_enabled": False,
        "trade_suspended_by_user": False,
        "trading_blocked": False,
        "transfers_blocked": False,
        "account_blocked": False,
        "created_at": moment(row["created_at"]),
    }


def order_json(row: Record) -> Order:
    rejected = row["status"] == "rejected"
    return {
        "id": str(row["id"]),
        "client_order_id": row["client_order_id"],
        "created_at": moment(row["submitted_at"]),
        "updated_at": moment(row["updated_at"]),
        "submitted_at": moment(row["submitted_at"]),
        "filled_at": moment(row["filled_at"]),
        "expired_at": moment(row["expired_at"]),
        "expires_at": moment(row["expires_at"]),
        "canceled_at": moment(row["canceled_at"]),
        "failed_at": moment(row["updated_at"]) if rejected else None,
        "replaced_at": None,
        "replaced_by": None,
        "replaces": None,
        "asset_id": None if row["asset_id"] is None else str(row["asset_id"]),
        "symbol": row["symbol"],
        "asset_class": row["asset_class"],
        "notional": None,
        "qty": plain(row["qty"]),
        "filled_qty": plain(row["filled_qty"]),
        "filled_avg_price": number(row["filled_avg_price"]),
        "order_class": "simple",
        "order_type": row["type"],
        "type": row["type"],
        "side": row["side"],
        "time_in_force": row["time_in_force"],
        "limit_price": number(row["limit_price"]),
        "stop_price": number(row["stop_price"]),
        "status": row["status"],
        "extended_hours": row["extended_hours"],
        "legs": None,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "reject_reason": row["reject_message"],
    }


def position_json(row: Record) -> Position:
    cost, value, profit = row["cost"], row["market_value"], row["unrealized_pl"]
    return {
        "asset_id": str(row["asset_id"]),
        "symbol": row["symbol"],
        "exchange": "",  # the demo market is none that the official clients know
        "asset_class": row["asset_class"],
        "asset_marginable": False,
        "qty": plain(row["qty"]),
        "qty_available": plain(row["qty_available"]),
        "side": "long",
        "avg_entry_price": number(cost / row["qty"]),
        "cost_basis": plain(cost),
        "market_value": plain(value),
        "unrealized_pl": plain(profit),
        "unrealized_plpc": ratio(profit, cost),
        "unrealized_intraday_pl": plain(profit),
        "unrealized_intraday_plpc": ratio(profit, cost),
        "current_price": plain(row["last"]),
        "lastday_price": plain(row["last"]),
        "change_today": "0",
    }


def price_json(row: Record) -> dict[str, Any]:
    return {
        name: moment(value) if isinstance(value, datetime) else number(value) if isinstance(value, Decimal) else value
        for name, value in row.items()
    }


def number(value: Decimal | None) -> str | None:
    """At most six decimals, as text."""
    return None if value is None else plain(value.quantize(_AVERAGE_STEP))


def ratio(part: Decimal, whole: Decimal) -> str:
    return "0" if whole == ZERO else str(number(part / whole))


def moment(value: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")
