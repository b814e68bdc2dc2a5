"""Settings of marketdata, prefix ``PAPERPROFIT_``."""

from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.written import Bounded
from shared.settings import load


def _none_if_empty(value: object) -> object:
    """Compose hands on a variable that is not set as an empty one."""
    return None if value == "" else value


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_", extra="ignore")

    provider: Literal["replay", "simulated"] = "replay"
    #: The same seed gives the same simulated prices.
    seed: Annotated[int, Bounded(ge=-(2**63), le=2**63 - 1)] = 1
    #: Bars a second that the feed pushes; 0 pushes none, so that only update_market_data brings prices.
    replay_speed: Annotated[float, Bounded(ge=0, le=1000)] = 1.0
    #: The file to replay, CSV or Parquet, in place of the recorded prices that come with the product.
    replay_file: Annotated[Path | None, BeforeValidator(_none_if_empty)] = None
    #: The first and the last day that the replay has.
    replay_from: Annotated[date | None, BeforeValidator(_none_if_empty)] = None
    replay_to: Annotated[date | None, BeforeValidator(_none_if_empty)] = None
    #: Days after which maintain_market_data removes bars, but for daily and replayed ones.
    keep_bars_days: Annotated[int, Bounded(ge=31, le=36_500)] = 730
    #: Days after which it removes the demo's made-up bars: those of the random walk, and the minutes of the replay.
    keep_demo_bars_days: Annotated[int, Bounded(ge=2, le=36_500)] = 3

    @field_validator("replay_file")
    @classmethod
    def _check_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("is not a file; name one of bars, CSV or Parquet")
        return path

    @field_validator("replay_to")
    @classmethod
    def _check_days(cls, last: date | None, given: ValidationInfo) -> date | None:
        first = given.data.get("replay_from")
        if first is not None and last is not None and last < first:
            raise ValueError("must not be before PAPERPROFIT_REPLAY_FROM")
        return last


@cache
def current() -> Settings:
    return load(Settings)
