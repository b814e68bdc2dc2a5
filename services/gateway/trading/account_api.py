"""``/v2/account``: the account of the key."""

from services.gateway.http.auth import READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotReady
from services.gateway.http.requests import Gateway, read
from services.gateway.trading import account_queries
from services.gateway.trading.schemas import Account
from services.gateway.trading.serializers import account_json


async def get_account(gateway: Gateway, principal: Principal) -> Account:
    """Get the account of the key.

    Raises NotReady while it is being opened.
    """
    row = await read(gateway, account_queries.account, principal.account_id, gateway.context.clock())
    if row is None:
        raise NotReady("the account is being opened; retry in a moment")
    return account_json(row)


endpoints = (Endpoint("GET", "/v2/account", get_account, READ),)
