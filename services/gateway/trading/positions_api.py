"""``/v2/positions``: what the account holds, and closing it with orders at the market."""

from decimal import ROUND_DOWN, Decimal
from uuid import UUID, uuid4

from services.gateway.http.auth import TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Forbidden, Invalid, NotFound, RequestRefused
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import account_queries, order_queries
from services.gateway.trading import commands as desk
from services.gateway.trading.requests import CloseAllQuery, CloseQuery, OrderQuery
from services.gateway.trading.schemas import Closing, Order, Position, Refusal
from services.gateway.trading.serializers import order_json, position_json
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce
from shared.money import ZERO, plain
from shared.storage.keyset import Record

_NINTH_DECIMAL, _WHOLE = Decimal("1E-9"), Decimal(1)


async def get_positions(gateway: Gateway, principal: Principal) -> list[Position]:
    """What the account holds."""
    return [position_json(row) for row in await read(gateway, account_queries.positions, principal.account_id)]


async def get_position(gateway: Gateway, principal: Principal, symbol: str) -> Position:
    """What the account holds of one symbol, or asset id."""
    return position_json(await _position(gateway, principal, symbol))


async def delete_position(gateway: Gateway, principal: Principal, symbol: str, query: CloseQuery) -> Order:
    """Close the position, or a part of it, with an order at the market."""
    position = await _position(gateway, principal, symbol)
    command = _closing(gateway, principal, position, _part(position, query))
    (row,) = await desk.place(gateway, principal.account_id, [command])
    return order_json(desk.accepted(row))


async def delete_positions(gateway: Gateway, principal: Principal, query: CloseAllQuery) -> list[Closing]:
    """Close all positions with orders at the market; one answer for each."""
    account_id = principal.account_id
    if query.cancel_orders:
        resting = await read(gateway, order_queries.orders, account_id, OrderQuery(status="open", limit=500))
        await desk.cancel(gateway, account_id, [row["id"] for row in resting])
    asked = [_asked(gateway, principal, row) for row in await read(gateway, account_queries.positions, account_id)]
    commands = [command for _, command in asked if isinstance(command, SubmitOrder)]
    placed = {row["id"]: row for row in await desk.place(gateway, account_id, commands)}
    return [_told(symbol, command, placed) for symbol, command in asked]


def _asked(gateway: Gateway, principal: Principal, position: Record) -> tuple[str, SubmitOrder | RequestRefused]:
    """The order that closes all of it, or why there can be none."""
    try:
        return position["symbol"], _closing(gateway, principal, position, abs(position["qty"]))
    except RequestRefused as refused:
        return position["symbol"], refused


def _told(symbol: str, command: SubmitOrder | RequestRefused, placed: dict[UUID, Record]) -> Closing:
    try:
        if isinstance(command, RequestRefused):
            raise command
        return {"symbol": symbol, "status": 200, "body": order_json(desk.accepted(placed[command.order_id]))}
    except RequestRefused as refused:
        why: Refusal = {"code": refused.code, "message": refused.message}
        return {"symbol": symbol, "status": refused.status, "body": why}


async def _position(gateway: Gateway, principal: Principal, symbol: str) -> Record:
    rows = await read(gateway, account_queries.positions, principal.account_id, symbol)
    if not rows:
        raise NotFound(f"position does not exist: {symbol.upper()}")
    return rows[0]


def _part(position: Record, query: CloseQuery) -> Decimal:
    """How much to close; a percentage is rounded down, of a short position to whole shares, which it is made of."""
    held: Decimal = abs(position["qty"])
    if query.qty is not None or query.percentage is None:
        return query.qty or held
    step = _NINTH_DECIMAL if position["qty"] > ZERO else _WHOLE
    part = (held * query.percentage / 100).quantize(step, rounding=ROUND_DOWN) if query.percentage < 100 else held
    if not part:
        raise Invalid("percentage: comes to nothing that could be traded", field="percentage")
    return part


def _closing(gateway: Gateway, principal: Principal, position: Record, qty: Decimal) -> SubmitOrder:
    """An order of the day at the market. Raises Forbidden where open orders will close too much of it already."""
    available = abs(position["qty"]) - position["held_for_orders"]
    if qty > available:
        asked = f"requested: {plain(qty)}, available: {plain(available)}"
        raise Forbidden(f"insufficient qty available for order ({asked})")
    order_id = uuid4()
    return SubmitOrder(
        account_id=principal.account_id,
        order_id=order_id,
        client_order_id=str(order_id),
        symbol=position["symbol"],
        side=Side.SELL if position["qty"] > ZERO else Side.BUY,
        type=OrderType.MARKET,
        time_in_force=TimeInForce.DAY,
        qty=qty,
        submitted_at=gateway.context.clock(),
    )


endpoints = (
    Endpoint("GET", "/v2/positions", get_positions, TRADE),
    Endpoint("DELETE", "/v2/positions", delete_positions, TRADE, 207),
    Endpoint("GET", "/v2/positions/{symbol}", get_position, TRADE),
    Endpoint("DELETE", "/v2/positions/{symbol}", delete_position, TRADE),
)
