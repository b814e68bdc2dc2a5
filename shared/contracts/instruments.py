"""Instruments: their terms with the rules that these obey, and the commands that add and change them."""

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from shared.contracts.base import Command, Count, Event, Symbol
from shared.contracts.currencies import CURRENCIES
from shared.contracts.markets import MARKETS
from shared.contracts.written import Bounded, Printable

#: Instruments in one command. A list of more comes in several.
MOST_INSTRUMENTS = 2_000
#: The markets of US equities, whose prices SEC Rule 612 regulates. The demo market has such equities too.
US_MARKETS = frozenset({"XNYS", "XNAS", "DEMO"})
#: Crypto assets in which others are quoted, beside the currencies of ISO 4217.
CRYPTO_QUOTES = frozenset({"USDT", "USDC", "BTC", "ETH"})
PAIR = re.compile(r"[A-Z]{3}/[A-Z]{3}")
CRYPTO = re.compile(r"[A-Z0-9]{2,10}/[A-Z]{3,4}")
QUOTE = re.compile(r"[A-Z]{3,5}")
NINTH_DECIMAL = Decimal("0.000000001")
#: The currency of a market's shares, where it is not the dollar, and the usual tick of them.
_LOCAL = {
    "XTSE": ("CAD", "0.01"),
    "XLON": ("GBP", "0.0001"),
    "XETR": ("EUR", "0.01"),
    "XPAR": ("EUR", "0.01"),
    "XAMS": ("EUR", "0.01"),
    "XMIL": ("EUR", "0.01"),
    "XMAD": ("EUR", "0.01"),
    "XSWX": ("CHF", "0.01"),
    "XSTO": ("SEK", "0.01"),
    "XTKS": ("JPY", "0.1"),
    "XHKG": ("HKD", "0.001"),
    "XSHG": ("CNY", "0.01"),
    "XASX": ("AUD", "0.001"),
}
#: Which currency of a pair comes first, as banks quote them. Others follow in the order of the alphabet.
_FIRST = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")


class AssetClass(StrEnum):
    """The class of an instrument. Alpaca has the first two. A pair of currencies is ``currency_pair``."""

    US_EQUITY = "us_equity"
    CRYPTO = "crypto"
    CURRENCY_PAIR = "currency_pair"
    #: Equities of exchanges outside the United States.
    EQUITY = "equity"


class InstrumentStatus(StrEnum):
    ACTIVE = "active"
    #: It takes no orders but those that close a position. Its prices go on while somebody holds it.
    RETIRED = "retired"


class TickRule(StrEnum):
    #: SEC Rule 612: cents from 1.00 on, hundredths of them below.
    SEC_612 = "sec_612"
    #: The tick size at every price.
    FIXED = "fixed"


def _known_market(code: str) -> str:
    if code not in MARKETS:
        raise ValueError(f"unknown market, use one of {', '.join(MARKETS)}")
    return code


Market = Annotated[
    Printable,
    Field(max_length=20),
    AfterValidator(_known_market),
    WithJsonSchema({"type": "string", "enum": list(MARKETS)}),
]
InstrumentName = Annotated[Printable, Field(min_length=1, max_length=200)]
ExchangeName = Annotated[Printable, Field(min_length=1, max_length=40)]
QuotedIn = Annotated[str, Field(min_length=3, max_length=5, pattern=r"^[A-Z]+$")]
Step = Annotated[Decimal, Bounded(gt=0, le=1_000_000, decimal_places=9)]


