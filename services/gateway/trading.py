"""``/v2``: the trading API in Alpaca's shape, so that existing bots work with another base URL."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from starlette.concurrency import run_in_threadpool

from services.gateway import store
from services.gateway.alpaca import Account, Canceled, MarketClock, Order, Position
from services.gateway.endpoints import Endpoint
from services.gateway.errors import Forbidden, Invalid, NotFound, NotReady
from services.gateway.keys import TRADE, Principal
from services.gateway.live import wait_briefly
from services.gateway.models import ClientOrderQuery, NewOrder, OrderQuery
from services.gateway.requests import Gateway, read
from services.gateway.shapes import Record, account_json, moment, order_json, position_json
from shared.contracts.orders import OPEN_STATUSES, CancelOrder, OrderStatus, SubmitOrder

MARKET = "DEMO"
#: Refusals that are the account's, not the request's.
ACCOUNT_REASONS = {"insufficient_buying_power", "insufficient_shares"}
ENDED = {str(status) for status in OrderStatus} - {str(status) for status in OPEN_STATUSES} - {"pending_new"}


async def get_account(gateway: Gateway, principal: Principal) -> Account:
    """The account of the key."""
    row = await read(gateway, store.account, principal.account_id)
    if row is None:
        raise NotReady("the account is being opened; try again in a moment")
    return account_json(row)


async def get_positions(gateway: Gateway, principal: Principal) -> list[Position]:
    """What the account holds."""
    return [position_json(row) for row in await read(gateway, store.positions, principal.account_id)]


async def get_position(gateway: Gateway, principal: Principal, symbol: str) -> Position:
    """What the account holds of one symbol."""
    rows = await read(gateway, store.positions, principal.account_id, symbol.upper())
    if not rows:
        raise NotFound(f"position does not exist: {symbol.upper()}")
    return position_json(rows[0])


async def get_clock(gateway: Gateway) -> MarketClock:
    """The time, and whether the demo market is open."""
    now = gateway.unit.clock()
    row = await read(gateway, store.market_is_open, MARKET, now)
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
    return [order_json(row) for row in await read(gateway, store.orders, principal.account_id, query)]


async def get_order(gateway: Gateway, principal: Principal, order_id: UUID) -> Order:
    """One order."""
    return order_json(await _order(gateway, principal, order_id))


async def get_order_by_client_id(gateway: Gateway, principal: Principal, query: ClientOrderQuery) -> Order:
    """One order, by the id that the client gave it."""
    row = await read(gateway, store.order_by_client_id, principal.account_id, query.client_order_id)
    if row is None:
        raise NotFound(f"order not found for client_order_id {query.client_order_id[:128]}")
    return order_json(row)


async def post_order(gateway: Gateway, principal: Principal, body: NewOrder) -> Order:
    """Hand in an order and answer with what orders decided; a repeated one is answered, not placed again."""
    command = body.command(account_id=principal.account_id, order_id=uuid4(), now=gateway.unit.clock())
    if not await read(gateway, store.instrument_exists, command.symbol):
        raise Invalid(f"symbol: {command.symbol} is not an instrument here", field="symbol")
    if body.client_order_id:
        earlier = await read(gateway, store.order_by_client_id, principal.account_id, body.client_order_id)
        if earlier is not None and earlier["status"] != OrderStatus.REJECTED:
            return order_json(_same_order(earlier, command))
    with gateway.live.waiting_for(command.order_id) as answered:
        await run_in_threadpool(_submit, gateway, command)
        await wait_briefly(answered, gateway.settings.answer_timeout)
    row = await _order(gateway, principal, command.order_id)
    if row["status"] == OrderStatus.REJECTED:
        refusal = Forbidden if row["reject_reason"] in ACCOUNT_REASONS else Invalid
        raise refusal(row["reject_message"])
    return order_json(row)


def _submit(gateway: Gateway, command: SubmitOrder) -> None:
    with gateway.unit.transaction() as tx:
        store.add_submission(tx, command)


def _same_order(earlier: Record, command: SubmitOrder) -> Record:
    """The earlier order, if this one asks for the same."""
    asked = command.model_dump(include={"symbol", "side", "type", "time_in_force", "qty", "limit_price", "stop_price"})
    if any(earlier[name] != value for name, value in asked.items()):
        raise Invalid("client_order_id: must be unique", field="client_order_id")
    return earlier


async def delete_order(gateway: Gateway, principal: Principal, order_id: UUID) -> None:
    """Cancel the order: 204 when it is canceled or the cancel is on its way, 422 when it had ended before."""
    row = await _order(gateway, principal, order_id)
    if row["status"] not in ENDED:
        row = await _cancel(gateway, principal, row)
        if row["status"] == OrderStatus.CANCELED or row["status"] not in ENDED:
            return
    raise Invalid(f"order is not cancelable: it is {row['status']}")


async def delete_orders(gateway: Gateway, principal: Principal) -> list[Canceled]:
    """Cancel all open orders; one answer for each."""
    rows = await read(gateway, store.orders, principal.account_id, OrderQuery(status="open", limit=500))
    answers: list[Canceled] = []
    for row in rows:
        after = await _cancel(gateway, principal, row)
        done = after["status"] == OrderStatus.CANCELED
        answers.append({"id": str(row["id"]), "status": 200 if done else 422, "body": order_json(after)})
    return answers


async def _cancel(gateway: Gateway, principal: Principal, row: Record) -> Record:
    """Ask orders to cancel it, and the order as it is after the answer."""
    command = CancelOrder(account_id=principal.account_id, order_id=row["id"], requested_at=gateway.unit.clock())
    with gateway.live.waiting_for(row["id"]) as answered:
        await run_in_threadpool(_send, gateway, command)
        await wait_briefly(answered, gateway.settings.answer_timeout)
    return await _order(gateway, principal, row["id"])


def _send(gateway: Gateway, command: CancelOrder) -> None:
    with gateway.unit.transaction() as tx:
        tx.publish(command)


async def _order(gateway: Gateway, principal: Principal, order_id: UUID) -> Record:
    row = await read(gateway, store.order, principal.account_id, order_id)
    if row is None:
        raise NotFound(f"order not found for {order_id}")
    return row


endpoints = (
    Endpoint("GET", "/v2/account", get_account, TRADE),
    Endpoint("GET", "/v2/clock", get_clock, TRADE),
    Endpoint("GET", "/v2/positions", get_positions, TRADE),
    Endpoint("GET", "/v2/positions/{symbol}", get_position, TRADE),
    Endpoint("GET", "/v2/orders", get_orders, TRADE),
    Endpoint("POST", "/v2/orders", post_order, TRADE),
    Endpoint("DELETE", "/v2/orders", delete_orders, TRADE, 207),
    Endpoint("GET", "/v2/orders:by_client_order_id", get_order_by_client_id, TRADE, refusals=(404,)),
    Endpoint("GET", "/v2/orders/{order_id}", get_order, TRADE),
    Endpoint("DELETE", "/v2/orders/{order_id}", delete_order, TRADE, 204),
)
