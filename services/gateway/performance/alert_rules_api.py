"""``/api/account/alert-rules`` and ``/api/account/alerts``: the thresholds of an account, and its alerts."""

from uuid import UUID

from sqlalchemy import Connection, text

from services.gateway.accounts import queries as account_queries
from services.gateway.http.auth import ADMIN, FUND, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.performance.schemas import AccountAlertPage, AccountAlertQuery
from services.gateway.trading import commands
from shared.contracts.account_alerts import AlertRules, SetAlertRules
from shared.storage.keyset import Keyset


async def get_alert_rules(gateway: Gateway, principal: Principal) -> AlertRules:
    """Get the thresholds at which alerts of the key's account are raised. Without any, none is."""
    return await read(gateway, _stored, principal.account_id)


async def put_alert_rules(gateway: Gateway, principal: Principal, body: AlertRules) -> AlertRules:
    """Replace the thresholds of the key's account. A threshold that is left out raises no alert.

    They apply from the next snapshot on, which is a minute away at most while the market is open. An open alert without
    its threshold ends then.
    """
    return await _set(gateway, principal, principal.account_id, body)


async def get_alert_rules_of(gateway: Gateway, account_id: UUID) -> AlertRules:
    """Get the thresholds of an account.

    Raises NotFound for an unknown account.
    """
    await _check_known(gateway, account_id)
    return await read(gateway, _stored, account_id)


async def put_alert_rules_of(gateway: Gateway, principal: Principal, account_id: UUID, body: AlertRules) -> AlertRules:
    """Replace the thresholds of an account.

    Raises NotFound for an unknown account.
    """
    await _check_known(gateway, account_id)
    return await _set(gateway, principal, account_id, body)


async def get_account_alerts(gateway: Gateway, principal: Principal, query: AccountAlertQuery) -> AccountAlertPage:
    """List the alerts of the key's account, the last raised first."""
    pages = account_queries.pages_of(_ALERTS, principal.account_id)
    return await page_of(gateway, pages, query, AccountAlertPage, ("raised_at", "id"))


async def _set(gateway: Gateway, principal: Principal, account_id: UUID, rules: AlertRules) -> AlertRules:
    before = await read(gateway, _stored, account_id)
    command = SetAlertRules(account_id=account_id, rules=rules)
    after, earlier = rules.model_dump(mode="json"), before.model_dump(mode="json")
    publish = commands.recorded(command, principal, "set_alert_rules", str(account_id), after, before=earlier)
    await commands.send(gateway, publish, (), account_id=None)
    return rules


async def _check_known(gateway: Gateway, account_id: UUID) -> None:
    if await read(gateway, account_queries.status, account_id) is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")


def _stored(connection: Connection, account_id: UUID) -> AlertRules:
    stored = connection.execute(_RULES, {"account_id": account_id}).scalar_one_or_none()
    return AlertRules() if stored is None else AlertRules.model_validate(stored)


_RULES = text("SELECT rules FROM valuation.alert_rules_v1 WHERE account_id = :account_id")
_ALERTS = Keyset(
    """
    SELECT id, generation, kind, subject, message, value, threshold, raised_at, recovered_at FROM valuation.alerts_v1
    """,
    ("raised_at", "id"),
    {
        "account_id": "account_id = :account_id",
        "standing": "(recovered_at IS NULL) = :standing",
        "begin": "raised_at >= :begin",
        "end": "raised_at < :end",
    },
)
endpoints = (
    Endpoint("GET", "/api/account/alert-rules", get_alert_rules, READ),
    Endpoint("PUT", "/api/account/alert-rules", put_alert_rules, FUND, 202),
    Endpoint("GET", "/api/account/alerts", get_account_alerts, READ),
    Endpoint("GET", "/api/accounts/{account_id}/alert-rules", get_alert_rules_of, ADMIN),
    Endpoint("PUT", "/api/accounts/{account_id}/alert-rules", put_alert_rules_of, ADMIN, 202),
)
