"""The composition of the gateway: its application, its background threads, and its first rows."""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

import structlog
from sqlalchemy import text
from starlette.applications import Starlette

from services.gateway.alerts.account_notifier import AccountNotifier
from services.gateway.alerts.channels import make_channels
from services.gateway.alerts.evaluator import Evaluator, Figures
from services.gateway.alerts.notifier import Notifier
from services.gateway.app import make_app
from services.gateway.http.auth import (
    SCOPES,
    Key,
    KeyRing,
    add_key,
    has_secret,
    new_key_id,
    new_secret,
    set_secret,
    valid_key_ids,
)
from services.gateway.http.requests import Gateway
from services.gateway.retention import Retention
from services.gateway.settings import Settings
from services.gateway.streams.hub import Hub
from services.gateway.trading.symbol_changes import SymbolChanges
from shared.background import Background
from shared.bus.amqp.management import Management
from shared.bus.amqp.queue_stats import queue_stats
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.clock import Clock
from shared.contracts.accounts import OpenAccount
from shared.observability.health import Checks, verdict
from shared.settings import DEMO_ACCOUNT_ID
from shared.storage.migrate import migrate_service

log = structlog.get_logger(__name__)

NAME = "gateway"


def prepare(context: ServiceContext, settings: Settings, *, seconds: float = 0) -> list[Key]:
    """Migrate, and for a demo open its account. Return the account's valid keys, with the secret of a new one.

    The key of the environment is added to the account's keys. If that leaves none, a new key is made.
    A key that was rotated or revoked since keeps its new secret, or stays revoked. Raises DatabaseTooOld, where the
    schema ``jobs`` is too old after ``seconds``.
    """
    migrate_service(context.engine, NAME, seconds=seconds)
    if not settings.demo:
        return []
    with context.unit_of_work() as uow:
        opening = OpenAccount(account_id=DEMO_ACCOUNT_ID, name="Demo", cash=settings.demo_cash)
        uow.publish(opening, message_id=uuid5(NAMESPACE_URL, "paperprofit:open-demo-account"))
        if settings.api_key_id and settings.api_secret_key:
            _add_given_key(uow, settings.api_key_id, settings.api_secret_key.get_secret_value())
        valid = valid_key_ids(uow.connection, DEMO_ACCOUNT_ID)
        if not valid:
            secret = new_secret()
            for key_id in filter(None, (settings.api_key_id, new_key_id())):  # the given id may have been revoked
                if add_key(uow.connection, key_id, secret, DEMO_ACCOUNT_ID, SCOPES, uow.now, name="demo"):
                    return [Key(key_id, secret)]
    if settings.api_key_id and settings.api_key_id not in valid:
        log.warning("PAPERPROFIT_API_KEY_ID names a key that was replaced; choose another id", valid=valid)
    return [Key(key_id) for key_id in valid]


def _add_given_key(uow: UnitOfWork, key_id: str, secret: str) -> None:
    """Add the key of the environment, or give it the environment's secret if it was never rotated."""
    add_key(uow.connection, key_id, secret, DEMO_ACCOUNT_ID, SCOPES, uow.now, name="environment")
    if has_secret(uow.connection, key_id, secret) or key_id not in valid_key_ids(uow.connection, DEMO_ACCOUNT_ID):
        return
    if uow.connection.execute(_ROTATED, {"key_id": key_id}).scalar():
        log.warning("PAPERPROFIT_API_SECRET_KEY is not the secret of the key since it was rotated", key_id=key_id)
    else:
        set_secret(uow.connection, key_id, secret)


_ROTATED = text("SELECT EXISTS (SELECT FROM jobs.operator_actions WHERE what = 'rotate_key' AND subject = :key_id)")


def queue_reader(settings: Settings, clock: Clock) -> Figures | None:
    """Return a function that reads the figures of all queues, or None if the management API is not configured."""
    if settings.rabbitmq_management_url is None:
        return None
    management = Management(settings.rabbitmq_management_url.get_secret_value())
    vhost = unquote(urlsplit(settings.rabbitmq_url.get_secret_value()).path[1:]) or "/"
    return lambda: queue_stats(management, vhost, clock())


def watchers(context: ServiceContext, settings: Settings, figures: Figures | None) -> list[Background]:
    """Make the background threads: the evaluator of alerts, the notifiers, retention, and that of changed symbols.

    There is a notifier of the operators only if they have channels.
    """
    channels = make_channels(settings.alert_channels)
    evaluator = Evaluator(
        context,
        figures,
        queue_age=timedelta(seconds=settings.alert_queue_age),
        price_age=settings.price_age,
        news_score=settings.alert_news_score,
    )
    notifiers = [Notifier(context, channels)] if channels else []
    return [evaluator, AccountNotifier(context), Retention(context), SymbolChanges(context), *notifiers]


def build_app(
    context: ServiceContext,
    hub: Hub,
    settings: Settings,
    checks: Callable[[], Checks],
    figures: Figures | None = None,
) -> Starlette:
    """Make the application. It is healthy if the database answers and all ``checks`` are true, of them ``threads``.

    ``figures`` reads the figures of the queues. By default RabbitMQ's management API is asked, if it is configured.
    """

    def health() -> Checks:
        return verdict({"database": context.database_answers(), **checks()})

    def liveness() -> Checks:
        return verdict({"threads": checks()["threads"]})

    figures = figures or queue_reader(settings, context.clock)
    return make_app(Gateway(context, hub, settings, KeyRing(context.engine), figures), health, liveness)
