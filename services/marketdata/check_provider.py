"""Show what a provider answers now, field by field, beside what would be stored.

``make check-provider PROVIDER=yahoo`` runs it. It needs the internet and no database, and stores nothing.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from itertools import zip_longest

from services.marketdata.domain.price_checks import Known, refuse
from services.marketdata.domain.quote import Quote
from services.marketdata.providers.provider import Listed, Part, Provider, ProviderError
from services.marketdata.providers.registry import NETWORK, STATEFUL, UnknownProvider, network_provider
from services.marketdata.settings import current
from shared.clock import utc_now
from shared.contracts.currencies import CURRENCIES
from shared.contracts.instruments import AssetClass
from shared.contracts.markets import MARKETS
from shared.settings import InvalidSettings

SYMBOLS = ("SPY", "BRK.B", "BTC/USD", "EUR/USD")
#: The currency of each market's shares, where no other is given.
MARKET_CURRENCIES = {
    "XTSE": "CAD",
    "XLON": "GBP",
    **dict.fromkeys(("XETR", "XPAR", "XAMS", "XMIL", "XMAD"), "EUR"),
    "XSWX": "CHF",
    "XSTO": "SEK",
    "XTKS": "JPY",
    "XHKG": "HKD",
    "XSHG": "CNY",
    "XASX": "AUD",
}
_UNITED_STATES = ("XNYS", "XNAS")
_SYMBOL = re.compile(r"(?P<symbol>[A-Z0-9][A-Z0-9./-]{0,15})(@(?P<market>[A-Z0-9/]+))?(:(?P<currency>[A-Z]{3}))?")
_WIDTH = 58
#: The bars and actions that are asked for reach back this far.
_DAYS_OF_BARS, _DAYS_OF_ACTIONS = 7, 365


class WrongSymbol(ValueError):
    """The text names no instrument."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what the provider answers. Returns 1 if it did not answer as it should, and 2 if it cannot be asked."""
    parser = argparse.ArgumentParser(
        prog="make check-provider",
        description="Print what a price provider answers now, field by field, beside what would be stored.",
        epilog="A symbol of another market is written VOD@XLON, and one in another currency HSBA@XLON:USD. The keys "
        "of alphavantage and alpaca come from PAPERPROFIT_ALPHAVANTAGE_KEY, and PAPERPROFIT_ALPACA_KEY and _SECRET.",
    )
    parser.add_argument("--provider", required=True, help=f"one of {', '.join(NETWORK)}, or another package's")
    parser.add_argument("--symbols", nargs="*", default=(), help=f"by default {' '.join(SYMBOLS)}")
    given = parser.parse_args(arguments)
    if given.provider in (*STATEFUL, "push"):
        return _fail(f"{given.provider} asks nobody over the network; choose one of {', '.join(NETWORK)}")
    try:
        provider = network_provider(given.provider)
        instruments = [listed(symbol) for symbol in given.symbols or SYMBOLS]
    except (UnknownProvider, InvalidSettings, WrongSymbol) as error:
        return _fail(str(error))
    try:
        answered = [_check(provider, instrument) for instrument in instruments]
    finally:
        provider.close()
    return 0 if all(answered) else 1


def listed(text: str) -> Listed:
    """The instrument of a text such as SPY, BTC/USD, VOD@XLON or HSBA@XLON:USD. Raises WrongSymbol."""
    match = _SYMBOL.fullmatch(text)
    if match is None:
        raise WrongSymbol(f"{text!r} is not a symbol: write it as SPY, BTC/USD, VOD@XLON or HSBA@XLON:USD")
    symbol, market, currency = match["symbol"], match["market"], match["currency"]
    base, slash, quoted = symbol.partition("/")
    if slash:
        asset_class = AssetClass.CURRENCY_PAIR if base in CURRENCIES else AssetClass.CRYPTO
        return Listed(symbol, market or "24/7", asset_class, currency or quoted)
    if market is not None and market not in MARKETS:
        raise WrongSymbol(f"{text}: there is no market {market}; choose one of {', '.join(MARKETS)}")
    market = market or _UNITED_STATES[0]
    asset_class = AssetClass.US_EQUITY if market in _UNITED_STATES else AssetClass.EQUITY
    return Listed(symbol, market, asset_class, currency or MARKET_CURRENCIES.get(market, "USD"))


