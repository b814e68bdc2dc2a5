"""How often prices are asked for in each phase of a market, prefix ``PAPERPROFIT_POLL_``."""

from datetime import timedelta
from functools import cache
from typing import Annotated

from pydantic import AfterValidator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.jobs.schedule.interval import parse_interval
from shared.settings import load


def _checked(text: str) -> str:
    parse_interval(text)  # InvalidInterval is a ValueError, which pydantic reports
    return text


Interval = Annotated[str, AfterValidator(_checked)]


class PollSettings(BaseSettings):
    """Intervals such as 1m or 2h, by the phases of a market. The job update_market_data is the shortest of them."""

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_POLL_", extra="ignore")

    regular: Interval = "1m"
    pre_market: Interval = "5m"
    after_hours: Interval = "5m"
    closed: Interval = "30m"
    weekend: Interval = "2h"

    def interval(self, phase: str) -> timedelta:
        return parse_interval(getattr(self, phase))


@cache
def current() -> PollSettings:
    return load(PollSettings)
