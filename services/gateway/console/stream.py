"""``/api/stream``: the server-sent events of the page."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from services.gateway.http.auth import OPERATE, TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.requests import Gateway, read
from services.gateway.instruments import queries as instrument_queries
from services.gateway.operations.jobs_api import status_json
from services.gateway.streams.events import Part
from services.gateway.trading import account_queries, order_queries
from services.gateway.trading.requests import OrderQuery
from services.gateway.trading.serializers import account_json, order_json, position_json, price_json

#: Changes are collected for this long before they are sent.
GATHER_SECONDS = 0.25
#: A stream without news sends a ping this often.
PING_SECONDS = 5.0
#: Jobs send no events, so an operator's stream reads their status this often.
JOBS_SECONDS = 2.0


async def get_stream(gateway: Gateway, principal: Principal) -> Annotated[Response, str]:
    """Server-sent events: prices, halts, account, positions, orders and, for operators, jobs, whenever they change."""
    return EventSourceResponse(_events(gateway, principal), ping=3600)


async def _events(gateway: Gateway, principal: Principal) -> AsyncIterator[ServerSentEvent]:
    """Yield every part once, then each part again when it differs from the one sent last.

    The stream ends when the principal's key is revoked.
    """
    clock = asyncio.get_running_loop().time
    operator = OPERATE in principal.scopes
    sent: dict[Part, str] = {}
    sent_at = jobs_due = clock()
    with gateway.hub.stream(principal.account_id) as stream:
        yield _event("prices", {"prices": [price_json(row) for row in await read(gateway, instrument_queries.prices)]})
        stream.mark({Part.HALTS, Part.ACCOUNT, Part.POSITIONS, Part.ORDERS})
        while await run_in_threadpool(gateway.keys.is_valid, principal):
            await stream.wait(JOBS_SECONDS if operator else PING_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)
            if operator and clock() >= jobs_due:
                stream.mark({Part.JOBS})
                jobs_due = clock() + JOBS_SECONDS
            changed, prices = stream.take()
            news = [_event("prices", {"prices": prices})] if prices else []
            for part in sorted(changed):
                event = await _part(gateway, principal, part)
                if event is not None and sent.get(part) != event.data:
                    sent[part] = str(event.data)
                    news.append(event)
            if not news and clock() - sent_at >= PING_SECONDS:
                news = [_event("ping", {})]
            for event in news:
                sent_at = clock()
                yield event


async def _part(gateway: Gateway, principal: Principal, part: Part) -> ServerSentEvent | None:
    """Read one part. Return None while the account is not open yet."""
    account, now = principal.account_id, gateway.context.clock()
    match part:
        case Part.ACCOUNT:
            row = await read(gateway, account_queries.account, account, now)
            return None if row is None else _event(part, account_json(row))
        case Part.POSITIONS:
            positions = [position_json(row) for row in await read(gateway, account_queries.positions, account, now)]
            return _event(part, {"positions": positions})
        case Part.ORDERS:
            rows = await read(gateway, order_queries.orders, account, OrderQuery(status="all", limit=50))
            return _event(part, {"orders": [order_json(row) for row in rows]})
        case Part.HALTS:
            halts = await read(gateway, instrument_queries.open_halts)
            return _event(part, {"halts": [price_json(row) for row in halts]})
        case Part.JOBS:
            return ServerSentEvent(await status_json(gateway), event=part)


def _event(name: str, data: Any) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data), event=name)


endpoints = (Endpoint("GET", "/api/stream", get_stream, TRADE, media="text/event-stream"),)
