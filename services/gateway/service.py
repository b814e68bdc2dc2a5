"""What the gateway is made of, and what it writes before its first request."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

from starlette.applications import Starlette

from services.gateway.alerts.channels import make_targets
from services.gateway.alerts.evaluator import Alerts, Figures
from services.gateway.alerts.notifier import Notifier
from services.gateway.app import make_app
from services.gateway.http.auth import OPERATE, TRADE, KeyRing, add_key, has_key, new_key_id, new_secret
from services.gateway.http.requests import Gateway
from services.gateway.retention import Housekeeping
from services.gateway.settings import Settings
from services.gateway.streams.hub import Live
from shared.background import Background
from shared.bus.amqp.management import Management
from shared.bus.amqp.queue_stats import queue_stats
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.clock import Clock
from shared.contracts.accounts import OpenAccount
from shared.settings import DEMO_ACCOUNT_ID
from shared.storage.migrate import migrate_service

NAME = "gateway"


@dataclass(frozen=True)
class NewKey:
    """A key that was made at this start; its secret is shown once and not kept."""

    key_id: str
    secret: str


def prepare(context: ServiceContext, settings: Settings) -> NewKey | None:
    """Migrate, and for a demo see that its account and key exist; the key, if one was made."""
    migrate_service(context.engine, NAME)
    if not settings.demo:
        return None
    with context.unit_of_work() as uow:
        opening = OpenAccount(account_id=DEMO_ACCOUNT_ID, name="Demo", cash=settings.demo_cash)
        uow.publish(opening, message_id=uuid5(NAMESPACE_URL, "paperprofit:open-demo-account"))
        return _demo_key(uow, settings)


def _demo_key(uow: UnitOfWork, settings: Settings) -> NewKey | None:
    scopes = [TRADE, OPERATE]
    if settings.api_key_id and settings.api_secret_key:
        secret = settings.api_secret_key.get_secret_value()
        add_key(uow.connection, settings.api_key_id, secret, DEMO_ACCOUNT_ID, scopes, uow.now)
        return None
    if has_key(uow.connection, DEMO_ACCOUNT_ID):
        return None
    made = NewKey(settings.api_key_id or new_key_id(), new_secret())
    add_key(uow.connection, made.key_id, made.secret, DEMO_ACCOUNT_ID, scopes, uow.now)
    return made


def queue_reader(settings: Settings, clock: Clock) -> Figures | None:
    """How RabbitMQ is asked for the figures of all queues; None where its management API is not configured."""
    if settings.rabbitmq_management_url is None:
        return None
    management = Management(settings.rabbitmq_management_url.get_secret_value())
    vhost = unquote(urlsplit(settings.rabbitmq_url.get_secret_value()).path[1:]) or "/"
    return lambda: queue_stats(management, vhost, clock())


def watchers(context: ServiceContext, settings: Settings, figures: Figures | None) -> list[Background]:
    """What runs beside the requests: the alerts, the housekeeping, and the notifier where administrators are told."""
    targets = make_targets(settings.alert_targets)
    alerts = Alerts(context, figures, queue_age=timedelta(seconds=settings.alert_queue_age))
    always = [alerts, Housekeeping(context)]
    return [*always, Notifier(context, targets)] if targets else always


def build_app(
    context: ServiceContext,
    live: Live,
    settings: Settings,
    checks: Callable[[], dict[str, bool]],
    figures: Figures | None = None,
) -> Starlette:
    """The application; ``checks`` says what else must work, besides the database, to be healthy.

    ``figures`` are those of the queues; without it RabbitMQ is asked, where its management API is configured.
    """

    def health() -> dict[str, Any]:
        states = {"database": context.database_answers(), **checks()}
        return {"healthy": all(states.values()), **states}

    asked = figures or queue_reader(settings, context.clock)
    return make_app(Gateway(context, live, settings, KeyRing(context.engine), asked), health)
