"""Search for instruments at the providers, and the check of an instrument with its provider before it is added."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.marketdata import actors
from services.marketdata.providers.provider import (
    Found,
    KeyRefused,
    Listed,
    ProviderDown,
    Throttled,
    Unsupported,
)
from services.marketdata.usecases.search_instruments import AT_ONCE, FRESH, Searches, search
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instrument_search import InstrumentsFound, SearchInstruments
from shared.contracts.instruments import AssetClass, InstrumentTerms
from tests.component.directory import BTC, SPY, VOD, Directory, of
from tests.component.http_trader import KEY
from tests.component.watching import marketdata_at, outbox, statements
from tests.conftest import FakeClock
from tests.support import value

NOW = datetime(2026, 3, 16, 15, tzinfo=UTC)
OPTION = Found("SPY260320C00500000", "SPY call", None, "USD", None)


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with marketdata_at(NOW, urls, clock) as context:
        yield context


def command(words: str, **how: Any) -> SearchInstruments:
    return SearchInstruments(request_id=uuid4(), words=words, requested_at=NOW, **how)


def problems(answer: InstrumentsFound) -> dict[str, str | None]:
    return {each.provider: each.problem for each in answer.asked}


def test_results_that_can_be_instruments_come_with_the_exact_symbol_first(marketdata: ServiceContext) -> None:
    """One call serves all classes of a provider, and none is made within a transaction."""
    one = Directory("one", replace(SPY, symbol="SPYX"), OPTION, SPY)
    answer = search(marketdata, Searches(), of(one), command("spy"))
    assert [(each.symbol, each.exchange, each.provider) for each in answer.found] == [
        ("SPY", "NYSEArca", "one"), ("SPYX", "NYSEArca", "one"),
    ]  # fmt: skip
    assert (one.asked, problems(answer)) == (["spy"], {"one": None})


def test_answers_are_kept_for_some_minutes_and_failures_are_not(marketdata: ServiceContext, clock: FakeClock) -> None:
    """A person who types the same again costs the provider nothing."""
    one, searches = Directory("one", SPY), Searches()
    one.error = ProviderDown("no answer")
    assert problems(search(marketdata, searches, of(one), command("SPY"))) == {"one": "no answer"}
    one.error = None
    for words in ("spy", "SPY"):
        assert len(search(marketdata, searches, of(one), command(words)).found) == 1
    assert len(one.asked) == 2
    clock.now = NOW + FRESH + timedelta(seconds=1)
    search(marketdata, searches, of(one), command("spy"))
    assert len(one.asked) == 3


def test_a_class_of_which_the_first_provider_has_nothing_is_asked_of_the_next(marketdata: ServiceContext) -> None:
    """Only the next of that class is asked, and a provider that fails is told of."""
    shares, coins = Directory("shares", VOD), Directory("coins", BTC, classes=frozenset({AssetClass.CRYPTO}))
    broken = Directory("broken")
    broken.error = Throttled("takes no more", 60)
    order = {AssetClass.EQUITY: [shares, coins], AssetClass.CRYPTO: [broken, coins], AssetClass.US_EQUITY: [shares]}
    assert [each.provider for each in search(marketdata, Searches(), order, command("bitcoin")).found] == ["coins"]
    answer = search(marketdata, Searches(), order, command("vodafone", asset_class="equity"))
    assert ([each.symbol for each in answer.found], coins.asked) == (["VOD"], ["bitcoin"])


def test_a_slow_provider_holds_up_no_other_and_its_answer_is_kept(marketdata: ServiceContext) -> None:
    """The search ends in time, says who is late, and the next one has the answer."""
    slow, fast, searches = Directory("slow", SPY), Directory("fast", BTC), Searches()
    order = {AssetClass.US_EQUITY: [slow], AssetClass.CRYPTO: [fast]}
    slow.holds.clear()
    answer = search(marketdata, searches, order, command("b"), seconds=0.3)
    assert [each.symbol for each in answer.found] == ["BTC/USD"]
    late = problems(answer)["slow"]
    assert late is not None
    assert late.startswith("has not answered yet")
    slow.found = (replace(SPY, name="b"),)
    slow.holds.set()
    answer = search(marketdata, searches, order, command("b"))
    assert (problems(answer)["slow"], slow.asked) == (None, ["b"])


def test_too_many_searches_at_once_are_told_to_come_again(marketdata: ServiceContext) -> None:
    """They do not take the threads that other commands need."""
    one, searches = Directory("one", SPY), Searches()
    for _ in range(AT_ONCE):
        assert searches.turns.acquire(blocking=False)
    answer = search(marketdata, searches, of(one), command("spy"))
    assert (one.asked, problems(answer)["one"]) == ([], "too many searches at once: search again in a moment")


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        ({"symbol": "SPY"}, "SPY"),
        ({"symbol": "VOD", "market": "XLON"}, "VOD"),
        ({"symbol": "VOD", "market": "XETR"}, None),
        ({"symbol": "VOD"}, None),
        ({"symbol": "NOPE"}, None),
    ],
)
def test_an_instrument_is_looked_up_by_symbol_and_market(
    marketdata: ServiceContext, terms: dict[str, Any], match: str | None
) -> None:
    """Of an unknown one the similar ones are told."""
    one = Directory("one", SPY, VOD)
    wanted = InstrumentTerms.model_validate(terms)
    answer = search(marketdata, Searches(), of(one), command(wanted.symbol, terms=wanted))
    assert (answer.match and answer.match.symbol, problems(answer)) == (match, {"one": None})
    assert [each.symbol for each in answer.found] == (["VOD"] if wanted.symbol == "VOD" and match is None else [])


def test_a_search_is_answered_by_an_event_after_the_call_and_an_old_one_is_left_out(
    marketdata: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider is not asked within a transaction."""
    one = Directory("one", SPY)
    open_then: list[int] = []

    def watched(words: str, limit: int) -> list[Found]:
        checked_out = marketdata.engine.pool.checkedout()  # type: ignore[attr-defined]
        open_then.append(checked_out)
        return Directory.search(one, words, limit)

    monkeypatch.setattr(one, "search", watched)
    monkeypatch.setattr(actors, "configured_order", lambda: of(one))
    monkeypatch.setattr(actors, "searches", Searches)
    asked = command("spy")
    actors.search_for_instruments(asked, marketdata)
    (sent,) = outbox(marketdata)
    assert (sent.name, UUID(sent.body["request_id"])) == (InstrumentsFound.wire_name(), asked.request_id)
    assert open_then == [0]
    clock.now = NOW + actors.LATE + timedelta(seconds=1)
    with statements(marketdata.engine) as seen:
        actors.search_for_instruments(command("old"), marketdata)
    assert (seen, one.asked) == ([], ["spy"])


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