def _check(provider: Provider, instrument: Listed) -> bool:
    """Print all parts of the provider for one instrument. False if its quote failed."""
    print(f"\n{instrument.symbol} ({instrument.asset_class}, {instrument.market}, {instrument.currency})")  # noqa: T201
    if instrument.asset_class not in provider.traits.asset_classes:
        print(f"  {provider.traits.name} has no {instrument.asset_class}")  # noqa: T201
        return True
    good = _part(provider, Part.QUOTES, lambda: _quote(provider, instrument))
    now = utc_now()
    begin, first = now - timedelta(days=_DAYS_OF_BARS), now.date() - timedelta(days=_DAYS_OF_ACTIONS)
    _part(
        provider, Part.BARS, lambda: _rows(bar for page in provider.bars(instrument, "1d", begin, now) for bar in page)
    )
    _part(provider, Part.ACTIONS, lambda: _rows(provider.actions(instrument, first, now.date())))
    _part(provider, Part.SEARCH, lambda: _rows(provider.search(instrument.symbol, 3)))
    _part(provider, Part.NEWS, lambda: _rows(provider.news([instrument], now - timedelta(days=_DAYS_OF_BARS))[:3]))
    return good


def _part(provider: Provider, part: Part, show: Callable[[], Iterator[str]]) -> bool:
    """Print one part with the time that it took, or the error. False for an error."""
    if part not in provider.traits.parts:
        print(f"  {part}: {provider.traits.name} has none")  # noqa: T201
        return True
    began = time.monotonic()
    try:
        lines = list(show())
    except ProviderError as error:
        print(f"  {part}: {error}")  # noqa: T201
        return False
    print(f"  {part}: answered in {time.monotonic() - began:.2f} s")  # noqa: T201
    for line in lines or ["nothing"]:
        print(f"    {line}")  # noqa: T201
    return True


def _quote(provider: Provider, instrument: Listed) -> Iterator[str]:
    """The fields of the answer on the left, those of the stored price on the right, and whether it would be stored."""
    provider.answers = {}
    now = utc_now()
    quotes = provider.quotes([instrument], now)
    answer = provider.answers.get(instrument.symbol, {})
    stored = _fields(quotes[0]) if quotes else {}
    yield f"{'the answer':{_WIDTH}}  what would be stored"
    for left, right in zip_longest(_lines(answer), _lines(stored), fillvalue=""):
        yield f"{left[:_WIDTH]:{_WIDTH}}  {right}".rstrip()
    if not quotes:
        yield f"not stored: {provider.traits.name} does not know the symbol, or its quote has no price"
        return
    refusal = refuse(quotes[0], Known(instrument.currency), now, most_jump=current().max_price_jump)
    yield (
        f"refused: {refusal.message}" if refusal else f"stored: {(now - quotes[0].quoted_at).total_seconds():.0f} s old"
    )


def _fields(quote: Quote) -> Mapping[str, object]:
    return {field.name: getattr(quote, field.name) for field in fields(quote) if field.name != "official"}


def _lines(values: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Each value with its name. Those of a value's own are named with it."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} = {value if value is not None else '(missing)'}"


def _rows(values: Iterator[object] | Sequence[object]) -> Iterator[str]:
    for value in values:
        names = getattr(type(value), "__dataclass_fields__", {})
        yield ", ".join(f"{name}={getattr(value, name)}" for name in names if getattr(value, name) is not None)


def _fail(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
