"""The choice of providers by settings, the entry points of other packages, and sets of instruments."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest
from sqlalchemy import create_engine

from services.marketdata import configured, service
from services.marketdata.instrument_sets import UnreadableSet, read_set
from services.marketdata.providers import registry
from services.marketdata.providers.provider import Provider, Traits
from services.marketdata.providers.registry import NotAProvider, UnknownProvider, network_provider
from services.marketdata.settings import INSTRUMENTS_FILE, Settings, current
from services.marketdata.warm_up import WarmUp
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.settings import InvalidSettings, load


class Theirs(Provider):
    """A provider of another package."""

    traits: ClassVar[Traits] = Traits(name="theirs", parts=frozenset(), asset_classes=frozenset())


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two entry points, of which one makes no provider."""
    points = {
        name: EntryPoint(name, f"{__name__}:{made}", registry.GROUP)
        for name, made in (("theirs", "Theirs"), ("other", "Path"))
    }
    monkeypatch.setattr(registry, "_entry_points", lambda: points)


def settings(monkeypatch: pytest.MonkeyPatch, **given: str) -> Settings:
    for name, value in given.items():
        monkeypatch.setenv(f"PAPERPROFIT_{name.upper()}", value)
    return load(Settings)


def test_a_class_has_its_own_order_or_the_one_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Push is asked by nobody, and the replay serves what has no order."""
    chosen = settings(monkeypatch, provider="yahoo", providers_crypto="alpaca, yahoo", providers_equity="push")
    assert chosen.network_order(AssetClass.US_EQUITY) == ("yahoo",)
    assert chosen.network_order(AssetClass.CRYPTO) == ("alpaca", "yahoo")
    assert chosen.network_order(AssetClass.EQUITY) == ()
    replayed = settings(monkeypatch, provider="replay")
    assert replayed.network_order(AssetClass.US_EQUITY) == ()
    assert replayed.own_providers() == {AssetClass.CRYPTO, AssetClass.EQUITY}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"provider": "bloomberg"}, "PAPERPROFIT_PROVIDER: is not a price provider; choose replay, sim"),
        ({"providers_crypto": "yahoo,nobody"}, "PAPERPROFIT_PROVIDERS_CRYPTO: is not a price provider"),
        (
            {"providers_crypto": "replay"},
            "PAPERPROFIT_PROVIDERS_CRYPTO: is not a price provider; ch",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidSettings) as refused:
        settings(monkeypatch, **given)
    assert str(refused.value).startswith(message)


@pytest.mark.usefixtures("theirs")
def test_another_package_adds_a_provider_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name may be configured. What is no provider is refused."""
    assert settings(monkeypatch, provider="theirs").network_order(AssetClass.CRYPTO) == ("theirs",)
    network_provider.cache_clear()
    assert isinstance(network_provider("theirs"), Theirs)
    assert network_provider("theirs") is network_provider("theirs")
    with pytest.raises(NotAProvider, match="'other'"):
        network_provider("other")
    with pytest.raises(UnknownProvider, match="choose yahoo, alphavantage, alpaca, other or theirs"):
        network_provider("nobody")
    network_provider.cache_clear()


def test_the_demo_s_instruments_come_with_prices_that_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes live adds the instruments that are wanted."""
    by_provider = {name: settings(monkeypatch, provider=name).instrument_sets() for name in ("replay", "push", "yahoo")}
    assert by_provider == {"replay": ("demo",), "push": ("demo",), "yahoo": ()}
    for given, sets in {"demo, sp500-top": ["demo", "sp500-top"], "none": [], "": []}.items():
        assert list(settings(monkeypatch, instruments=given).instrument_sets()) == sets


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Settings are read again in the test, and after it."""
    caches = (current, configured.configured_provider, configured.configured_replay)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_push_has_no_feed_and_is_asked_by_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no price before the first push."""
    monkeypatch.setenv("PAPERPROFIT_PROVIDER", "push")
    assert configured.configured_provider() is None
    assert configured.configured_order() == {}
    assert service.components(ServiceContext("marketdata", create_engine("postgresql+psycopg://"))) == []


def test_the_sets_have_no_instrument_twice() -> None:
    """About fifty large companies, and the pairs that trade most."""
    sizes = {}
    for name in ("demo", "sp500-top", "crypto-major", "fx-major"):
        symbols = [terms.symbol for terms in read_set(INSTRUMENTS_FILE, name)]
        assert len(symbols) == len(set(symbols))
        sizes[name] = len(symbols)
    assert sizes == {"demo": 5, "sp500-top": 55, "crypto-major": 10, "fx-major": 11}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\ninstruments = [['X', 'X']]", "there is no set 'mine' of instruments; choose a"),
        ("[mine]\nmarket = 'XXXX'\ninstruments = [['X', 'X']]", r"set mine, \['X', 'X'\]: market: unknown market"),
        ("[mine]\ninstruments = [['X']]", r"set mine, \['X'\]: write a symbol and a name"),
        ("[mine", "cannot be read"),
    ],
)
def test_a_wrong_set_is_refused_with_its_instrument(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "instruments.toml"
    file.write_text(text)
    with pytest.raises(UnreadableSet, match=message):
        read_set(file, "mine")


@pytest.mark.usefixtures("forgotten")
def test_a_network_provider_is_made_ready_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of its own, beside the streams."""
    monkeypatch.setenv("PAPERPROFIT_PROVIDER", "yahoo")
    monkeypatch.setenv("PAPERPROFIT_STREAM", "false")
    (warm_up,) = service.components(ServiceContext("marketdata", create_engine("postgresql+psycopg://")))
    assert isinstance(warm_up, WarmUp)
