"""Lists of instruments are validated with the providers before any of them is added."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.marketdata import actors, import_instruments
from services.marketdata.import_instruments import NotImported, validated
from services.marketdata.persistence import instruments
from services.marketdata.providers.provider import Found, Listed, ProviderDown, Unsupported
from services.marketdata.usecases.fetch_prices import Order
from services.marketdata.usecases.search_instruments import AT_ONCE, Searches
from services.marketdata.usecases.validate_instruments import validate
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instrument_search import InstrumentsValidated
from shared.contracts.instruments import AssetClass, GivenInstrument
from tests.component.directory import BTC, SPY, VOD, Directory, of
from tests.component.http_trader import KEY
from tests.component.watching import marketdata_at
from tests.conftest import FakeClock

NOW = datetime(2026, 3, 16, 15, tzinfo=UTC)
SPY_AND_VOD = (GivenInstrument(symbol="SPY"), GivenInstrument(symbol="VOD", market="XLON"))


class Batches(Directory):
    """A directory that looks up several instruments in one call. From the batch ``fails_at`` on, it is down."""

    def __init__(self, name: str, *found: Found, size: int = 2, fails_at: int = 99) -> None:
        super().__init__(name, *found)
        self.traits = replace(self.traits, lookup_batch=size)  # type: ignore[misc]
        self.batches: list[list[str]] = []
        self.fails_at = fails_at

    def lookups(self, instruments: Sequence[Listed]) -> list[Found]:
        self.batches.append([each.symbol for each in instruments])
        if len(self.batches) >= self.fails_at:
            raise ProviderDown("half a body")
        return super().lookups(instruments)


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with marketdata_at(NOW, urls, clock) as context:
        yield context


def listed(*symbols: str) -> list[GivenInstrument]:
    return [GivenInstrument(symbol=each) for each in symbols]


def validation(
    marketdata: ServiceContext, order: Order, given: Sequence[GivenInstrument], searches: Searches | None = None
) -> InstrumentsValidated:
    return validate(marketdata, searches or Searches(), order, given, uuid4())


def test_a_list_is_looked_up_in_batches_and_filled_in(marketdata: ServiceContext) -> None:
    """An instrument that is there is not looked up, and keeps its own terms."""
    shares = [replace(SPY, symbol=f"S{n}", name=f"Share {n}", market="XNAS") for n in range(3)]
    one = Batches("one", *shares, VOD)
    given = [*listed("S0", "AAPL", "S1", "S2"), GivenInstrument(symbol="VOD", market="XLON", name="Mine")]
    answer = validation(marketdata, of(one), given)
    assert [(each.symbol, each.name, each.market) for each in answer.instruments] == [
        ("S0", "Share 0", "XNAS"), ("AAPL", "Apple Inc.", "DEMO"), ("S1", "Share 1", "XNAS"),
        ("S2", "Share 2", "XNAS"), ("VOD", "Mine", "XLON"),
    ]  # fmt: skip
    assert one.batches == [["S0", "S1"], ["S2"], ["VOD"]]
    assert (answer.wrong, answer.not_asked, answer.unanswered) == ((), 0, 0)


def test_instruments_that_the_provider_has_otherwise_or_not_are_named(marketdata: ServiceContext) -> None:
    """Then none of the list is to be added."""
    order = of(Directory("one", SPY, BTC))
    given = [*SPY_AND_VOD, GivenInstrument(symbol="BTC/USD"), *listed("NOPE")]
    answer = validation(marketdata, order, [*given[:1], replace_currency(given[0], "SPX"), *given[1:]])
    assert [(each.place, each.field) for each in answer.wrong] == [(1, "symbol"), (2, "symbol"), (4, "symbol")]
    assert answer.wrong[1].message == "symbol: one does not have VOD on XLON"
    assert answer.instruments == ()
    answer = validation(marketdata, order, [replace_currency(given[0], "SPY", currency="EUR")])
    assert [(each.field, each.message) for each in answer.wrong] == [
        ("currency", "currency: one has SPY with USD; correct it")
    ]


def replace_currency(given: GivenInstrument, symbol: str, currency: str | None = None) -> GivenInstrument:
    return given.model_copy(update={"symbol": symbol, "currency": currency})


def test_the_next_provider_is_asked_for_those_that_the_first_does_not_have(marketdata: ServiceContext) -> None:
    """Also where the first is down. Of a class that no provider can search for, nobody is asked."""
    first, second = Batches("first", SPY), Batches("second", VOD)
    order = {AssetClass.US_EQUITY: [first, second], AssetClass.EQUITY: [first, second]}
    answer = validation(marketdata, order, [*SPY_AND_VOD, *listed("EUR/USD")])
    assert [each.name for each in answer.instruments] == [SPY.name, VOD.name, "EUR/USD"]
    assert (answer.not_asked, second.batches) == (1, [["VOD"]])
    first.error = ProviderDown("no answer")
    answer = validation(marketdata, order, SPY_AND_VOD)
    assert (answer.unanswered, answer.instruments) == (1, ())
    assert {each.provider: each.problem for each in answer.asked} == {"first": "no answer", "second": None}
    first.error = Unsupported("shares only")
    second.found = (SPY, VOD)
    assert len(validation(marketdata, order, SPY_AND_VOD).instruments) == 2


def test_a_list_that_is_sent_again_goes_on_where_its_lookup_ended(marketdata: ServiceContext) -> None:
    """The answers of the first batches are kept."""
    one, searches = Batches("one", *(replace(SPY, symbol=f"S{n}") for n in range(6)), fails_at=2), Searches()
    given = listed(*(f"S{n}" for n in range(6)))
    answer = validation(marketdata, of(one), given, searches)
    assert (answer.unanswered, answer.instruments, len(one.batches)) == (4, (), 2)
    one.fails_at = 99
    answer = validation(marketdata, of(one), given, searches)
    assert (answer.unanswered, len(answer.instruments)) == (0, 6)
    assert one.batches == [["S0", "S1"], ["S2", "S3"], ["S2", "S3"], ["S4", "S5"]]


def test_a_list_takes_its_turn_among_the_searches(marketdata: ServiceContext) -> None:
    """With too many of them nothing is asked, and the answer says so."""
    one, searches = Batches("one", SPY), Searches()
    for _ in range(AT_ONCE):
        assert searches.turns.acquire(blocking=False)
    answer = validation(marketdata, of(one), SPY_AND_VOD, searches)
    assert (answer.unanswered, one.batches) == (2, [])
    assert [each.problem for each in answer.asked] == ["too many searches at once: search again in a moment"]


def test_the_command_validates_a_file_too(marketdata: ServiceContext) -> None:
    """It names the lines, and the way to import the list all the same."""
    one = Directory("one", SPY)
    with pytest.raises(NotImported, match=r"line 7, symbol: one does not have VOD on XLON.*--unvalidated"):
        validated(marketdata, of(one), SPY_AND_VOD, [3, 7])
    one.error = ProviderDown("no answer")
    with pytest.raises(NotImported, match=r"2 instruments cannot be validated now \(one: no answer\).*--unvalidated"):
        validated(marketdata, of(one), SPY_AND_VOD, [3, 7])
    two = Directory("two", SPY, VOD)
    assert [each.name for each in validated(marketdata, of(two), SPY_AND_VOD, [3, 7])] == [SPY.name, VOD.name]


def test_the_command_adds_a_validated_file_and_prints_what_it_did(
    marketdata: ServiceContext,
    urls: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A refusal is one line, and adds nothing."""
    file = tmp_path / "list.csv"
    file.write_text("symbol,market\nvod,XLON\nNOPE,\n")
    monkeypatch.setenv("PAPERPROFIT_DATABASE_URL", urls["marketdata"])
    monkeypatch.setattr(import_instruments, "configured_order", lambda: of(Directory("one", VOD)))
    assert import_instruments.main([str(file)]) == 1
    assert capsys.readouterr().err.startswith("import_instruments: line 3, symbol: one does not have NOPE on XNYS.")
    assert import_instruments.main([str(file), "--unvalidated"]) == 0
    assert capsys.readouterr().out == "added 3 instruments: VOD, NOPE, GBP/USD\n"
    with marketdata.engine.connect() as connection:
        assert instruments.terms(connection, ["VOD"])["VOD"]["name"] == "VOD"


