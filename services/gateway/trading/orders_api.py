"""``/v2``: the trading API in Alpaca's shape, so that existing bots work with another base URL."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from services.gateway.http.auth import TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound, NotReady
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import account_queries, commands, order_queries, submissions
from services.gateway.trading.requests import ClientOrderQuery, NestedQuery, NewOrder, OrderChanges, OrderQuery
from services.gateway.trading.schemas import Account, Canceled, MarketClock, Order
from services.gateway.trading.serializers import account_json, moment, order_json
from shared.contracts.orders import OrderClass, OrderStatus, OrderTerms, SubmitOrder
from shared.storage.keyset import Record

MARKET = "DEMO"


async def get_account(gateway: Gateway, principal: Principal) -> Account:
    """The account of the key."""
    row = await read(gateway, account_queries.account, principal.account_id)
    if row is None:
        raise NotReady("the account is being opened; try again in a moment")
    return account_json(row)


async def get_clock(gateway: Gateway) -> MarketClock:
    """The time, and whether the demo market is open."""
    now = gateway.context.clock()
    row = await read(gateway, submissions.market_is_open, MARKET, now)
    midnight = _next_midnight(now)
    return {
        "timestamp": moment(now),
        "is_open": bool(row and row["is_open"]),
        "next_open": moment((row and row["next_open"]) or midnight),
        "next_close": moment((row and row["next_close"]) or midnight),
    }


def _next_midnight(now: datetime) -> datetime:
    """A market that never closes turns its day at midnight UTC: day orders end there."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1)


async def get_orders(gateway: Gateway, principal: Principal, query: OrderQuery) -> list[Order]:
    """Orders of the account, the open ones unless asked otherwise."""
    return [order_json(row) for row in await read(gateway, order_queries.orders, principal.account_id, query)]


async def get_order(gateway: Gateway, principal: Principal, order_id: UUID, query: NestedQuery) -> Order:
    """One order."""
    return order_json(await _order(gateway, principal, order_id, nested=query.nested))


async def get_order_by_client_id(gateway: Gateway, principal: Principal, query: ClientOrderQuery) -> Order:
    """One order, by the id that the client gave it."""
    row = await read(gateway, order_queries.order_by_client_id, principal.account_id, query.client_order_id)
    if row is None:
        raise NotFound(f"order not found for client_order_id {query.client_order_id[:128]}")
    return order_json(row)


async def post_order(gateway: Gateway, principal: Principal, body: NewOrder) -> Order:
    """Hand in an order and answer with what orders decided; a repeated one is answered, not placed again."""
    command = body.command(account_id=principal.account_id, order_id=uuid4(), now=gateway.context.clock())
    if not await read(gateway, submissions.instrument_exists, command.symbol):
        raise Invalid(f"symbol: {command.symbol} is not an instrument here", field="symbol")
    try:
        (row,) = await commands.place(gateway, principal.account_id, [command])
    except submissions.AlreadySubmitted as earlier:
        return await _same_order(gateway, principal, earlier.order_id, command)
    return order_json(commands.accepted(row))


async def _same_order(gateway: Gateway, principal: Principal, order_id: UUID, command: SubmitOrder) -> Order:
    """The earlier order, if this one asks for the same."""
    row = await _order(gateway, principal, order_id, nested=True)
    asked = await read(gateway, submissions.terms, order_id)
    if asked is None and row["order_class"] == OrderClass.SIMPLE:
        asked = OrderTerms.model_construct(**{name: row[name] for name in _OWN_TERMS})
    if asked is None or any(getattr(asked, name) != getattr(command, name) for name in OrderTerms.model_fields):
        raise Invalid("client_order_id: must be unique", field="client_order_id")
    return order_json(row)


async def patch_order(gateway: Gateway, principal: Principal, order_id: UUID, body: OrderChanges) -> Order:
    """Replace an open order: another one goes on with what was left of it.

    Answered with the new order, or with the old one as ``pending_replace`` where orders has not decided in time.
    """
    commands.replaceable(await _order(gateway, principal, order_id))
    return order_json(await commands.replace(gateway, principal.account_id, order_id, body))


async def delete_order(gateway: Gateway, principal: Principal, order_id: UUID) -> None:
    """Cancel the order: 204 when it is canceled or the cancel is on its way.

    422 when it had ended before, or its auction is about to be held.
    """
    row = await _order(gateway, principal, order_id)
    if row["status"] not in commands.ENDED:
        ((row, answer),) = await commands.cancel(gateway, principal.account_id, [order_id])
        if row["status"] not in commands.ENDED and answer is not None and answer.refused:
            raise commands.refusal(answer.body["reason"], answer.body["message"])
        if row["status"] == OrderStatus.CANCELED or row["status"] not in commands.ENDED:
            return
    raise Invalid(f"order is not cancelable: it is {row['status']}")


async def delete_orders(gateway: Gateway, principal: Principal) -> list[Canceled]:
    """Cancel all open orders; one answer for each."""
    query = OrderQuery(status="open", limit=500)
    ids = [row["id"] for row in await read(gateway, order_queries.orders, principal.account_id, query)]
    return [_canceled(row) for row, _ in await commands.cancel(gateway, principal.account_id, ids)]


def _canceled(row: Record) -> Canceled:
    done = row["status"] == OrderStatus.CANCELED
    return {"id": str(row["id"]), "status": 200 if done else 422, "body": order_json(row)}


async def _order(gateway: Gateway, principal: Principal, order_id: UUID, *, nested: bool = False) -> Record:
    row = await read(gateway, order_queries.order, principal.account_id, order_id, nested=nested)
    if row is None:
        raise NotFound(f"order not found for {order_id}")
    return row


#: Of a simple order its own row has all terms.
_OWN_TERMS = OrderTerms.model_fields.keys() - {"take_profit", "stop_loss"}
endpoints = (
    Endpoint("GET", "/v2/account", get_account, TRADE),
    Endpoint("GET", "/v2/clock", get_clock, TRADE),
    Endpoint("GET", "/v2/orders", get_orders, TRADE),
    Endpoint("POST", "/v2/orders", post_order, TRADE),
    Endpoint("DELETE", "/v2/orders", delete_orders, TRADE, 207),
    Endpoint("GET", "/v2/orders:by_client_order_id", get_order_by_client_id, TRADE, refusals=(404,)),
    Endpoint("GET", "/v2/orders/{order_id}", get_order, TRADE),
    Endpoint("PATCH", "/v2/orders/{order_id}", patch_order, TRADE),
    Endpoint("DELETE", "/v2/orders/{order_id}", delete_order, TRADE, 204),
)
