"""Yahoo's names of instruments, there and back."""

import pytest

from services.marketdata.providers.provider import Listed
from services.marketdata.providers.yahoo_symbols import in_currency, our_symbol, yahoo_symbol
from shared.contracts.instruments import AssetClass

SHARES = [
    ("SPY", "XNYS", "SPY", "PCX"),
    ("BRK.B", "XNYS", "BRK-B", "NYQ"),
    ("BAC.PRL", "XNYS", "BAC-PL", "NYQ"),
    ("OXY.WS", "XNYS", "OXY-WT", "NYQ"),
    ("AAPL", "XNAS", "AAPL", "NMS"),
    ("VOD", "XLON", "VOD.L", "LSE"),
    ("BT.A", "XLON", "BT-A.L", "LSE"),
    ("7203", "XTKS", "7203.T", "JPX"),
    ("0700", "XHKG", "0700.HK", "HKG"),
    ("SHOP", "XTSE", "SHOP.TO", "TOR"),
    ("RCI.B", "XTSE", "RCI-B.TO", "TOR"),
    ("SAP", "XETR", "SAP.DE", "GER"),
    ("MC", "XPAR", "MC.PA", "PAR"),
    ("ASML", "XAMS", "ASML.AS", "AMS"),
    ("ENI", "XMIL", "ENI.MI", "MIL"),
    ("SAN", "XMAD", "SAN.MC", "MCE"),
    ("NESN", "XSWX", "NESN.SW", "EBS"),
    ("VOLV-B", "XSTO", "VOLV-B.ST", "STO"),
    ("600519", "XSHG", "600519.SS", "SHH"),
    ("BHP", "XASX", "BHP.AX", "ASX"),
]


def listed(symbol: str, market: str, asset_class: AssetClass, currency: str = "USD") -> Listed:
    return Listed(symbol, market, asset_class, currency)


@pytest.mark.parametrize(("symbol", "market", "theirs", "exchange"), SHARES)
def test_a_share_has_the_suffix_of_its_market(symbol: str, market: str, theirs: str, exchange: str) -> None:
    """A class of shares stands behind a hyphen at Yahoo, and behind a point with us."""
    united_states = market in ("XNYS", "XNAS")
    asset_class = AssetClass.US_EQUITY if united_states else AssetClass.EQUITY
    assert yahoo_symbol(listed(symbol, market, asset_class)) == theirs
    back = symbol if market != "XSTO" else symbol.replace("-", ".")
    assert our_symbol(theirs, exchange, "EQUITY") == (back, market, asset_class)


@pytest.mark.parametrize(("symbol", "theirs"), [("5", "0005.HK"), ("00005", "0005.HK"), ("0005.HK", "0005.HK")])
def test_hong_kong_has_four_digits(symbol: str, theirs: str) -> None:
    assert yahoo_symbol(listed(symbol, "XHKG", AssetClass.EQUITY)) == theirs


def test_a_symbol_that_is_yahoos_already_stays() -> None:
    assert yahoo_symbol(listed("VOD.L", "XLON", AssetClass.EQUITY)) == "VOD.L"
    assert yahoo_symbol(listed("BP.", "XLON", AssetClass.EQUITY)) == "BP.L"


@pytest.mark.parametrize(
    ("symbol", "theirs", "kind", "asset_class"),
    [
        ("BTC/USD", "BTC-USD", "CRYPTOCURRENCY", AssetClass.CRYPTO),
        ("UNI/USD", "UNI7083-USD", "CRYPTOCURRENCY", AssetClass.CRYPTO),
        ("EUR/USD", "EURUSD=X", "CURRENCY", AssetClass.CURRENCY_PAIR),
    ],
)
def test_coins_and_pairs(symbol: str, theirs: str, kind: str, asset_class: AssetClass) -> None:
    """Uniswap's plain name is another coin at Yahoo."""
    assert yahoo_symbol(listed(symbol, "24/7", asset_class)) == theirs
    back, _, found = our_symbol(theirs, "CCC", kind)
    assert (back, found) == (symbol, asset_class)


def test_a_pair_of_dollars_has_a_short_name_too() -> None:
    assert our_symbol("JPY=X", "CCY", "CURRENCY")[0] == "USD/JPY"


def test_an_option_is_of_no_class() -> None:
    assert our_symbol("SPY250117C00400000", "OPR", "OPTION")[2] is None


def test_pence_are_hundredths_of_pounds() -> None:
    assert [in_currency("GBp")[0], str(in_currency("GBp")[1]), in_currency("USD")[0]] == ["GBP", "0.01", "USD"]
    assert in_currency(None)[0] == ""