# over HTTP


@pytest.fixture
def providers(market: System, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Directory]:
    """Have marketdata ask this provider from now on."""
    del market

    def ask(*found: Found, error: Exception | None = None) -> Directory:
        made = Directory(f"directory-{uuid4().hex[:8]}", *found)
        made.error = error
        monkeypatch.setattr(actors, "configured_order", lambda: of(made))
        return made

    return ask


def imported(client: TestClient, text: str, query: str = "") -> Any:
    return client.post(f"/api/instruments/import{query}", content=text.encode(), headers=KEY)


def is_there(client: TestClient, symbol: str) -> bool:
    return client.get(f"/api/instruments/{symbol}", headers=KEY).status_code == 200


def test_an_imported_list_is_validated_and_filled_in(visitor: TestClient, providers: Callable[..., Directory]) -> None:
    """It is imported again without any change, also while the provider is down."""
    found = replace(SPY, symbol="VALA", name="Validated A", market="XNAS"), replace(SPY, symbol="VALB")
    providers(*found)
    answer = imported(visitor, "symbol,name\nVALA,\nvalb,My B\n")
    assert (answer.status_code, answer.json()) == (200, {"added": ["VALA", "VALB"], "unchanged": 0, "validated": True})
    shown = visitor.get("/api/instruments/VALA", headers=KEY).json()
    assert (shown["name"], shown["market"], shown["exchange"]) == ("Validated A", "XNAS", "NYSEArca")
    assert visitor.get("/api/instruments/VALB", headers=KEY).json()["name"] == "My B"
    providers(error=ProviderDown("no answer"))
    assert imported(visitor, "symbol\nVALA\n").json()["unchanged"] == 1


def test_a_list_with_an_unknown_symbol_is_refused_as_a_whole(
    visitor: TestClient, providers: Callable[..., Directory]
) -> None:
    """Each wrong line is named. The operator may import it all the same."""
    one = providers(replace(SPY, symbol="VALC"))
    text = "symbol,market,currency\nVALC,,\n\nVALD,XNYS,\nVALC2,,EUR\n"
    answer = imported(visitor, text)
    assert (answer.status_code, answer.json()["field"]) == (422, "symbol")
    detail = answer.json()["detail"]
    assert f"line 4, symbol: {one.traits.name} does not have VALD on XNYS; line 5, symbol: " in detail
    assert "?unvalidated=true" in detail
    assert not is_there(visitor, "VALC")
    assert imported(visitor, text, "?unvalidated=true").json()["validated"] is False
    assert is_there(visitor, "VALD")


def test_a_list_waits_for_a_provider_that_is_down(visitor: TestClient, providers: Callable[..., Directory]) -> None:
    """Nothing of it is added meanwhile."""
    providers(error=ProviderDown("no answer"))
    answer = imported(visitor, "symbol\nVALE\nAAPL\n")
    assert answer.status_code == 503, answer.text
    detail = answer.json()["detail"]
    assert detail.startswith("1 of 2 instruments cannot be validated now (directory-")
    assert "?unvalidated=true" in detail
    assert not is_there(visitor, "VALE")
