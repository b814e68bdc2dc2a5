"""Settings of the gateway, prefix ``PAPERPROFIT_``."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from services.gateway.alerts.channels import make_targets, split_targets
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    #: The demo account's key; one is made and printed once where none is given.
    api_key_id: str | None = Field(default=None, min_length=4, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    api_secret_key: SecretStr | None = Field(default=None, min_length=8)
    demo_cash: Decimal = Field(default=Decimal(100_000), ge=0)
    #: Seconds that a submit waits for the decision of orders before it answers pending_new.
    answer_timeout: float = Field(default=2.0, gt=0, le=30)
    #: RabbitMQ's management API with user and password; without it nothing is known of the queues.
    rabbitmq_management_url: SecretStr | None = None
    #: Where administrators are told of alerts: URLs of apprise, separated by blanks or commas.
    alert_targets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    #: Seconds that the oldest message of a queue may wait before administrators are told.
    alert_queue_age: float = Field(default=300.0, gt=0)

    @field_validator("alert_targets", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return split_targets(given) if isinstance(given, str) else given

    @field_validator("alert_targets")
    @classmethod
    def _usable(cls, targets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        make_targets(targets)
        return targets

    @field_validator("rabbitmq_management_url", mode="before")
    @classmethod
    def _none_if_empty(cls, given: object) -> object:
        return given or None
