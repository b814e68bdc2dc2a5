"""Settings of orders, prefix ``PAPERPROFIT_ORDERS_``."""

from datetime import timedelta
from decimal import Decimal
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.exchange.market_rules import MarketRules
from shared.settings import load


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_ORDERS_", extra="ignore")

    #: Seconds; twice the interval of update_market_data.
    max_quote_age: float = Field(default=120, gt=0)
    #: Basis points of the whole spread, where a provider has no quote.
    assumed_spread_bps: Decimal = Field(default=Decimal(2), ge=0)

    @property
    def rules(self) -> MarketRules:
        return MarketRules(
            max_quote_age=timedelta(seconds=self.max_quote_age), half_spread=self.assumed_spread_bps / 20_000
        )


@cache
def current() -> Settings:
    return load(Settings)
