"""Settings of orders, prefix ``PAPERPROFIT_ORDERS_``."""

from datetime import timedelta
from decimal import Decimal
from functools import cache
from typing import Annotated

from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.contracts.written import Bounded
from shared.exchange.market_rules import MarketRules
from shared.settings import load


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_ORDERS_", extra="ignore")

    #: Seconds; twice the interval of update_market_data.
    max_quote_age: Annotated[float, Bounded(gt=0, le=86_400)] = 120
    #: Basis points of the whole spread, where a provider has no quote.
    assumed_spread_bps: Annotated[Decimal, Bounded(ge=0, le=10_000, decimal_places=9)] = Decimal(2)

    @property
    def rules(self) -> MarketRules:
        return MarketRules(
            max_quote_age=timedelta(seconds=self.max_quote_age), half_spread=self.assumed_spread_bps / 20_000
        )


@cache
def current() -> Settings:
    return load(Settings)
