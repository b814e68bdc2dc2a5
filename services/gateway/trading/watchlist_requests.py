"""Requests of ``/v2/watchlists``. The indicators of a watchlist are an addition to Alpaca's API."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from services.gateway.http.schemas import Query
from services.gateway.trading.requests import AskedAsset, TradingBody
from shared.contracts.indicators import GivenParameters, IndicatorName, Interval, complete, written
from shared.contracts.written import Printable

#: Watchlists of one account.
MOST_WATCHLISTS = 200
#: Symbols on one watchlist.
MOST_SYMBOLS = 500
#: Indicators of one watchlist.
MOST_INDICATORS = 20
#: Indicators of an account, each counted for every symbol of its watchlist.
MOST_COMPUTED = 1_000

WatchlistName = Annotated[Printable, Field(min_length=1, max_length=64)]
Symbols = Annotated[tuple[AskedAsset, ...], Field(max_length=MOST_SYMBOLS)]


class WatchedIndicator(GivenParameters):
    """An indicator that is computed for each symbol of the watchlist. Parameters that are missing have their defaults.

    ``interval`` is that of its bars, by default days.
    """

    name: IndicatorName
    interval: Interval = "1d"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        complete(self.name, self.parameters)
        return self

    @property
    def parameters(self) -> GivenParameters:
        return GivenParameters(**self.model_dump(include=set(GivenParameters.model_fields)))

    def stored(self) -> dict[str, Any]:
        """Return the indicator with all its parameters, as it is stored and read by marketdata."""
        parameters = written(complete(self.name, self.parameters))
        return {"name": self.name.value, "interval": self.interval, "parameters": parameters}


Indicators = Annotated[tuple[WatchedIndicator, ...], Field(max_length=MOST_INDICATORS)]


class NewWatchlist(TradingBody):
    """``POST /v2/watchlists``. A symbol may also be the id of an asset."""

    name: WatchlistName
    symbols: Symbols = ()
    indicators: Indicators = ()


class WatchlistChanges(TradingBody):
    """``PUT /v2/watchlists/{watchlist_id}``: the new name, symbols or indicators. A field that is missing stays."""

    name: WatchlistName | None = None
    symbols: Symbols | None = None
    indicators: Indicators | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.name is None and self.symbols is None and self.indicators is None:
            raise ValueError(f"body: send at least one of {', '.join(type(self).model_fields)}")
        return self


class AddedSymbol(TradingBody):
    """``POST /v2/watchlists/{watchlist_id}``. The symbol may also be the id of an asset."""

    symbol: AskedAsset


class NameQuery(Query):
    """The name of one of the account's watchlists."""

    name: WatchlistName