def post(client: TestClient, **body: Any) -> Any:
    return client.post("/api/instruments", json=body, headers=KEY)


def get(client: TestClient, query: str, **more: Any) -> Any:
    answer = client.get("/api/instruments/search", params={"query": query, **more}, headers=KEY)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_search_shows_what_the_provider_has_and_what_was_added(
    visitor: TestClient, providers: Callable[..., Directory]
) -> None:
    """Ours alone have no provider."""
    one = providers(replace(SPY, symbol="AAPL", name="Apple Inc."), replace(SPY, symbol="AAPLX"))
    answer = get(visitor, "aapl")
    assert [(each["symbol"], each["added"], each["provider"]) for each in answer["items"]] == [
        ("AAPL", True, one.traits.name), ("AAPLX", False, one.traits.name),
    ]  # fmt: skip
    assert answer["providers"] == [{"provider": one.traits.name, "problem": None}]
    assert [(each["symbol"], each["provider"]) for each in get(visitor, "MSFT")["items"]] == [("MSFT", None)]
    assert get(visitor, "aapl", limit=1, asset_class="us_equity")["items"] == answer["items"][:1]


@pytest.mark.parametrize(
    ("query", "field"),
    [({}, "query"), ({"query": ""}, "query"), ({"query": "x" * 61}, "query"), ({"query": "a", "limit": 51}, "limit"),
     ({"query": "a", "asset_class": "stock"}, "asset_class"), ({"query": "a", "q": "a"}, "q")],
)  # fmt: skip
def test_a_wrong_search_is_refused_with_its_field(visitor: TestClient, query: dict[str, Any], field: str) -> None:
    """No provider is asked."""
    answer = visitor.get("/api/instruments/search", params=query, headers=KEY)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_a_search_without_a_provider_that_can_search_says_so(visitor: TestClient) -> None:
    """The demo has no such provider."""
    answer = get(visitor, "ib")
    assert ([each["symbol"] for each in answer["items"]], answer["providers"]) == (["IBM"], [])


