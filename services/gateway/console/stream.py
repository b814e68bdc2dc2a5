"""``/api/stream``: the server-sent events of the page."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import Connection
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http.auth import OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import RequestRefused, TooManyRequests
from services.gateway.http.requests import Gateway, authenticate, read
from services.gateway.instruments import queries as instrument_queries
from services.gateway.operations.jobs_api import status_json
from services.gateway.streams.events import Part
from services.gateway.trading import account_queries, order_queries
from services.gateway.trading.requests import OrderQuery
from services.gateway.trading.serializers import account_json, order_json, position_json, price_json
from shared.storage.keyset import Record

#: Changes are collected for this long before they are sent.
GATHER_SECONDS = 0.25
#: A stream without news sends a ping this often.
PING_SECONDS = 5.0
#: Jobs send no events, so an operator's stream reads their status this often.
JOBS_SECONDS = 2.0
#: A stream asks this often if its session or key is still valid.
CHECK_SECONDS = 0.5
#: The newest ended orders. All open ones are sent, however many there are.
ENDED_ORDERS = OrderQuery(status="closed", limit=50)


async def get_stream(gateway: Gateway, principal: Principal, request: Request) -> Annotated[Response, str]:
    """Server-sent events: prices, halts, account, positions, orders and, for operators, jobs, whenever they change."""
    if gateway.hub.is_full(principal.account_id):
        raise TooManyRequests("too many open streams of this account; close one", retry_after=5)
    return EventSourceResponse(_events(gateway, principal, request), ping=3600)


async def _events(gateway: Gateway, principal: Principal, request: Request) -> AsyncIterator[ServerSentEvent]:
    """Yield every part once, then each part again when it differs from the one sent last.

    The stream ends with ``signed_out`` within about a second of the end of its session or key.
    """
    clock = asyncio.get_running_loop().time
    page = _Page(gateway, principal)
    sent_at = jobs_due = check_due = clock()
    with gateway.hub.stream(principal.account_id) as stream:
        yield _event("prices", {"prices": [price_json(row) for row in await read(gateway, instrument_queries.prices)]})
        stream.mark({Part.HALTS, Part.ACCOUNT, Part.POSITIONS, Part.ORDERS})
        while True:
            if clock() >= check_due:
                if not await _is_valid(gateway, request, principal):
                    break
                check_due = clock() + CHECK_SECONDS
            await stream.wait(check_due - clock())
            await asyncio.sleep(GATHER_SECONDS)
            if principal.may(OPERATE) and clock() >= jobs_due:
                stream.mark({Part.JOBS})
                jobs_due = clock() + JOBS_SECONDS
            changed, prices = stream.take()
            news = [_event("prices", {"prices": prices})] if prices else []
            news += [event for part in sorted(changed) if (event := await page.changed(part))]
            if not news and clock() - sent_at >= PING_SECONDS:
                news = [_event("ping", {})]
            for event in news:
                sent_at = clock()
                yield event
        yield _event("signed_out", {})


async def _is_valid(gateway: Gateway, request: Request, principal: Principal) -> bool:
    """Return False if the request of the stream would be refused now, or its key has other scopes."""
    try:
        return await authenticate(gateway, request) == principal
    except RequestRefused:
        return False


class _Page:
    """The parts that one page was sent."""

    def __init__(self, gateway: Gateway, principal: Principal) -> None:
        self._gateway = gateway
        self._account_id = principal.account_id
        self._sent: dict[Part, str] = {}
        self._orders: dict[UUID, Record] | None = None

    async def changed(self, part: Part) -> ServerSentEvent | None:
        """Read a part. Return its event, or None if the page has it already or the account is not open yet."""
        body = await self._orders_changed() if part is Part.ORDERS else await self._body(part)
        if body is None or self._sent.get(part) == body:
            return None
        self._sent[part] = body
        return ServerSentEvent(body, event=part)

    async def _body(self, part: Part) -> str | None:
        match part:
            case Part.ACCOUNT:
                row = await read(
                    self._gateway, account_queries.account, self._account_id, self._gateway.context.clock()
                )
                return None if row is None else json.dumps(account_json(row))
            case Part.POSITIONS:
                rows = await read(
                    self._gateway, account_queries.positions, self._account_id, self._gateway.context.clock()
                )
                return json.dumps({"positions": [position_json(row) for row in rows]})
            case Part.HALTS:
                halts = await read(self._gateway, instrument_queries.open_halts)
                return json.dumps({"halts": [price_json(row) for row in halts]})
            case Part.JOBS:
                return await status_json(self._gateway)
        return None

    async def _orders_changed(self) -> str | None:
        """Return the orders that the page does not have in this state, and the ids of those that it drops.

        The first event has ``all`` orders of the page.
        """
        before = self._orders or {}
        now = await read(self._gateway, _orders, self._account_id)
        first, self._orders = self._orders is None, now
        changed = [order_json(row) for id_, row in now.items() if before.get(id_) != row]
        gone = [str(id_) for id_ in before.keys() - now.keys()]
        return json.dumps({"orders": changed, "gone": gone, "all": first}) if first or changed or gone else None


def _orders(connection: Connection, account_id: UUID) -> dict[UUID, Record]:
    """Return the open orders, and the newest that have ended. An order that ends meanwhile is in both reads."""
    rows = [
        *order_queries.open_orders(connection, account_id),
        *order_queries.orders(connection, account_id, ENDED_ORDERS),
    ]
    return {row["id"]: row for row in rows}


def _event(name: str, data: Any) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data), event=name)


endpoints = (Endpoint("GET", "/api/stream", get_stream, READ, media="text/event-stream"),)
