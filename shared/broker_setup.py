"""Set up RabbitMQ for the services: exchanges, queues, bindings, limits, and a user for each with the fewest rights.

    python -m shared.broker_setup

Run it before the services start, and again after every upgrade. It changes nothing that is already as it should be.
"""

import sys
from typing import Annotated

import pika.exceptions
import structlog
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.bus.amqp.management import Management, ManagementRefused
from shared.bus.amqp.setup import limit, make_user, prepare, retire, wait_until_reachable
from shared.contracts.written import read_json
from shared.observability.logs import configure_logs
from shared.settings import InvalidSettings, ServiceSettings, load

log = structlog.get_logger(__name__)


class SetupSettings(BaseSettings):
    """``rabbitmq_url`` and ``rabbitmq_management_url`` hold the name and password of an administrator."""

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_", extra="ignore")

    rabbitmq_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/%2F")
    rabbitmq_management_url: SecretStr = SecretStr("http://guest:guest@127.0.0.1:15672")
    rabbitmq_vhost: str = "/"
    rabbitmq_passwords: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict, description="of each service's user, as JSON; without it no users are made"
    )

    @field_validator("rabbitmq_passwords", mode="before")
    @classmethod
    def _from_json(cls, given: object) -> object:
        return read_json(given.encode()) if isinstance(given, str) else given


def main() -> int:
    """Set RabbitMQ up, and return the exit code."""
    configure_logs(ServiceSettings())
    try:
        settings = load(SetupSettings)
        management = Management(settings.rabbitmq_management_url.get_secret_value())
        wait_until_reachable(management)
        prepare(management, settings.rabbitmq_vhost)
        for service, password in settings.rabbitmq_passwords.items():
            make_user(management, settings.rabbitmq_vhost, service, password.get_secret_value())
        retire(management, settings.rabbitmq_vhost, settings.rabbitmq_url.get_secret_value())
        limit(management, settings.rabbitmq_vhost)
    except (InvalidSettings, ManagementRefused, OSError, pika.exceptions.AMQPError) as error:
        log.critical("RabbitMQ could not be set up", error=str(error) or type(error).__name__)
        return 1
    log.info("RabbitMQ is set up")
    return 0


if __name__ == "__main__":
    sys.exit(main())
