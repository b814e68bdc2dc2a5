"""Settings of the gateway. Their environment variables have the prefix ``PAPERPROFIT_``."""

from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from services.gateway.alerts.channels import make_channels, split_urls
from shared.contracts.accounts import Cash
from shared.contracts.written import Bounded
from shared.settings import ServiceSettings

#: The characters of a secret. A request's longer one is cut there before it is compared.
LONGEST_SECRET = 200


class Settings(ServiceSettings):
    host: str = "127.0.0.1"
    port: Annotated[int, Bounded(ge=0, le=65535)] = 8000
    #: The demo account's key. If it is not set, the first start makes one and prints it once.
    api_key_id: str | None = Field(default=None, min_length=4, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    api_secret_key: SecretStr | None = Field(default=None, min_length=8)
    demo_cash: Cash = Decimal(100_000)
    #: Seconds that a submit waits for the decision of orders. After that it answers ``pending_new``.
    answer_timeout: Annotated[float, Bounded(gt=0, le=30)] = 2.0
    #: URL of RabbitMQ's management API with user and password. Without it the gateway has no queue figures.
    rabbitmq_management_url: SecretStr | None = None
    #: Seconds after which a price is stale before and after regular trading, and while its market is closed. During
    #: regular trading that is ``price_age``.
    price_age_extended: Annotated[float, Bounded(ge=1, le=7 * 86_400)] = 900.0
    price_age_closed: Annotated[float, Bounded(ge=1, le=365 * 86_400)] = 5 * 86_400.0
    #: The channels of alerts: apprise URLs, separated by whitespace or commas.
    alert_channels: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    #: Age in seconds of a queue's oldest message that raises an alert.
    alert_queue_age: Annotated[float, Bounded(gt=0, le=7 * 86_400)] = 300.0
    #: A headline about a held symbol raises an alert if its score, from -1 to 1, is at most this.
    alert_news_score: Annotated[float, Bounded(ge=-1, le=0)] = -0.6

    @field_validator("api_secret_key")
    @classmethod
    def _secret_that_requests_can_send(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) > LONGEST_SECRET:
            raise ValueError(f"must not have more than {LONGEST_SECRET} characters; choose a shorter secret")
        return secret

    #: Domain names that clients reach the gateway by, such as ``trade.example.com``, or ``*`` for any.
    #: Addresses, ``localhost`` and names without a dot are always allowed.
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    #: Addresses or networks of reverse proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()

    @field_validator("allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split_names(cls, given: object) -> object:
        return given.replace(",", " ").split() if isinstance(given, str) else given

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for each in given:
            ip_network(each)
        return given

    @field_validator("alert_channels", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return split_urls(given) if isinstance(given, str) else given

    @field_validator("alert_channels")
    @classmethod
    def _usable(cls, urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        make_channels(urls)
        return urls

    @field_validator("rabbitmq_management_url", mode="before")
    @classmethod
    def _none_if_empty(cls, given: object) -> object:
        return given or None
