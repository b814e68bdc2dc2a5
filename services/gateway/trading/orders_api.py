"""``/v2/orders``: submit, read, replace and cancel orders."""

from typing import Any
from uuid import UUID, uuid4

from services.gateway.http.auth import TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import commands, order_queries, submissions
from services.gateway.trading.requests import ClientOrderQuery, NestedQuery, NewOrder, OrderChanges, OrderQuery
from services.gateway.trading.schemas import Canceled, Order
from services.gateway.trading.serializers import order_json
from shared.contracts.orders import OrderClass, OrderStatus, OrderTerms, SubmitOrder
from shared.storage.keyset import Record


async def get_orders(gateway: Gateway, principal: Principal, query: OrderQuery) -> list[Order]:
    """List the account's orders, the open ones by default."""
    return [order_json(row) for row in await read(gateway, order_queries.orders, principal.account_id, query)]


async def get_order(gateway: Gateway, principal: Principal, order_id: UUID, query: NestedQuery) -> Order:
    """Get an order."""
    return order_json(await _order(gateway, principal, order_id, nested=query.nested))


async def get_order_by_client_id(gateway: Gateway, principal: Principal, query: ClientOrderQuery) -> Order:
    """Get an order by its client order id.

    Raises NotFound if the account has no such order.
    """
    row = await read(gateway, order_queries.order_by_client_id, principal.account_id, query.client_order_id)
    if row is None:
        raise NotFound(f"order not found for client_order_id {query.client_order_id[:128]}")
    return order_json(row)


async def post_order(gateway: Gateway, principal: Principal, body: NewOrder) -> Order:
    """Submit an order and wait until it is accepted or rejected.

    A request that is repeated with its `client_order_id` places one order, and returns it each time.

    Raises Invalid for an unknown symbol, for a `client_order_id` of another order and, like Forbidden, if the order is
    rejected.
    """
    command = body.command(account_id=principal.account_id, order_id=uuid4(), now=gateway.context.clock())
    if not await read(gateway, order_queries.instrument_exists, command.symbol):
        raise Invalid(f"symbol: unknown instrument {command.symbol}", field="symbol")
    try:
        (row,) = await commands.place(gateway, principal.account_id, [command])
    except submissions.AlreadySubmitted as earlier:
        return await _repeated(gateway, principal, earlier.order_id, command)
    return order_json(commands.accepted(row))


async def _repeated(gateway: Gateway, principal: Principal, order_id: UUID, command: SubmitOrder) -> Order:
    """Return the earlier order. Raises Invalid if the repeated request has other terms."""
    row = await _order(gateway, principal, order_id, nested=True)
    terms = await read(gateway, submissions.terms, order_id)
    if terms is None and row["order_class"] == OrderClass.SIMPLE:  # the row of a simple order has all of its terms
        own: dict[str, Any] = {name: row.get(name) for name in OrderTerms.model_fields}
        terms = OrderTerms.model_construct(**own)
    if terms is None or any(getattr(terms, name) != getattr(command, name) for name in OrderTerms.model_fields):
        raise Invalid("client_order_id: must be unique", field="client_order_id")
    return order_json(row)


async def patch_order(gateway: Gateway, principal: Principal, order_id: UUID, body: OrderChanges) -> Order:
    """Replace an open order by a new one for the quantity that has not filled.

    The result is the new order, or the old one as `pending_replace` if there is no decision in time.
    """
    commands.replaceable(await _order(gateway, principal, order_id))
    return order_json(await commands.replace(gateway, principal.account_id, order_id, body))


async def delete_order(gateway: Gateway, principal: Principal, order_id: UUID) -> None:
    """Cancel an order.

    The status is 204 if the order is canceled or the cancel is still pending. It is 422 if the order has ended, or if
    its auction is too close.

    Raises Invalid, and NotFound if the account has no such order.
    """
    row = await _order(gateway, principal, order_id)
    if row["status"] not in commands.ENDED:
        ((row, answer),) = await commands.cancel(gateway, principal.account_id, [order_id])
        if row["status"] == OrderStatus.CANCELED:
            return
        if row["status"] not in commands.ENDED:
            commands.check(answer)
            return
    raise Invalid(f"order is not cancelable: it is {row['status']}")


async def delete_orders(gateway: Gateway, principal: Principal) -> list[Canceled]:
    """Cancel all open orders, with one result for each."""
    return [
        {
            "id": str(row["id"]),
            "status": 200 if row["status"] == OrderStatus.CANCELED else 422,
            "body": order_json(row),
        }
        for row in await commands.cancel_all(gateway, principal.account_id)
    ]


async def _order(gateway: Gateway, principal: Principal, order_id: UUID, *, nested: bool = False) -> Record:
    """Return the order's row. Raises NotFound if the account has no such order."""
    row = await read(gateway, order_queries.order, principal.account_id, order_id, nested=nested)
    if row is None:
        raise NotFound(f"order not found for {order_id}")
    return row


endpoints = (
    Endpoint("GET", "/v2/orders", get_orders, TRADE),
    Endpoint("POST", "/v2/orders", post_order, TRADE),
    Endpoint("DELETE", "/v2/orders", delete_orders, TRADE, 207),
    Endpoint("GET", "/v2/orders:by_client_order_id", get_order_by_client_id, TRADE, refusals=(404,)),
    Endpoint("GET", "/v2/orders/{order_id}", get_order, TRADE),
    Endpoint("PATCH", "/v2/orders/{order_id}", patch_order, TRADE),
    Endpoint("DELETE", "/v2/orders/{order_id}", delete_order, TRADE, 204),
)