class InstrumentTerms(BaseModel):
    """An instrument. Missing terms follow from the symbol, the market and the asset class.

    Prices lie on multiples of ``tick_size``, or as ``tick_rule`` says. Quantities are multiples of ``lot_size``, unless
    the instrument is ``fractionable`` to nine decimals. ``currency`` is an ISO 4217 code, or what a crypto asset is
    quoted in. Raises ValueError, whose text begins with the field, where the terms do not fit together.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    symbol: Symbol
    name: InstrumentName
    market: Market
    exchange: ExchangeName
    currency: QuotedIn
    asset_class: AssetClass
    tick_size: Step
    tick_rule: TickRule
    lot_size: Step
    fractionable: bool
    shortable: bool

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, given: Any) -> Any:
        """Complete the terms. A wrong type is left to its field."""
        if not isinstance(given, dict) or not isinstance(given.get("symbol"), str):
            return given
        _, slash, quote = given["symbol"].partition("/")
        if slash and given.get("currency") is None and not QUOTE.fullmatch(quote.upper()):
            raise ValueError(f"symbol: {given['symbol'][:16]!r} is no pair such as BTC/USD. Shares have a dot: BRK.B")
        return {**defaults_of(given), **{name: value for name, value in given.items() if value is not None}}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_terms(self.symbol, self.asset_class, self.market, self.currency)
        return self


class GivenInstrument(BaseModel):
    """An instrument of a list. What is None follows from the provider, or else from the other fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    symbol: Symbol
    name: InstrumentName | None = None
    market: Market | None = None
    exchange: ExchangeName | None = None
    currency: QuotedIn | None = None
    asset_class: AssetClass | None = None
    tick_size: Step | None = None
    tick_rule: TickRule | None = None
    lot_size: Step | None = None
    fractionable: bool | None = None
    shortable: bool | None = None

    def terms(self, provided: Mapping[str, Any] | None = None) -> InstrumentTerms:
        """The complete terms, with the ``provided`` ones where the list has none. Raises ValidationError."""
        return InstrumentTerms.model_validate({**(provided or {}), **self.model_dump(exclude_none=True)})


def defaults_of(given: dict[str, Any]) -> dict[str, Any]:
    """The usual terms of an instrument of which at least the symbol is known."""
    words = {name: value for name, value in given.items() if isinstance(value, str)}
    symbol = words["symbol"].upper() if words["symbol"].isascii() else words["symbol"]
    market = words.get("market") or (_market_of_pair(symbol) if "/" in symbol else "XNYS")
    asset_class = words.get("asset_class") or _class_of(symbol, market)
    currency, tick = _LOCAL.get(market, ("USD", "0.01"))
    rule = TickRule.FIXED
    if asset_class in {AssetClass.CRYPTO, AssetClass.CURRENCY_PAIR}:
        currency = words.get("currency") or symbol.partition("/")[2] or "USD"
        tick = "0.000000001" if asset_class == AssetClass.CRYPTO else "0.001" if currency == "JPY" else "0.00001"
    elif asset_class == AssetClass.US_EQUITY and given.get("tick_size") is None:
        rule = TickRule.SEC_612
    fractionable = asset_class != AssetClass.EQUITY
    return {
        "name": symbol,
        "market": market,
        "exchange": market,
        "currency": currency,
        "asset_class": asset_class,
        "tick_size": Decimal(tick),
        "tick_rule": rule,
        "lot_size": NINTH_DECIMAL if asset_class == AssetClass.CRYPTO else Decimal(1),
        "fractionable": fractionable,
        "shortable": asset_class != AssetClass.CRYPTO,
    }


def _market_of_pair(symbol: str) -> str:
    base, _, quote = symbol.partition("/")
    return "24/5" if {base, quote} <= CURRENCIES else "24/7"


def _class_of(symbol: str, market: str) -> AssetClass:
    base, slash, quote = symbol.partition("/")
    if slash:
        return AssetClass.CURRENCY_PAIR if {base, quote} <= CURRENCIES else AssetClass.CRYPTO
    return AssetClass.US_EQUITY if market in US_MARKETS else AssetClass.EQUITY


