"""``/api/prices/stream``: a WebSocket that takes the frames of ``POST /api/prices``, and answers each.

A frame is answered before the next one is read. A client that sends faster than its prices are stored is slowed down.
"""

import json

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from services.gateway.http.auth import OPERATE, Principal
from services.gateway.http.errors import Forbidden, Malformed, NotReady, RequestRefused, problem, refusal_response
from services.gateway.http.missing_streams import PRICE_STREAM
from services.gateway.http.requests import Gateway, authenticate, validated
from services.gateway.instruments.prices_api import NewPrices, PushResult, push
from shared.contracts.written import read_json
from shared.storage.errors import DATABASE_ERRORS, is_transient

#: The codes that end a WebSocket: the key is not valid any more (RFC 6455).
POLICY_VIOLATION = 1008
_BODY: TypeAdapter[NewPrices] = TypeAdapter(NewPrices)
_RESULT: TypeAdapter[PushResult] = TypeAdapter(PushResult)


async def stream_prices(websocket: WebSocket) -> None:
    """Take frames until the client goes. The handshake needs a key with the scope ``operate``, as each frame does."""
    gateway: Gateway = websocket.app.state.gateway
    scheme = websocket.scope["scheme"].replace("ws", "http")
    handshake = Request({**websocket.scope, "type": "http", "method": "POST", "scheme": scheme})
    try:
        await _operator(gateway, handshake)
    except RequestRefused as refused:
        await websocket.send_denial_response(refusal_response(handshake, refused))
        return
    await websocket.accept()
    try:
        while True:
            frame = await websocket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            try:
                await _operator(gateway, handshake)
            except RequestRefused as refused:
                await websocket.close(POLICY_VIOLATION, refused.message)
                return
            await websocket.send_text(await _answer(gateway, frame.get("text") or frame.get("bytes") or ""))
    except WebSocketDisconnect:
        return


async def _operator(gateway: Gateway, handshake: Request) -> Principal:
    """Return the principal of the key. Raises RequestRefused."""
    principal = await authenticate(gateway, handshake)
    if not principal.may(OPERATE):
        raise Forbidden(f"this key lacks the scope {OPERATE!r}: use a key that has it")
    return principal


async def _answer(gateway: Gateway, frame: str | bytes) -> str:
    """Return the JSON that answers a frame: the result of the push, or a problem as of ``POST /api/prices``."""
    try:
        body = validated(_BODY, _read(frame))
        return _RESULT.dump_json(await push(gateway, body.prices)).decode()
    except RequestRefused as refused:
        return json.dumps(problem(refused))
    except DATABASE_ERRORS as error:
        if not is_transient(error):
            raise
        return json.dumps(problem(NotReady("the database is not ready; retry in a moment")))


def _read(frame: str | bytes) -> object:
    try:
        value: object = read_json(frame.encode() if isinstance(frame, str) else frame)
    except ValueError as error:
        raise Malformed(f"body: is not valid JSON in UTF-8: {error}", field="body") from None
    return value


routes = (WebSocketRoute(PRICE_STREAM, stream_prices),)
