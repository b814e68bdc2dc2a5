"""Settings of marketdata, prefix ``PAPERPROFIT_``."""

from functools import cache
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.settings import load


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_", extra="ignore")

    provider: Literal["replay", "simulated"] = "replay"
    #: The same seed gives the same simulated prices.
    seed: int = 1
    #: Bars a second that the feed pushes; 0 pushes none, so that only update_market_data brings prices.
    replay_speed: float = Field(default=1.0, ge=0, le=1000)
    #: Days after which maintain_market_data removes bars, but for daily and replayed ones.
    keep_bars_days: int = Field(default=730, ge=31)


@cache
def current() -> Settings:
    return load(Settings)
