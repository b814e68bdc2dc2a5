"""Settings of every service, read from the environment (prefix ``PAPERPROFIT_``)."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.written import Bounded

#: The demo's account. Its id is fixed, so that no service has to ask another for it.
DEMO_ACCOUNT_ID: UUID = uuid5(NAMESPACE_URL, "paperprofit:demo-account")


class ServiceSettings(BaseSettings):
    """Settings that all services share. Secrets are never printed."""

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_", extra="ignore")

    database_url: SecretStr = SecretStr("postgresql+psycopg://localhost/paperprofit")
    rabbitmq_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/")
    pool_size: Annotated[int, Bounded(ge=1, le=100)] = Field(default=19, description="database connections per process")
    threads: Annotated[int, Bounded(ge=1, le=64)] = Field(default=8, description="worker threads per process")
    background_threads: Annotated[int, Bounded(ge=1, le=64)] = Field(
        default=2, description="threads of the background pool per process"
    )
    processes: Annotated[int, Bounded(ge=1, le=32)] = Field(default=1, description="worker processes per replica")
    prefetch: Annotated[int, Bounded(ge=1, le=1000)] = Field(default=32, description="messages fetched ahead per queue")
    jobs_config: Path = Path("config/jobs.toml")
    demo: bool = Field(default=False, description="make the demo's account, strategy and instruments")
    log_format: Literal["json", "human"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    health_port: Annotated[int, Bounded(ge=0, le=65535)] = 8080
    health_host: str = "127.0.0.1"
    price_age: Annotated[float, Bounded(ge=1, le=86_400)] = Field(
        default=120, description="seconds, from which on the newest price of an open market is too old"
    )


class InvalidSettings(ValueError):
    """A variable of the environment is invalid. The message names it and does not show its value."""


Settings = TypeVar("Settings", bound=BaseSettings)


def load(settings: type[Settings]) -> Settings:
    """The settings from the environment. Raises InvalidSettings."""
    try:
        return settings()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = settings.model_config.get("env_prefix", "") + "_".join(str(part) for part in first["loc"])
        raise InvalidSettings(f"{name.upper()}: {first['msg'].removeprefix('Value error, ')}") from None