def test_the_provider_fills_in_what_is_not_given(visitor: TestClient, providers: Callable[..., Directory]) -> None:
    """What is given stays, and adding it again changes nothing, also while the provider is down."""
    qqq = Found("QQQ", "Invesco QQQ Trust", "XNAS", "USD", AssetClass.US_EQUITY, "NasdaqGM")
    one = providers(qqq, replace(qqq, symbol="QQQM"))
    answer = post(visitor, symbol="qqq")
    assert answer.status_code == 201, answer.text
    added = answer.json()
    names = ("name", "market", "exchange", "currency", "asset_class", "validated_by")
    assert [added[name] for name in names] == [
        "Invesco QQQ Trust", "XNAS", "NasdaqGM", "USD", "us_equity", one.traits.name,
    ]  # fmt: skip
    assert post(visitor, symbol="QQQM", name="Mine").json()["name"] == "Mine"
    providers(error=ProviderDown("no answer"))
    again = post(visitor, symbol="QQQ")
    assert (again.status_code, again.json()["name"]) == (201, "Invesco QQQ Trust")


def test_an_unknown_symbol_is_refused_with_similar_ones(
    visitor: TestClient, providers: Callable[..., Directory]
) -> None:
    """It can be added all the same, where the operator says so."""
    one = providers(VOD)
    answer = post(visitor, symbol="VOD", market="XETR")
    assert (answer.status_code, answer.json()["field"]) == (422, "symbol")
    detail = answer.json()["detail"]
    assert f"{one.traits.name} does not have VOD on XETR; did you mean VOD on XLON (Vodafone Group Plc)?" in detail
    assert '"unvalidated": true' in detail
    assert visitor.get("/api/instruments/VOD", headers=KEY).status_code == 404
    added = post(visitor, symbol="VOD", market="XETR", unvalidated=True)
    assert (added.status_code, added.json()["validated_by"]) == (201, None)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"currency": "EUR"}, "currency"),
        ({"currency": "USD", "asset_class": "equity", "market": "XLON"}, "currency"),
    ],
)
def test_terms_that_the_provider_has_otherwise_are_refused_by_their_field(
    visitor: TestClient, providers: Callable[..., Directory], given: dict[str, Any], field: str
) -> None:
    """The message has the provider's."""
    providers(replace(SPY, symbol="GEL"), replace(VOD, symbol="GEL"))
    answer = post(visitor, symbol="GEL", **given)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert " with " in answer.json()["detail"]


@pytest.mark.parametrize("error", [ProviderDown("no answer"), KeyRefused("needs a key"), Throttled("is busy", 60)])
def test_a_provider_that_does_not_answer_says_so_and_does_not_refuse_for_ever(
    visitor: TestClient, providers: Callable[..., Directory], error: Exception
) -> None:
    """The flag adds the instrument meanwhile."""
    providers(error=error)
    symbol = f"D{uuid4().hex[:6].upper()}"
    answer = post(visitor, symbol=symbol)
    assert (answer.status_code, '"unvalidated": true' in answer.json()["detail"]) == (503, True), answer.text
    assert post(visitor, symbol=symbol, unvalidated=True).status_code == 201


def test_what_no_provider_can_search_for_is_added(
    market: System, visitor: TestClient, providers: Callable[..., Directory]
) -> None:
    """Such as a pair, where the only provider searches for shares."""
    providers(error=Unsupported("shares only"))
    answer = post(visitor, symbol="EUR/NOK")
    assert (answer.status_code, answer.json()["validated_by"]) == (201, None)
    engine = market.contexts["gateway"].engine
    assert value(engine, "SELECT count(*) FROM jobs.operator_actions WHERE subject = 'EUR/NOK'") == 1


def test_a_lookup_by_default_takes_the_exchanges_of_one_country_for_one() -> None:
    """SPY is found whether it was asked for on XNAS or on XNYS."""
    one = Directory("one", SPY, VOD)
    listed = Listed("SPY", "XNAS", AssetClass.US_EQUITY, "USD")
    assert one.lookup(listed) == SPY
    assert one.lookup(replace(listed, symbol="VOD")) is None
