"""``/v2``: the trading API in Alpaca's shape, so that existing bots work with another base URL."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.gateway import store
from services.gateway.errors import Forbidden, Invalid, NotFound, NotReady
from services.gateway.keys import TRADE, Principal
from services.gateway.live import wait_briefly
from services.gateway.models import NewOrder, OrderQuery
from services.gateway.requests import Gateway, guarded, read, read_model, validated
from services.gateway.shapes import Record, account_json, moment, order_json, position_json
from shared.contracts.orders import OPEN_STATUSES, CancelOrder, OrderStatus, SubmitOrder

MARKET = "DEMO"
#: Refusals that are the account's, not the request's.
ACCOUNT_REASONS = {"insufficient_buying_power", "insufficient_shares"}
ENDED = {str(status) for status in OrderStatus} - {str(status) for status in OPEN_STATUSES} - {"pending_new"}


async def get_account(gateway: Gateway, _request: Request, principal: Principal) -> Response:
    row = await read(gateway, store.account, principal.account_id)
    if row is None:
        raise NotReady("the account is being opened; try again in a moment")
    return JSONResponse(account_json(row))


async def get_positions(gateway: Gateway, _request: Request, principal: Principal) -> Response:
    rows = await read(gateway, store.positions, principal.account_id)
    return JSONResponse([position_json(row) for row in rows])


async def get_position(gateway: Gateway, request: Request, principal: Principal) -> Response:
    symbol = request.path_params["symbol"].upper()
    rows = await read(gateway, store.positions, principal.account_id, symbol)
    if not rows:
        raise NotFound(f"position does not exist: {symbol}")
    return JSONResponse(position_json(rows[0]))


async def get_clock(gateway: Gateway, _request: Request, _principal: Principal) -> Response:
    now = gateway.unit.clock()
    row = await read(gateway, store.market_is_open, MARKET, now)
    midnight = _next_midnight(now)
    return JSONResponse(
        {
            "timestamp": moment(now),
            "is_open": bool(row and row["is_open"]),
            "next_open": moment((row and row["next_open"]) or midnight),
            "next_close": moment((row and row["next_close"]) or midnight),
        }
    )


def _next_midnight(now: datetime) -> datetime:
    """A market that never closes turns its day at midnight UTC: day orders end there."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1)


async def get_orders(gateway: Gateway, request: Request, principal: Principal) -> Response:
    query = validated(OrderQuery, dict(request.query_params))
    rows = await read(gateway, store.orders, principal.account_id, query)
    return JSONResponse([order_json(row) for row in rows])


async def get_order(gateway: Gateway, request: Request, principal: Principal) -> Response:
    return JSONResponse(order_json(await _order(gateway, principal, _order_id(request))))


async def get_order_by_client_id(gateway: Gateway, request: Request, principal: Principal) -> Response:
    client_order_id = request.query_params.get("client_order_id", "")
    row = await read(gateway, store.order_by_client_id, principal.account_id, client_order_id)
    if row is None:
        raise NotFound(f"order not found for client_order_id {client_order_id[:128]}")
    return JSONResponse(order_json(row))


async def post_order(gateway: Gateway, request: Request, principal: Principal) -> Response:
    """Hand in an order and answer with what orders decided; a repeated one is answered, not placed again."""
    body = await read_model(request, NewOrder)
    command = body.command(account_id=principal.account_id, order_id=uuid4(), now=gateway.unit.clock())
    if not await read(gateway, store.instrument_exists, command.symbol):
        raise Invalid(f"symbol: {command.symbol} is not an instrument here", field="symbol")
    if body.client_order_id:
        earlier = await read(gateway, store.order_by_client_id, principal.account_id, body.client_order_id)
        if earlier is not None and earlier["status"] != OrderStatus.REJECTED:
            return JSONResponse(order_json(_same_order(earlier, command)))
    with gateway.live.waiting_for(command.order_id) as answered:
        await run_in_threadpool(_submit, gateway, command)
        await wait_briefly(answered, gateway.settings.answer_timeout)
    row = await _order(gateway, principal, command.order_id)
    if row["status"] == OrderStatus.REJECTED:
        refusal = Forbidden if row["reject_reason"] in ACCOUNT_REASONS else Invalid
        raise refusal(row["reject_message"])
    return JSONResponse(order_json(row))


def _submit(gateway: Gateway, command: SubmitOrder) -> None:
    with gateway.unit.transaction() as tx:
        store.add_submission(tx, command)


def _same_order(earlier: Record, command: SubmitOrder) -> Record:
    """The earlier order, if this one asks for the same."""
    asked = command.model_dump(include={"symbol", "side", "type", "time_in_force", "qty", "limit_price", "stop_price"})
    if any(earlier[name] != value for name, value in asked.items()):
        raise Invalid("client_order_id: must be unique", field="client_order_id")
    return earlier


async def delete_order(gateway: Gateway, request: Request, principal: Principal) -> Response:
    """Cancel the order: 204 when it is canceled or the cancel is on its way, 422 when it had ended before."""
    row = await _order(gateway, principal, _order_id(request))
    if row["status"] not in ENDED:
        row = await _cancel(gateway, principal, row)
        if row["status"] == OrderStatus.CANCELED or row["status"] not in ENDED:
            return Response(status_code=204)
    raise Invalid(f"order is not cancelable: it is {row['status']}")


async def delete_orders(gateway: Gateway, _request: Request, principal: Principal) -> Response:
    """Cancel all open orders; one answer for each."""
    rows = await read(gateway, store.orders, principal.account_id, OrderQuery(status="open", limit=500))
    answers = []
    for row in rows:
        after = await _cancel(gateway, principal, row)
        done = after["status"] == OrderStatus.CANCELED
        answers.append({"id": str(row["id"]), "status": 200 if done else 422, "body": order_json(after)})
    return JSONResponse(answers, 207)


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


def _order_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["order_id"])
    except ValueError:
        raise Invalid("order_id: is not a UUID", field="order_id") from None


routes = [
    Route("/v2/account", guarded(get_account, TRADE), methods=["GET"]),
    Route("/v2/clock", guarded(get_clock, TRADE), methods=["GET"]),
    Route("/v2/positions", guarded(get_positions, TRADE), methods=["GET"]),
    Route("/v2/positions/{symbol}", guarded(get_position, TRADE), methods=["GET"]),
    Route("/v2/orders", guarded(get_orders, TRADE), methods=["GET"]),
    Route("/v2/orders", guarded(post_order, TRADE), methods=["POST"]),
    Route("/v2/orders", guarded(delete_orders, TRADE), methods=["DELETE"]),
    Route("/v2/orders:by_client_order_id", guarded(get_order_by_client_id, TRADE), methods=["GET"]),
    Route("/v2/orders/{order_id}", guarded(get_order, TRADE), methods=["GET"]),
    Route("/v2/orders/{order_id}", guarded(delete_order, TRADE), methods=["DELETE"]),
]
