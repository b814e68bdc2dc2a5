"""What the gateway is made of, and what it writes before its first request."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

import structlog
from starlette.applications import Starlette

from services.gateway.alerts.channels import make_targets
from services.gateway.alerts.evaluator import Alerts, Figures
from services.gateway.alerts.notifier import Notifier
from services.gateway.app import make_app
from services.gateway.http.auth import OPERATE, TRADE, Key, KeyRing, add_key, new_key_id, new_secret, valid_key_ids
from services.gateway.http.requests import Gateway
from services.gateway.retention import Housekeeping
from services.gateway.settings import Settings
from services.gateway.streams.hub import Live
from shared.background import Background
from shared.bus.amqp.management import Management
from shared.bus.amqp.queue_stats import queue_figures
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.clock import Clock
from shared.contracts.accounts import OpenAccount
from shared.settings import DEMO_ACCOUNT_ID
from shared.storage.migrate import migrate_service

log = structlog.get_logger(__name__)

NAME = "gateway"


def prepare(context: ServiceContext, settings: Settings) -> list[Key]:
    """Migrate, and for a demo see that its account and key exist. Its valid keys, one of them perhaps new."""
    migrate_service(context.engine, NAME)
    if not settings.demo:
        return []
    with context.unit_of_work() as uow:
        opening = OpenAccount(account_id=DEMO_ACCOUNT_ID, name="Demo", cash=settings.demo_cash)
        uow.publish(opening, message_id=uuid5(NAMESPACE_URL, "paperprofit:open-demo-account"))
        return _demo_keys(uow, settings)


def _demo_keys(uow: UnitOfWork, settings: Settings) -> list[Key]:
    """The environment's key beside those that the account has, or a new key where it would have none."""
    scopes = [TRADE, OPERATE]
    if settings.api_key_id and settings.api_secret_key:
        secret = settings.api_secret_key.get_secret_value()
        add_key(uow.connection, settings.api_key_id, secret, DEMO_ACCOUNT_ID, scopes, uow.now)
    valid = valid_key_ids(uow.connection, DEMO_ACCOUNT_ID)
    if not valid:
        made = Key(settings.api_key_id or new_key_id(), new_secret())
        add_key(uow.connection, made.key_id, str(made.secret), DEMO_ACCOUNT_ID, scopes, uow.now)
        return [made]
    if settings.api_key_id and settings.api_key_id not in valid:
        log.warning("PAPERPROFIT_API_KEY_ID names a key that was replaced; choose another id", valid=valid)
    return [Key(key_id) for key_id in valid]


def queue_reader(settings: Settings, clock: Clock) -> Figures | None:
    """How RabbitMQ is asked for the figures of all queues; None where its management API is not configured."""
    if settings.rabbitmq_management_url is None:
        return None
    management = Management(settings.rabbitmq_management_url.get_secret_value())
    vhost = unquote(urlsplit(settings.rabbitmq_url.get_secret_value()).path[1:]) or "/"
    return lambda: queue_figures(management, vhost, clock())


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
        states = {"database": context.answers(), **checks()}
        return {"healthy": all(states.values()), **states}

    asked = figures or queue_reader(settings, context.clock)
    return make_app(Gateway(context, live, settings, KeyRing(context.engine), asked), health)
