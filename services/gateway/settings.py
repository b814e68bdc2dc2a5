"""Settings of the gateway. Their environment variables have the prefix ``PAPERPROFIT_``."""

from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from services.gateway.alerts.channels import make_channels, split_urls
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    #: The demo account's key. If it is not set, the first start makes one and prints it once.
    api_key_id: str | None = Field(default=None, min_length=4, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    api_secret_key: SecretStr | None = Field(default=None, min_length=8)
    demo_cash: Decimal = Field(default=Decimal(100_000), ge=0)
    #: Seconds that a submit waits for the decision of orders. After that it answers ``pending_new``.
    answer_timeout: float = Field(default=2.0, gt=0, le=30)
    #: URL of RabbitMQ's management API with user and password. Without it the gateway has no queue figures.
    rabbitmq_management_url: SecretStr | None = None
    #: The channels of alerts: apprise URLs, separated by whitespace or commas.
    alert_channels: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    #: Age in seconds of a queue's oldest message that raises an alert.
    alert_queue_age: float = Field(default=300.0, gt=0)

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
