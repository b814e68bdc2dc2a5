"""Rows as the JSON of Alpaca's Trading API v2. Numbers are strings, times are RFC 3339, absent values are null."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from math import prod
from typing import Any, cast
from uuid import UUID

from services.gateway.trading.schemas import (
    Account,
    Asset,
    NotSimulated,
    Order,
    Position,
    ShownIndicator,
    Watchlist,
    WatchlistItem,
)
from shared.contracts.accounts import AccountSettings
from shared.contracts.instruments import AssetClass, InstrumentStatus
from shared.contracts.orders import OrderStatus, Side
from shared.exchange.margin import buying_power, initial_margin, maintenance_margin
from shared.money import ZERO, cents, plain

Record = Mapping[str, Any]

_SIX_DECIMALS, _NINE_DECIMALS = Decimal("0.000001"), Decimal("0.000000001")
#: Quantities, amounts and given prices are shown with all their decimals, and the other numbers of an order with six at
#: most. An average price below one has nine.
_EXACT = {"qty", "filled_qty", "notional", "limit_price", "stop_price", "trail_price"}
#: Fields of an order whose column has another name.
_RENAMED = {
    "created_at": "submitted_at",
    "failed_at": "updated_at",
    "order_type": "type",
    "reject_reason": "reject_message",
    "status": "shown_status",
}
#: Fields of an order that have no column.
_COMPUTED = {"legs", "source", "subtag"}
#: The column of each field of an order. A new field is one line of ``Order`` if its column has the same name.
ORDER_COLUMNS = {name: _RENAMED.get(name, name) for name in Order.__annotations__ if name not in _COMPUTED}

#: Fields of an account for rules of Alpaca that are not simulated.
_NOT_SIMULATED: NotSimulated = {
    "crypto_status": "INACTIVE",
    "crypto_tier": 0,
    "accrued_fees": "0",
    "pending_reg_taf_fees": "0",
    "options_buying_power": "0",
    "options_approved_level": 0,
    "options_trading_level": 0,
    "pending_transfer_in": "0",
    "pending_transfer_out": "0",
    "last_maintenance_margin": "0",
    "sma": "0",
    "daytrade_count": 0,
    "pattern_day_trader": False,
    "trade_suspended_by_user": False,
    "transfers_blocked": False,
    "account_blocked": False,
    "admin_configurations": {},
    "user_configurations": None,
}
#: The official clients' names of exchanges. They do not know the others.
_EXCHANGES = {"XNYS": "NYSE", "XNAS": "NASDAQ"}


def account_json(row: Record) -> Account:
    """Return the account with its buying power and margin at current prices."""
    settings = AccountSettings.model_validate(row["settings"])
    values = {"long_value": row["long_value"], "short_value": row["short_value"]}
    equity = row["equity"]
    on_margin = settings.multiplier > 1 or settings.shorting

    def power(multiplier: int) -> str:
        return plain(buying_power(equity=equity, **values, reserved=row["reserved"], multiplier=multiplier))

    return {
        **_NOT_SIMULATED,
        "id": str(row["id"]),
        "account_number": row["number"],
        "status": row["status"],
        "currency": row["currency"],
        "cash": plain(row["cash"]),
        "buying_power": power(settings.multiplier),
        "effective_buying_power": power(settings.multiplier),
        "regt_buying_power": power(min(settings.multiplier, 2)),
        "daytrading_buying_power": power(4) if settings.multiplier == 4 else "0",
        "non_marginable_buying_power": power(1),
        "equity": plain(equity),
        "last_equity": plain(row["last_equity"]),
        "balance_asof": row["balance_asof"] and row["balance_asof"].isoformat(),
        "intraday_adjustments": plain(row["adjustments"]),
        "portfolio_value": plain(equity),
        "position_market_value": plain(row["long_value"] + row["short_value"]),
        "long_market_value": plain(row["long_value"]),
        "short_market_value": plain(row["short_value"]),
        "unrealized_pl": plain(cents(row["unrealized_pl"])),
        "initial_margin": plain(initial_margin(**values)) if on_margin else "0",
        "maintenance_margin": plain(maintenance_margin(**values)) if on_margin else "0",
        "multiplier": str(settings.multiplier),
        "shorting_enabled": settings.shorting,
        "trading_blocked": settings.trading_blocked,
        "created_at": moment(row["created_at"]),
    }


def order_json(row: Record) -> Order:
    """Return the order with the ``legs`` that its row has."""
    fields = {
        name: _exact(row[column]) if column in _EXACT else json_value(row[column])
        for name, column in ORDER_COLUMNS.items()
    }
    if row["status"] != OrderStatus.REJECTED:
        fields["failed_at"] = None
    fields["filled_avg_price"] = _average(row[ORDER_COLUMNS["filled_avg_price"]])
    if row["hwm"] is not None:
        fields["stop_price"] = number(_trailing_stop(row))
    legs = [order_json(leg) for leg in row.get("legs", ())] or None
    return cast("Order", {**fields, "legs": legs, "source": None, "subtag": None})


def _trailing_stop(row: Record) -> Decimal:
    """Return the price that triggers a trailing stop: its trail away from its best price."""
    hwm: Decimal = row["hwm"]
    trail: Decimal = hwm * row["trail_percent"] / 100 if row["trail_price"] is None else row["trail_price"]
    return hwm + trail if row["side"] == Side.BUY else hwm - trail


def position_json(row: Record) -> Position:
    """Return the position. A short position has a negative quantity, cost and value."""
    qty, held_for_orders = row["qty"], row["held_for_orders"]
    cost, value, last = row["cost_basis"], row["market_value"], row["last"]
    profit = None if value is None else value - cost
    last_close = _last_close(row)
    intraday_cost = _intraday_cost(row, last_close)
    intraday = None if value is None or intraday_cost is None else value - intraday_cost
    return {
        "asset_id": str(row["asset_id"]),
        "symbol": row["symbol"],
        "exchange": _EXCHANGES.get(row["market"], ""),
        "asset_class": row["asset_class"],
        "asset_marginable": True,
        "qty": plain(qty),
        "qty_available": plain(qty - held_for_orders if qty > ZERO else qty + held_for_orders),
        "side": "long" if qty > ZERO else "short",
        "avg_entry_price": _average(row["avg_entry_price"]),
        "cost_basis": plain(cost),
        "market_value": number(value),
        "unrealized_pl": number(profit),
        "unrealized_plpc": ratio(profit, abs(cost)),
        "unrealized_intraday_pl": number(intraday),
        "unrealized_intraday_plpc": ratio(intraday, abs(intraday_cost or ZERO)),
        "current_price": plain(last),
        "lastday_price": _average(last_close),
        "change_today": None if last_close is None else number(last / last_close - 1),
        "currency": row["currency"],
        "swap_rate": _exact(row["rate"]),
    }


def asset_json(row: Record) -> Asset:
    """Return the instrument as an asset. Every asset counts for margin, and what may be shorted is easy to borrow."""
    exchange = "CRYPTO" if row["asset_class"] == AssetClass.CRYPTO else _EXCHANGES.get(row["market"], "")
    return {
        "id": str(row["id"]),
        "class": row["asset_class"],
        "exchange": exchange,
        "symbol": row["symbol"],
        "name": row["name"],
        "status": "active" if row["status"] == InstrumentStatus.ACTIVE else "inactive",
        "tradable": row["tradable"],
        "marginable": True,
        "shortable": row["shortable"],
        "easy_to_borrow": row["shortable"],
        "fractionable": row["fractionable"],
    }


def watchlist_item_json(row: Record) -> WatchlistItem:
    """Return the watchlist without its assets."""
    return {
        "id": str(row["id"]),
        "account_id": str(row["account_id"]),
        "created_at": moment(row["created_at"]),
        "updated_at": moment(row["updated_at"]),
        "name": row["name"],
        "indicators": [_indicator_json(each) for each in row["indicators"]],
    }


def watchlist_json(row: Record, assets: Sequence[Record]) -> Watchlist:
    """Return the watchlist with the assets of its symbols."""
    return {**watchlist_item_json(row), "assets": [asset_json(each) for each in assets]}


def _indicator_json(stored: Record) -> ShownIndicator:
    """Return the indicator of a watchlist with its parameters, which are whole numbers but for the deviations."""
    parameters = {name: value if name == "deviations" else int(value) for name, value in stored["parameters"].items()}
    return cast("ShownIndicator", {"name": stored["name"], "interval": stored["interval"], **parameters})


def _last_close(row: Record) -> Decimal | None:
    """Return the price of the previous close in today's shares."""
    price: Decimal | None = row["last_close"]
    return price if price is None or not row["splits"] else round(price / prod(row["splits"], start=Decimal(1)), 6)


