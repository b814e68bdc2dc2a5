"""The command that shows what a provider answers beside what would be stored."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yfinance.cache  # type: ignore[import-untyped]

from services.marketdata import check_provider
from services.marketdata.check_provider import WrongSymbol, listed, main
from services.marketdata.providers.provider import Listed
from services.marketdata.providers.registry import network_provider
from shared.contracts.instruments import AssetClass
from tests.servers.provider_http import epoch
from tests.servers.provider_yahoo import YahooServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[YahooServer]:
    """Yahoo's place taken by a local server, by the setting for a proxy."""
    yfinance.cache.set_cache_location(str(tmp_path))
    server = YahooServer()
    monkeypatch.setenv("PAPERPROFIT_YAHOO_URL", server.url)
    network_provider.cache_clear()
    yield server
    network_provider.cache_clear()
    server.close()


def test_fields_stand_beside_what_would_be_stored(server: YahooServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.put("VOD.L", 71.26, epoch(3), currency="GBp", exchange="LSE")
    assert main(["--provider", "yahoo", "--symbols", "VOD@XLON"]) == 0
    shown = capsys.readouterr().out
    for part in ("regularMarketPrice = 71.26", "last = 0.7126", "currency = GBP", "bid_size = (missing)", "stored: "):
        assert part in shown
    assert "bars: Yahoo has no 1d chart of VOD.L" in shown


def test_a_price_in_another_currency_would_be_refused(server: YahooServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.put("SPY", 570.13, epoch(3), currency="EUR")
    main(["--provider", "yahoo", "--symbols", "SPY"])
    assert "refused: currency: is EUR, but SPY is quoted in USD" in capsys.readouterr().out


def test_an_unknown_symbol_says_so(server: YahooServer, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--provider", "yahoo", "--symbols", "GONE"])
    assert "not stored: yahoo does not know the symbol" in capsys.readouterr().out


def test_without_the_internet_it_says_what_to_check(
    server: YahooServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAPERPROFIT_YAHOO_URL", "http://127.0.0.1:9")
    assert main(["--provider", "yahoo"]) == 1
    assert "check the connection to the internet" in capsys.readouterr().out


def test_a_missing_key_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "alphavantage", "--symbols", "SPY"]) == 1
    assert "set PAPERPROFIT_ALPHAVANTAGE_KEY" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--provider", "replay"], "asks nobody over the network"),
        (["--provider", "bloomberg"], "there is no price provider 'bloomberg'; choose "),
        (["--provider", "yahoo", "--symbols", "spy!"], "write it as SPY"),
        (["--provider", "yahoo", "--symbols", "VOD@MOON"], "there is no market MOON"),
    ],
)
def test_what_cannot_be_asked_is_named(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_help_tells_how_symbols_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "VOD@XLON" in capsys.readouterr().out


def test_a_symbol_has_the_class_of_its_market() -> None:
    assert [listed(text) for text in ("SPY", "7203@XTKS", "HSBA@XLON:USD", "EUR/USD", "BTC/USD")] == [
        Listed("SPY", "XNYS", AssetClass.US_EQUITY, "USD"),
        Listed("7203", "XTKS", AssetClass.EQUITY, "JPY"),
        Listed("HSBA", "XLON", AssetClass.EQUITY, "USD"),
        Listed("EUR/USD", "24/7", AssetClass.CURRENCY_PAIR, "USD"),
        Listed("BTC/USD", "24/7", AssetClass.CRYPTO, "USD"),
    ]
    with pytest.raises(WrongSymbol):
        listed("")
    assert check_provider.SYMBOLS == ("SPY", "BRK.B", "BTC/USD", "EUR/USD")
