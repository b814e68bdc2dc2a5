"""What the gateway is made of, and what it writes before its first request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.applications import Starlette

from services.gateway.app import make_app
from services.gateway.keys import OPERATE, TRADE, KeyRing, add_key, has_key, new_key_id, new_secret
from services.gateway.live import Live
from services.gateway.requests import Gateway
from services.gateway.settings import Settings
from shared.bus.transaction import Transaction, Unit
from shared.contracts.orders import OpenAccount
from shared.settings import DEMO_ACCOUNT_ID
from shared.storage.migrate import migrate_service

NAME = "gateway"


@dataclass(frozen=True)
class NewKey:
    """A key that was made at this start; its secret is shown once and not kept."""

    key_id: str
    secret: str


def prepare(unit: Unit, settings: Settings) -> NewKey | None:
    """Migrate, and for a demo see that its account and key exist; the key, if one was made."""
    migrate_service(unit.engine, NAME)
    if not settings.demo:
        return None
    with unit.transaction() as tx:
        opening = OpenAccount(account_id=DEMO_ACCOUNT_ID, name="Demo", cash=settings.demo_cash)
        tx.publish(opening, message_id=uuid5(NAMESPACE_URL, "paperprofit:open-demo-account"))
        return _demo_key(tx, settings)


def _demo_key(tx: Transaction, settings: Settings) -> NewKey | None:
    scopes = [TRADE, OPERATE]
    if settings.api_key_id and settings.api_secret_key:
        secret = settings.api_secret_key.get_secret_value()
        add_key(tx.connection, settings.api_key_id, secret, DEMO_ACCOUNT_ID, scopes, tx.now)
        return None
    if has_key(tx.connection, DEMO_ACCOUNT_ID):
        return None
    made = NewKey(settings.api_key_id or new_key_id(), new_secret())
    add_key(tx.connection, made.key_id, made.secret, DEMO_ACCOUNT_ID, scopes, tx.now)
    return made


def build_app(unit: Unit, live: Live, settings: Settings, checks: Callable[[], dict[str, bool]]) -> Starlette:
    """The application; ``checks`` says what else must work, besides the database, to be healthy."""

    def health() -> dict[str, Any]:
        states = {"database": unit.answers(), **checks()}
        return {"healthy": all(states.values()), **states}

    return make_app(Gateway(unit, live, settings, KeyRing(unit.engine)), health)
