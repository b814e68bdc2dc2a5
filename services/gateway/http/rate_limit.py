"""The check of a key for one request."""

from starlette.concurrency import run_in_threadpool

from services.gateway.http.auth import KeyRing, Principal


async def verified(keys: KeyRing, key_id: str, secret: str) -> Principal | None:
    """Return the principal of the key, or None if the id or the secret is wrong."""
    return await run_in_threadpool(keys.verify, key_id, secret)
