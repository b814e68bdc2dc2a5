"""Yahoo's names for instruments: BRK-B for BRK.B, VOD.L for VOD on XLON, BTC-USD, EURUSD=X."""

import re
from collections.abc import Mapping
from decimal import Decimal

from services.marketdata.providers.provider import Listed
from shared.contracts.instruments import AssetClass

#: The suffix of each market outside the United States.
SUFFIXES: Mapping[str, str] = {
    "XTSE": ".TO",
    "XLON": ".L",
    "XETR": ".DE",
    "XPAR": ".PA",
    "XAMS": ".AS",
    "XMIL": ".MI",
    "XMAD": ".MC",
    "XSWX": ".SW",
    "XSTO": ".ST",
    "XTKS": ".T",
    "XHKG": ".HK",
    "XSHG": ".SS",
    "XASX": ".AX",
}
_MARKETS = {suffix: market for market, suffix in SUFFIXES.items()}
#: The markets of Yahoo's codes of the exchanges in the United States. Those of NYSE have its sessions.
_UNITED_STATES: Mapping[str, str] = {
    **dict.fromkeys(("NYQ", "PCX", "ASE", "BTS"), "XNYS"),
    **dict.fromkeys(("NMS", "NGM", "NCM", "NAS"), "XNAS"),
}
#: Coins whose plain name is another coin's at Yahoo.
_COINS: Mapping[str, str] = {
    "APT": "APT21794",
    "ARB": "ARB11841",
    "COMP": "COMP5692",
    "GRT": "GRT6719",
    "PEPE": "PEPE24478",
    "SUI": "SUI20947",
    "TON": "TON11419",
    "UNI": "UNI7083",
}
_COINS_BACK = {theirs: ours for ours, theirs in _COINS.items()}
#: Prices in hundredths of a currency: pence of London, cents of Johannesburg, agorot of Tel Aviv.
_HUNDREDTHS: Mapping[str, str] = {"GBp": "GBP", "GBX": "GBP", "ZAc": "ZAR", "ILA": "ILS"}


def yahoo_symbol(instrument: Listed) -> str:
    """Yahoo's name for the instrument."""
    symbol = instrument.symbol
    if instrument.asset_class is AssetClass.CURRENCY_PAIR:
        return symbol.replace("/", "") + "=X"
    if instrument.asset_class is AssetClass.CRYPTO:
        coin, _, currency = symbol.partition("/")
        return f"{_COINS.get(coin, coin)}-{currency or 'USD'}"
    suffix = SUFFIXES.get(instrument.market, "")
    root = symbol.removesuffix(suffix).rstrip(".")
    if not suffix:
        root = re.sub(r"\.PR\.?([A-Z])$", r"-P\1", root)
        root = re.sub(r"\.WS$", "-WT", root)
    elif instrument.market == "XHKG" and root.isdigit():
        root = f"{int(root):04}"  # four digits at least, none of them in front of more
    return re.sub(r"[./]", "-", root) + suffix


def our_symbol(theirs: str, exchange: str, kind: str) -> tuple[str, str | None, AssetClass | None]:
    """Our symbol, market and asset class of Yahoo's symbol, code of the exchange and type of the quote.

    The market is None where we have none, the class where it is of none of ours, such as an option.
    """
    if kind == "CRYPTOCURRENCY":
        coin, _, currency = theirs.partition("-")
        return f"{_COINS_BACK.get(coin, coin)}/{currency}", "24/7", AssetClass.CRYPTO
    if kind == "CURRENCY":
        pair = theirs.removesuffix("=X")
        pair = "USD" + pair if len(pair) == len("JPY") else pair
        return f"{pair[:3]}/{pair[3:]}", None, AssetClass.CURRENCY_PAIR
    if kind not in ("EQUITY", "ETF"):
        return theirs, None, None
    if exchange in _UNITED_STATES:
        root = re.sub(r"-P([A-Z])$", r".PR\1", theirs)
        root = re.sub(r"-WT$", ".WS", root)
        return root.replace("-", "."), _UNITED_STATES[exchange], AssetClass.US_EQUITY
    root, dot, ending = theirs.rpartition(".")
    market = _MARKETS.get(dot + ending)
    return (root.replace("-", ".") if market else theirs), market, AssetClass.EQUITY


def in_currency(written: object) -> tuple[str, Decimal]:
    """The currency that Yahoo means, and what its prices are multiplied by: GBp is a hundredth of GBP."""
    if not isinstance(written, str):
        return "", Decimal(1)
    hundredths = _HUNDREDTHS.get(written)
    return (hundredths, Decimal("0.01")) if hundredths else (written, Decimal(1))
