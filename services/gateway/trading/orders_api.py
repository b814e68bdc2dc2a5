"""``/v2/orders``: submit, read, replace and cancel orders."""

from uuid import UUID, uuid4

from services.gateway.http.auth import READ, TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound, RequestRefused, alpaca_error
from services.gateway.http.requests import Gateway, read
from services.gateway.streams.hub import Answer
from services.gateway.trading import commands, idempotency, order_queries
from services.gateway.trading.requests import (
    ClientOrderQuery,
    NestedQuery,
    NewOrder,
    OrderChanges,
    OrderHeaders,
    OrderQuery,
    check_decimals,
)
from services.gateway.trading.schemas import Canceled, Order
from services.gateway.trading.serializers import order_json
from shared.storage.keyset import Record


async def get_orders(gateway: Gateway, principal: Principal, query: OrderQuery) -> list[Order]:
    """List the account's orders, the open ones by default.

    Raises Invalid if the order that a page begins after or ends before does not exist.
    """
    try:
        rows = await read(gateway, order_queries.orders, principal.account_id, query)
    except LookupError as missing:
        raise Invalid(str(missing)) from None
    return [order_json(row) for row in rows]


async def get_order(gateway: Gateway, principal: Principal, order_id: UUID, query: NestedQuery) -> Order:
    """Get an order."""
    return order_json(await _order(gateway, principal, order_id, nested=query.nested))


async def get_order_by_client_id(gateway: Gateway, principal: Principal, query: ClientOrderQuery) -> Order:
    """Get an order by its client order id.

    Raises NotFound if the account has no such order.
    """
    account_id, client_id = principal.account_id, query.client_order_id
    row = await read(gateway, order_queries.order_by_client_id, account_id, client_id, nested=query.nested)
    if row is None:
        raise NotFound(f"order not found for client_order_id {query.client_order_id[:128]}")
    return order_json(row)


async def post_order(gateway: Gateway, principal: Principal, body: NewOrder, headers: OrderHeaders) -> Order:
    """Submit an order and wait until it is accepted or rejected.

    Without a decision in time the status is `pending_new`. A `client_order_id` is used once. A request that may have
    been lost can be repeated with the same `Idempotency-Key` for 24 hours: it places one order, and gets the first
    answer each time.

    Raises Invalid for an unknown symbol, for a `client_order_id` or a key of another order and, like Forbidden, if the
    order is rejected.
    """
    account_id = principal.account_id
    symbol = await read(gateway, order_queries.symbol_of, body.symbol)
    if symbol is None:
        raise Invalid(f'asset "{body.symbol}" not found', field="symbol")
    check_decimals(body, symbol)
    command = body.command(symbol, account_id=account_id, order_id=uuid4(), now=gateway.context.clock())
    if headers.idempotency_key is not None:
        key = idempotency.key_of(account_id, headers.idempotency_key, body)
        return await idempotency.place_once(gateway, command, key)
    (row,) = await commands.place(gateway, account_id, [command])
    return order_json(commands.accepted(row))


async def patch_order(gateway: Gateway, principal: Principal, order_id: UUID, body: OrderChanges) -> Order:
    """Replace an open order by a new one for the quantity that has not filled.

    The result is the new order, or the old one as `pending_replace` if there is no decision in time.
    """
    row = commands.replaceable(await _order(gateway, principal, order_id))
    check_decimals(body, row["symbol"])
    return order_json(await commands.replace(gateway, principal.account_id, order_id, body))


async def delete_order(gateway: Gateway, principal: Principal, order_id: UUID) -> None:
    """Cancel an order.

    The status is 204 if the order is canceled or the cancel is still pending. It is 422 if the order has ended, or if
    its auction is too close.

    Raises Invalid, and NotFound if the account has no such order.
    """
    row = await _order(gateway, principal, order_id)
    if row["status"] in commands.ENDED:
        raise Invalid(f'order is already in "{row["status"]}" state')
    await commands.cancel(gateway, principal.account_id, order_id)


async def delete_orders(gateway: Gateway, principal: Principal) -> list[Canceled]:
    """Cancel all open orders, with one result for each."""
    return [_canceled(row, answer) for row, answer in await commands.cancel_all(gateway, principal.account_id)]


def _canceled(row: Record, answer: Answer | None) -> Canceled:
    try:
        commands.check_canceled(row, answer)
    except RequestRefused as refused:
        return {"id": str(row["id"]), "status": refused.status, "body": alpaca_error(refused)}
    return {"id": str(row["id"]), "status": 200, "body": order_json(row)}


async def _order(gateway: Gateway, principal: Principal, order_id: UUID, *, nested: bool = False) -> Record:
    """Return the order's row. Raises NotFound if the account has no such order."""
    row = await read(gateway, order_queries.order, principal.account_id, order_id, nested=nested)
    if row is None:
        raise NotFound(f"order not found for {order_id}")
    return row


endpoints = (
    Endpoint("GET", "/v2/orders", get_orders, READ),
    Endpoint("POST", "/v2/orders", post_order, TRADE),
    Endpoint("DELETE", "/v2/orders", delete_orders, TRADE, 207),
    Endpoint("GET", "/v2/orders:by_client_order_id", get_order_by_client_id, READ, refusals=(404,)),
    Endpoint("GET", "/v2/orders/{order_id}", get_order, READ),
    Endpoint("PATCH", "/v2/orders/{order_id}", patch_order, TRADE),
    Endpoint("DELETE", "/v2/orders/{order_id}", delete_order, TRADE, 204),
)
