"""Settings of marketdata, prefix ``PAPERPROFIT_``."""

from functools import cache
from typing import Annotated, Literal

from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.written import Bounded
from shared.settings import load


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_", extra="ignore")

    provider: Literal["replay", "simulated"] = "replay"
    #: The same seed gives the same simulated prices.
    seed: Annotated[int, Bounded(ge=-(2**63), le=2**63 - 1)] = 1
    #: Bars a second that the feed pushes; 0 pushes none, so that only update_market_data brings prices.
    replay_speed: Annotated[float, Bounded(ge=0, le=1000)] = 1.0
    #: Days after which maintain_market_data removes bars, but for daily and replayed ones.
    keep_bars_days: Annotated[int, Bounded(ge=31, le=36_500)] = 730
    #: Days after which it removes the demo's made-up bars: those of the random walk, and the minutes of the replay.
    keep_demo_bars_days: Annotated[int, Bounded(ge=2, le=36_500)] = 3
    #: Values of indicators are kept for this many intervals: of bars of a minute for a week, of a day for 27 years.
    keep_indicator_bars: Annotated[int, Bounded(ge=100, le=100_000)] = 10_000


@cache
def current() -> Settings:
    return load(Settings)
