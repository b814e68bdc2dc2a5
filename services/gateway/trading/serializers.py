"""Rows as the JSON of Alpaca's Trading API v2: numbers are strings, absent values are null."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from services.gateway.trading.schemas import Account, Order, Position
from shared.contracts.accounts import AccountSettings
from shared.money import ZERO, cents, plain

Record = Mapping[str, Any]

_AVERAGE_STEP = Decimal("0.000001")
#: Of what is held on margin, so much must be the account's own: when it is opened, and from then on.
_HALF = Decimal("0.50")
_KEPT_LONG, _KEPT_SHORT = Decimal("0.25"), Decimal("0.30")


def account_json(row: Record) -> Account:
    settings = AccountSettings.model_validate(row["settings"])
    long_value, short_value = row["long_value"], row["short_value"]
    equity = row["cash"] + long_value + short_value
    last_equity = equity if row["last_equity"] is None else row["last_equity"]
    on_margin = settings.multiplier > 1 or settings.shorting
    return {
        "id": str(row["id"]),
        "account_number": row["number"],
        "status": row["status"],
        "crypto_status": None,
        "currency": row["currency"],
        "cash": plain(row["cash"]),
        "buying_power": _buying_power(row, settings.multiplier),
        "regt_buying_power": _buying_power(row, min(settings.multiplier, 2)),
        "daytrading_buying_power": _buying_power(row, 4) if settings.multiplier == 4 else "0",
        "non_marginable_buying_power": _buying_power(row, 1),
        "accrued_fees": "0",
        "pending_transfer_in": "0",
        "pending_transfer_out": "0",
        "equity": plain(equity),
        "last_equity": plain(last_equity),
        "portfolio_value": plain(equity),
        "long_market_value": plain(long_value),
        "short_market_value": plain(short_value),
        "unrealized_pl": plain(row["unrealized_pl"]),
        "initial_margin": plain(cents(_HALF * (long_value - short_value))) if on_margin else "0",
        "maintenance_margin": plain(cents(_KEPT_LONG * long_value - _KEPT_SHORT * short_value)) if on_margin else "0",
        "last_maintenance_margin": "0",
        "sma": "0",
        "multiplier": str(settings.multiplier),
        "daytrade_count": 0,
        "pattern_day_trader": False,
        "shorting_enabled": settings.shorting,
        "trade_suspended_by_user": False,
        "trading_blocked": settings.trading_blocked,
        "transfers_blocked": False,
        "account_blocked": False,
        "created_at": moment(row["created_at"]),
    }


def _buying_power(row: Record, multiplier: int) -> str:
    """So much more the account may hold: a multiple of its equity, less what it holds and has reserved."""
    long_value, short_value = row["long_value"], row["short_value"]
    equity = row["cash"] + long_value + short_value
    return plain(multiplier * equity - long_value + short_value - row["reserved"])


def order_json(row: Record) -> Order:
    """``legs`` are there where the row has some."""
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
        "replaced_at": moment(row["replaced_at"]),
        "replaced_by": _id(row["replaced_by"]),
        "replaces": _id(row["replaces"]),
        "asset_id": _id(row["asset_id"]),
        "symbol": row["symbol"],
        "asset_class": row["asset_class"],
        "notional": None if row["notional"] is None else plain(row["notional"]),
        "qty": None if row["qty"] is None else plain(row["qty"]),
        "filled_qty": plain(row["filled_qty"]),
        "filled_avg_price": number(row["filled_avg_price"]),
        "order_class": row["order_class"],
        "order_type": row["type"],
        "type": row["type"],
        "side": row["side"],
        "time_in_force": row["time_in_force"],
        "limit_price": number(row["limit_price"]),
        "stop_price": number(row["stop_price"]),
        "status": row["status"],
        "extended_hours": row["extended_hours"],
        "legs": [order_json(leg) for leg in row.get("legs", ())] or None,
        "trail_percent": number(row["trail_percent"]),
        "trail_price": number(row["trail_price"]),
        "hwm": number(row["hwm"]),
        "reject_reason": row["reject_message"],
        "currency": row["currency"],
    }


def _id(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def position_json(row: Record) -> Position:
    """A short position has a negative quantity, cost and value."""
    qty, held_for_orders = row["qty"], row["held_for_orders"]
    cost, value, profit = row["cost"], row["market_value"], row["unrealized_pl"]
    return {
        "asset_id": str(row["asset_id"]),
        "symbol": row["symbol"],
        "exchange": "",  # the demo market is none that the official clients know
        "asset_class": row["asset_class"],
        "asset_marginable": False,
        "qty": plain(qty),
        "qty_available": plain(qty - held_for_orders if qty > ZERO else qty + held_for_orders),
        "side": "long" if qty > ZERO else "short",
        "avg_entry_price": number(cost / qty),
        "cost_basis": plain(cost),
        "market_value": _plain(value),
        "unrealized_pl": _plain(profit),
        "unrealized_plpc": ratio(profit, abs(cost)),
        "unrealized_intraday_pl": _plain(profit),
        "unrealized_intraday_plpc": ratio(profit, abs(cost)),
        "current_price": plain(row["last"]),
        "lastday_price": plain(row["last"]),
        "change_today": "0",
        "currency": row["currency"],
        "swap_rate": _plain(row["rate"]),
    }


def _plain(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def price_json(row: Record) -> dict[str, Any]:
    return {
        name: moment(value) if isinstance(value, datetime) else number(value) if isinstance(value, Decimal) else value
        for name, value in row.items()
    }


def number(value: Decimal | None) -> str | None:
    """At most six decimals, as text."""
    return None if value is None else plain(value.quantize(_AVERAGE_STEP))


def ratio(part: Decimal | None, whole: Decimal) -> str | None:
    return None if part is None else "0" if whole == ZERO else number(part / whole)


def moment(value: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")
