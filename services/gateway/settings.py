"""Settings of the gateway, prefix ``PAPERPROFIT_``."""

from decimal import Decimal

from pydantic import Field, SecretStr

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
