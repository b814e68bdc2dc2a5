"""Settings of marketdata, prefix ``PAPERPROFIT_``."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.marketdata.news.text import canonical_url
from services.marketdata.providers import push
from services.marketdata.providers.registry import STATEFUL, UnknownProvider, check_name
from shared.contracts.instruments import AssetClass
from shared.contracts.written import Bounded
from shared.jobs.schedule.interval import parse_interval
from shared.settings import load

INSTRUMENTS_FILE = Path(__file__).parents[2] / "config" / "instruments.toml"
Names = Annotated[tuple[str, ...], NoDecode]


def _none_if_empty(value: object) -> object:
    """Compose hands on a variable that is not set as an empty one."""
    return None if value == "" else value


def _checked(name: str, *, network: bool = False) -> str:
    """The name of a provider. An error does not repeat it: it may be a key in the wrong variable."""
    try:
        return check_name(name, network=network)
    except UnknownProvider as error:
        raise ValueError(f"is not a price provider; {error.advice}") from None


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_", extra="ignore")

    #: replay, simulated, push, yahoo, alphavantage, alpaca, or the name of an entry point.
    provider: str = "replay"
    #: The providers of an asset class, in the order in which they are asked. A symbol that one does not have, or that
    #: fails there, is asked of the next. A class without such an order has ``provider``.
    providers_us_equity: Names = ()
    providers_crypto: Names = ()
    providers_currency_pair: Names = ()
    providers_equity: Names = ()
    #: Sets of config/instruments.toml that are added at the start, or ``none``. By default that is ``demo``, but none
    #: where a network provider has the prices.
    instruments: Annotated[tuple[str, ...] | None, NoDecode] = None
    instruments_file: Path = INSTRUMENTS_FILE
    #: The same seed gives the same simulated prices.
    seed: Annotated[int, Bounded(ge=-(2**63), le=2**63 - 1)] = 1
    #: Bars a second that the feed pushes; 0 pushes none, so that only update_market_data brings prices.
    replay_speed: Annotated[float, Bounded(ge=0, le=1000)] = 1.0
    #: Take quotes from the providers' websockets, beside the polls.
    stream: bool = True
    #: The file to replay, CSV or Parquet, in place of the recorded prices that come with the product.
    replay_file: Annotated[Path | None, BeforeValidator(_none_if_empty)] = None
    #: The first and the last day that the replay has.
    replay_from: Annotated[date | None, BeforeValidator(_none_if_empty)] = None
    replay_to: Annotated[date | None, BeforeValidator(_none_if_empty)] = None
    #: The largest change of a last price in which nothing was traded, as a share of the price before: 0.5 is 50 %.
    max_price_jump: Annotated[Decimal, Bounded(gt=0, le=1000)] = Decimal("0.5")
    #: Days after which maintain_market_data removes bars, but for daily and replayed ones.
    keep_bars_days: Annotated[int, Bounded(ge=31, le=36_500)] = 730
    #: Days after which it removes the demo's made-up bars: those of the random walk, and the minutes of the replay.
    keep_demo_bars_days: Annotated[int, Bounded(ge=2, le=36_500)] = 2
    #: Values of indicators are kept for this many intervals: of bars of a minute for a week, of a day for 27 years.
    keep_indicator_bars: Annotated[int, Bounded(ge=100, le=100_000)] = 10_000
    #: Addresses of RSS and Atom feeds, separated by whitespace. ``{symbol}`` in one stands for each followed symbol.
    news_feeds: Names = ()
    #: Days that news is kept.
    keep_news_days: Annotated[int, Bounded(ge=2, le=3650)] = 30

    @field_validator("news_feeds", mode="before")
    @classmethod
    def _split_feeds(cls, given: object) -> object:
        return tuple(given.split()) if isinstance(given, str) else given

    @field_validator("news_feeds")
    @classmethod
    def _web_addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for number, address in enumerate(given, start=1):
            rest = address.replace("{symbol}", "")
            if canonical_url(rest) is None or "{" in rest or "}" in rest:
                raise ValueError(
                    f"address {number} must begin with http:// or https://, and have no braces but {{symbol}}"
                )
        return given

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

    @field_validator("provider")
    @classmethod
    def _known(cls, name: str) -> str:
        return _checked(name)

    @field_validator(*(f"providers_{each}" for each in AssetClass), mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return tuple(given.replace(",", " ").split()) if isinstance(given, str) else given

    @field_validator("instruments", mode="before")
    @classmethod
    def _split_sets(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        names = tuple(given.replace(",", " ").split())
        return () if names == ("none",) else names or None

    @field_validator(*(f"providers_{each}" for each in AssetClass))
    @classmethod
    def _known_order(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_checked(name, network=True) for name in names)

    def own_providers(self) -> frozenset[AssetClass]:
        """The asset classes that have providers of their own."""
        return frozenset(each for each in AssetClass if self._order(each))

    def network_order(self, asset_class: AssetClass) -> tuple[str, ...]:
        """The names of the network providers that are asked for instruments of the class, in their order."""
        names = self._order(asset_class) or (() if self.provider in STATEFUL else (self.provider,))
        return tuple(name for name in names if name != push.NAME)

    def instrument_sets(self) -> tuple[str, ...]:
        """The sets of instruments that are added at the start."""
        if self.instruments is not None:
            return self.instruments
        return ("demo",) if self.provider in {*STATEFUL, push.NAME} else ()

    def _order(self, asset_class: AssetClass) -> tuple[str, ...]:
        order: tuple[str, ...] = getattr(self, f"providers_{asset_class}")
        return order


@cache
def current() -> Settings:
    return load(Settings)


def _check_interval(text: str) -> str:
    parse_interval(text)  # InvalidInterval is a ValueError, which pydantic reports
    return text


Interval = Annotated[str, AfterValidator(_check_interval)]


class PollSettings(BaseSettings):
    """The intervals of a market's polls in each phase, such as 1m or 2h, prefix ``PAPERPROFIT_POLL_``.

    The schedule of the job update_market_data is the shortest of them.
    """

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_POLL_", extra="ignore")

    regular: Interval = "1m"
    pre_market: Interval = "5m"
    after_hours: Interval = "5m"
    closed: Interval = "30m"
    weekend: Interval = "2h"

    def intervals(self) -> Mapping[str, timedelta]:
        """Phase → interval."""
        return {phase: parse_interval(getattr(self, phase)) for phase in type(self).model_fields}


@cache
def polling() -> PollSettings:
    return load(PollSettings)
