"""Settings of the network providers: keys, limits of the keys, and addresses in place of the providers' own."""

from typing import Annotated, Literal

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.written import Bounded


class YahooSettings(BaseSettings):
    """Addresses in place of Yahoo's, such as a proxy's."""

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_YAHOO_", extra="ignore")

    url: str | None = None
    stream_url: str = "wss://streamer.finance.yahoo.com/?version=2"


class AlphaVantageSettings(BaseSettings):
    """The key, its limits, and what it may see of US shares: ``entitlement`` is none, delayed or realtime."""

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_ALPHAVANTAGE_", extra="ignore")

    key: SecretStr = SecretStr("")
    url: str = "https://www.alphavantage.co"
    requests_per_day: Annotated[int, Bounded(ge=1, le=10_000_000)] = 25
    requests_per_minute: Annotated[int, Bounded(ge=1, le=10_000)] = 5
    entitlement: Literal["none", "delayed", "realtime"] = "none"


class AlpacaSettings(BaseSettings):
    """The key and its plan. ``paper`` tells that it is a key of a paper account. The URLs are for a proxy."""

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_ALPACA_", extra="ignore")

    key: SecretStr = SecretStr("")
    secret: SecretStr = SecretStr("")
    paper: bool = True
    feed: Literal["iex", "sip", "delayed_sip"] = "iex"
    requests_per_minute: Annotated[int, Bounded(ge=1, le=100_000)] = 200
    url: str | None = None
    trading_url: str | None = None
    stream_url: str | None = None
    crypto_stream_url: str | None = None
