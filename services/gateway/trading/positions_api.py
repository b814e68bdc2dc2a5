"""``/v2/positions``: list positions, and close them with market orders."""

from decimal import ROUND_DOWN, Decimal
from uuid import uuid4

from services.gateway.http.auth import READ, TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Forbidden, Invalid, NotFound, RequestRefused, alpaca_error
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import account_queries, commands, idempotency
from services.gateway.trading.requests import AskedAsset, CloseAllQuery, CloseQuery, OrderHeaders
from services.gateway.trading.schemas import Closing, Order, Position
from services.gateway.trading.serializers import order_json, position_json
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce
from shared.money import ZERO, plain
from shared.storage.keyset import Record

_NINTH_DECIMAL, _WHOLE = Decimal("1E-9"), Decimal(1)


async def get_positions(gateway: Gateway, principal: Principal) -> list[Position]:
    """List the account's positions."""
    now = gateway.context.clock()
    return [position_json(row) for row in await read(gateway, account_queries.positions, principal.account_id, now)]


async def get_position(gateway: Gateway, principal: Principal, symbol: AskedAsset) -> Position:
    """Get a position by its symbol or asset id."""
    return position_json(await _position(gateway, principal, symbol))


async def delete_position(
    gateway: Gateway, principal: Principal, symbol: AskedAsset, query: CloseQuery, headers: OrderHeaders
) -> Order:
    """Close a position, or a part of it, with a market order.

    A percentage of a position of whole shares is rounded down to whole shares. A request that is repeated with its
    `Idempotency-Key` closes once.

    Raises NotFound if the account has no such position, Invalid if the percentage is too small, and Forbidden or
    Invalid if the order is rejected.
    """
    key = None
    if headers.idempotency_key is not None:
        key = idempotency.key_of(principal.account_id, headers.idempotency_key, symbol, query)
        if (order := await idempotency.earlier(gateway, key)) is not None:
            return order
    position = await _position(gateway, principal, symbol)
    qty: Decimal = query.qty or abs(position["qty"])
    if query.percentage is not None and query.percentage < 100:
        step = _NINTH_DECIMAL if position["qty"] % 1 else _WHOLE
        qty = (qty * query.percentage / 100).quantize(step, rounding=ROUND_DOWN)
        if not qty:
            raise Invalid("percentage: rounds down to a quantity of zero; send a larger one", field="percentage")
    _check_available(position, qty)
    command = _closing_order(gateway, principal, position, qty)
    if key is not None:
        return await idempotency.place_once(gateway, command, key)
    (row,) = await commands.place(gateway, principal.account_id, [command])
    return order_json(commands.accepted(row))


async def delete_positions(gateway: Gateway, principal: Principal, query: CloseAllQuery) -> list[Closing]:
    """Close all positions with market orders, with one result for each.

    With `cancel_orders`, all open orders are canceled before. Their shares need not be free yet: the orders that close
    come after the cancels.
    """
    account_id = principal.account_id
    if query.cancel_orders:
        await commands.cancel_all(gateway, account_id)
    results: dict[str, Closing] = {}
    closing: list[SubmitOrder] = []
    positions = await read(gateway, account_queries.positions, account_id, gateway.context.clock())
    for position in positions:
        qty = abs(position["qty"])
        try:
            if not query.cancel_orders:
                _check_available(position, qty)
            closing.append(_closing_order(gateway, principal, position, qty))
        except RequestRefused as refused:
            results[position["symbol"]] = _not_closed(position["symbol"], refused)
    for row in await commands.place(gateway, account_id, closing):
        symbol = row["symbol"]
        try:
            results[symbol] = {"symbol": symbol, "status": 200, "body": order_json(commands.accepted(row))}
        except RequestRefused as refused:
            results[symbol] = _not_closed(symbol, refused)
    return [results[position["symbol"]] for position in positions]


def _not_closed(symbol: str, refused: RequestRefused) -> Closing:
    return {"symbol": symbol, "status": refused.status, "body": alpaca_error(refused)}


async def _position(gateway: Gateway, principal: Principal, symbol: str) -> Record:
    """Return the position's row. Raises NotFound if the account has no such position."""
    rows = await read(gateway, account_queries.positions, principal.account_id, gateway.context.clock(), symbol)
    if not rows:
        raise NotFound("position does not exist")
    return rows[0]


def _check_available(position: Record, qty: Decimal) -> None:
    """Raise Forbidden if open orders hold more than the rest of the position."""
    existing, held = abs(position["qty"]), position["held_for_orders"]
    if qty <= existing - held:
        return
    figures = {"available": existing - held, "existing_qty": existing, "held_for_orders": held}
    raise Forbidden(
        f"insufficient qty available for order (requested: {plain(qty)}, available: {plain(existing - held)})",
        details={**{name: plain(figure) for name, figure in figures.items()}, "symbol": position["symbol"]},
    )


def _closing_order(gateway: Gateway, principal: Principal, position: Record, qty: Decimal) -> SubmitOrder:
    """Return a day market order."""
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
    Endpoint("GET", "/v2/positions", get_positions, READ),
    Endpoint("DELETE", "/v2/positions", delete_positions, TRADE, 207),
    Endpoint("GET", "/v2/positions/{symbol}", get_position, READ),
    Endpoint("DELETE", "/v2/positions/{symbol}", delete_position, TRADE),
)