def check_terms(symbol: str, asset_class: AssetClass, market: str, currency: str) -> None:
    """Raise ValueError, whose text begins with the field, where these do not fit together."""
    base, _, quote = symbol.partition("/")
    if asset_class is AssetClass.CRYPTO:
        if not CRYPTO.fullmatch(symbol) or base in CURRENCIES:
            raise ValueError("symbol: a crypto asset is written with what it is quoted in, such as BTC/USD")
        if quote not in CURRENCIES | CRYPTO_QUOTES:
            raise ValueError(f"symbol: {quote} is neither an ISO 4217 currency code nor one of {_quotes()}")
    elif asset_class is AssetClass.CURRENCY_PAIR:
        if not PAIR.fullmatch(symbol) or base == quote or not {base, quote} <= CURRENCIES:
            raise ValueError("symbol: a currency pair is two ISO 4217 currency codes, such as EUR/USD")
    else:
        _check_shares(symbol, asset_class, market)
    if quote and currency != quote:
        raise ValueError(f"currency: {symbol} is quoted in {quote}")
    if not quote and currency not in CURRENCIES:
        raise ValueError("currency: is not an ISO 4217 currency code")


def _check_shares(symbol: str, asset_class: AssetClass, market: str) -> None:
    if "/" in symbol:
        raise ValueError(f"asset_class: {symbol} is a pair, and cannot be of the class {asset_class}")
    if asset_class is AssetClass.US_EQUITY and market not in US_MARKETS:
        raise ValueError(f"asset_class: shares on {market} are of the class equity")
    if asset_class is AssetClass.EQUITY and market in US_MARKETS - {"DEMO"}:
        raise ValueError(f"asset_class: shares on {market} are of the class us_equity")


def _quotes() -> str:
    return ", ".join(sorted(CRYPTO_QUOTES))


def pair_of(one: str, other: str) -> str:
    """The symbol of the pair of two currencies, with the base that banks quote it by: EUR/USD, USD/JPY."""
    base, quote = sorted((one, other), key=lambda code: (_FIRST.index(code) if code in _FIRST else len(_FIRST), code))
    return f"{base}/{quote}"


class InstrumentChanges(BaseModel):
    """The fields of an instrument that may change. None leaves a field as it is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: InstrumentName | None = None
    market: Market | None = None
    exchange: ExchangeName | None = None
    tick_size: Step | None = None
    tick_rule: TickRule | None = None
    lot_size: Step | None = None
    fractionable: bool | None = None
    shortable: bool | None = None
    tradable: bool | None = None
    status: InstrumentStatus | None = None

    def changed(self) -> dict[str, Any]:
        """The fields that are given, with their values."""
        return self.model_dump(exclude_none=True)


class AddInstruments(Command):
    """Add instruments, all or none of them. An existing one with the same terms stays as it is.

    ``pairs_with`` are the currencies of accounts. For each of them, and each currency of the instruments, the pair is
    added where there is none, so that such an account can trade them. Without instruments, those pairs are added for
    the currencies of all instruments that there are.
    """

    service: ClassVar[str] = "marketdata"

    request_id: UUID
    instruments: tuple[InstrumentTerms, ...] = Field(max_length=MOST_INSTRUMENTS)
    pairs_with: tuple[str, ...] = ()


class ChangeInstrument(Command):
    """Change an instrument. Its status ``retired`` retires it."""

    service: ClassVar[str] = "marketdata"
    in_order: ClassVar[bool] = True

    request_id: UUID
    symbol: Symbol
    changes: InstrumentChanges

    @property
    def key(self) -> str:
        return f"instrument/{self.symbol}"


class InstrumentsChanged(Event):
    """The instruments of the request are as it says. ``added`` are those that are new, pairs among them."""

    service: ClassVar[str] = "marketdata"

    request_id: UUID
    symbols: tuple[Symbol, ...]
    added: tuple[Symbol, ...] = ()
    unchanged: Count = 0


class InstrumentsRefused(Event):
    """Nothing was changed. ``place`` is that of the instrument in the request, from 0."""

    service: ClassVar[str] = "marketdata"

    request_id: UUID
    symbol: Symbol
    place: Count
    field: str
    reason: str
    message: str