def _intraday_cost(row: Record, last_close: Decimal | None) -> Decimal | None:
    """Return what today's profit counts from: the entry price of today's shares, and the last close of the others."""
    cost: Decimal = row["cost_basis"]
    held_before: Decimal = row["qty"] - row["qty_today"]
    if held_before:
        if last_close is None or row["rate"] is None:
            return None
        cost = held_before * last_close * row["rate"] + row["cost_today"]
    return cost


def price_json(row: Record) -> dict[str, Any]:
    """Return a row of prices or halts as JSON. Numbers have all their decimals."""
    return {name: _exact(value) if isinstance(value, Decimal) else json_value(value) for name, value in row.items()}


def json_value(value: Any) -> Any:
    """Return a column's value as JSON. Numbers have at most six decimals."""
    match value:
        case datetime():
            return moment(value)
        case Decimal():
            return number(value)
        case UUID():
            return str(value)
    return value


def number(value: Decimal | None) -> str | None:
    """Return the number with at most six decimals."""
    return None if value is None else plain(value.quantize(_SIX_DECIMALS))


def _average(price: Decimal | None) -> str | None:
    """Return an average price with at most six decimals, and one below one with at most nine."""
    return number(price) if price is None or price >= 1 else plain(price.quantize(_NINE_DECIMALS))


def _exact(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def ratio(part: Decimal | None, whole: Decimal) -> str | None:
    """Return ``part`` / ``whole`` with at most six decimals, "0" if ``whole`` is zero."""
    return None if part is None else "0" if whole == ZERO else number(part / whole)


def moment(value: datetime | None) -> str | None:
    """Return the time as RFC 3339 in UTC."""
    return None if value is None else value.isoformat().replace("+00:00", "Z")
