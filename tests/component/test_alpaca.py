"""The provider alpaca: alpaca-py asks a local server that answers as Alpaca does, and misbehaves."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.marketdata.providers import bounded_session
from services.marketdata.providers.alpaca import Alpaca
from services.marketdata.providers.provider import (
    FoundAction,
    KeyRefused,
    Listed,
    ProviderDown,
    Throttled,
    Unsupported,
)
from services.marketdata.providers.settings import AlpacaSettings
from shared.contracts.instruments import AssetClass
from tests.component.provider_server import BRK, BTC, EUR, SPY, Reader, bar_of, numbers
from tests.servers.provider_alpaca import KEY, SECRET, AlpacaServer, bar, snapshot
from tests.servers.provider_streams import AlpacaStreamServer, quote, stamp, trade

NOW = datetime(2024, 6, 5, 15, tzinfo=UTC)
AT = "2024-06-05T14:59:58.123456789Z"
SECOND = 1_000_000_000


@pytest.fixture
def server() -> Iterator[AlpacaServer]:
    server = AlpacaServer()
    yield server
    server.close()


@pytest.fixture
def streams() -> Iterator[AlpacaStreamServer]:
    streams = AlpacaStreamServer()
    yield streams
    streams.close()


def provider(server: AlpacaServer, **settings: Any) -> Alpaca:
    return Alpaca(AlpacaSettings(**{"key": KEY, "secret": SECRET, "url": server.url, **settings}))


@pytest.fixture
def alpaca(server: AlpacaServer) -> Iterator[Alpaca]:
    made = provider(server, trading_url=server.url)
    yield made
    made.close()


def test_one_request_a_class_brings_all_quotes(server: AlpacaServer, alpaca: Alpaca) -> None:
    """The newest of trade and quote has the time. A side of 0 is missing, with its size."""
    server.snapshots["SPY"] = snapshot(530.5, AT, t="2024-06-05T14:59:59.5Z")
    server.snapshots["BRK.B"] = snapshot(411.5, AT, ap=0)
    server.snapshots["BTC/USD"] = snapshot(71000.25, AT, bs=0.125)
    quotes = {each.symbol: each for each in alpaca.quotes([SPY, BRK, BTC], NOW)}
    assert server.paths() == ["/v1beta3/crypto/us/snapshots", "/v2/stocks/snapshots"]
    spy, brk, btc = quotes["SPY"], quotes["BRK.B"], quotes["BTC/USD"]
    assert (spy.bid, spy.last, spy.ask, spy.ask_size) == numbers("530.25 530.5 530.75 200")
    assert spy.quoted_at == datetime(2024, 6, 5, 14, 59, 59, 500_000, tzinfo=UTC)
    assert (brk.ask, brk.ask_size, brk.quoted_at.microsecond) == (None, None, 123_456)
    assert btc.bid_size == Decimal("0.125")
    assert server.asked[-1].query["feed"] == "iex"


def test_unknown_and_malformed_symbols_are_left_out(server: AlpacaServer, alpaca: Alpaca) -> None:
    """Alpaca refuses a whole request for one malformed symbol."""
    server.snapshots["SPY"] = snapshot(530.5, AT)
    server.snapshots["BRK.B"] = {}
    server.malformed.add("1BAD")
    bad, gone = (Listed(name, "XNYS", AssetClass.US_EQUITY, "USD") for name in ("1BAD", "GONE"))
    with capture_logs() as logs:
        assert [each.symbol for each in alpaca.quotes([bad, SPY, gone, BRK], NOW)] == ["SPY"]
    assert [line["reason"] for line in logs if line.get("symbol") == "BRK.B"] == ["Alpaca's snapshot has no trade"]


@pytest.mark.parametrize(
    ("kind", "how", "error"),
    [
        ("html", {}, ProviderDown),
        ("half", {}, ProviderDown),
        ("empty", {}, ProviderDown),
        ("slow", {}, ProviderDown),
        ("status", {"status": 200, "body": [1]}, ProviderDown),
        ("status", {"status": 500}, ProviderDown),
        ("status", {"status": 504}, ProviderDown),
        ("status", {"status": 401, "body": {"message": "unauthorized."}}, KeyRefused),
        ("status", {"status": 403, "body": {"message": "forbidden."}}, KeyRefused),
        ("status", {"status": 429, "headers": {"Retry-After": "9"}}, Throttled),
    ],
)
def test_a_bad_answer_is_an_error_and_the_next_is_taken(
    server: AlpacaServer,
    alpaca: Alpaca,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    how: dict[str, Any],
    error: type[Exception],
) -> None:
    """alpaca-py would wait for ever for a slow answer, and ask three times more after 429 and 504."""
    monkeypatch.setattr(bounded_session, "REQUEST_SECONDS", 0.5)
    server.snapshots["SPY"] = snapshot(530.5, AT)
    server.misbehave(kind, **how)
    with pytest.raises(error) as refused:
        alpaca.quotes([SPY], NOW)
    assert SECRET not in str(refused.value)
    assert (len(server.asked), getattr(refused.value, "retry_after", 9)) == (1, 9)
    server.behave()
    assert len(alpaca.quotes([SPY], NOW)) == 1


def test_the_time_of_the_next_request_is_that_of_the_header(server: AlpacaServer, alpaca: Alpaca) -> None:
    """Alpaca says when its limit is over, in seconds since 1970."""
    server.misbehave("status", status=429, headers={"X-RateLimit-Reset": "9999999999"})
    with pytest.raises(Throttled) as busy:
        alpaca.quotes([SPY], NOW)
    assert busy.value.retry_after == 120


def test_without_a_key_nothing_is_asked(server: AlpacaServer) -> None:
    with pytest.raises(KeyRefused, match="PAPERPROFIT_ALPACA_KEY"):
        provider(server, key="").quotes([SPY], NOW)
    assert server.asked == []


def test_bars_are_raw_and_of_their_day(server: AlpacaServer, alpaca: Alpaca) -> None:
    """A daily bar starts at midnight of New York. The end is not part of the range. A broken row is left out."""
    server.bars["SPY"] = [
        bar("2024-06-03T04:00:00Z", 1, 2, 0.5, 1.5, 300),
        bar("2024-06-04T04:00:00Z", 1, 0.9, 0.5, 1.5, 300),
        bar("2024-06-05T04:00:00Z", 1, 2, 0.5, 1.5, 300),
    ]
    begin, end = datetime(2024, 6, 3, tzinfo=UTC), datetime(2024, 6, 5, tzinfo=UTC)
    (page,) = alpaca.bars(SPY, "1d", begin, end)
    assert page == [bar_of("SPY", "1d", begin, "1 2 0.5 1.5 300", "alpaca")]
    query = server.asked[-1].query
    assert (query["timeframe"], query["adjustment"], query["feed"]) == ("1Day", "raw", "iex")


def test_pairs_have_no_bars(alpaca: Alpaca) -> None:
    with pytest.raises(Unsupported, match="another provider"):
        list(alpaca.bars(EUR, "1d", NOW, NOW))


def test_corporate_actions(server: AlpacaServer, alpaca: Alpaca) -> None:
    """Splits are two whole numbers, and a stock dividend of 5 % is a split of 21 for 20."""
    server.actions = {
        "forward_splits": [{"symbol": "SPY", "new_rate": 1.5, "old_rate": 1, "ex_date": "2024-06-10"}],
        "reverse_splits": [{"symbol": "SPY", "new_rate": 1, "old_rate": 10, "ex_date": "2024-06-11"}],
        "stock_dividends": [{"symbol": "SPY", "rate": 0.05, "ex_date": "2024-06-12"}],
        "cash_dividends": [
            {"symbol": "SPY", "rate": 0.24, "ex_date": "2024-05-10", "payable_date": "2024-05-17"},
            {"symbol": "OTHER", "rate": 1, "ex_date": "2024-05-10"},
            {"symbol": "SPY", "rate": "broken", "ex_date": "2024-05-10"},
        ],
        "name_changes": [{"old_symbol": "SPY", "new_symbol": "SPX", "process_date": "2024-06-13"}],
    }

    def split(day: int, new: int, old: int) -> FoundAction:
        return FoundAction(symbol="SPY", kind="split", ex_date=date(2024, 6, day), new_shares=new, old_shares=old)

    assert alpaca.actions(SPY, date(2024, 1, 1), date(2024, 12, 31)) == [
        FoundAction(
            symbol="SPY", kind="dividend", ex_date=date(2024, 5, 10), amount=Decimal("0.24"),
            pay_date=date(2024, 5, 17),
        ),
        split(10, 3, 2),
        split(11, 1, 10),
        split(12, 21, 20),
        FoundAction(symbol="SPY", kind="symbol_change", ex_date=date(2024, 6, 13), new_symbol="SPX"),
    ]  # fmt: skip


def test_search_has_the_symbol_first(server: AlpacaServer, alpaca: Alpaca) -> None:
    asset = {"class": "us_equity", "exchange": "NASDAQ", "status": "active"}
    server.assets = [
        {**asset, "symbol": "SPYX", "name": "Other"},
        {**asset, "symbol": "SPY", "name": "SPDR S&P 500", "exchange": "ARCA"},
        {**asset, "symbol": "OLD", "name": "spy museum", "status": "inactive"},
        {**asset, "symbol": "MUS", "name": "Spy Museum"},
        {"class": "crypto", "exchange": "CRYPTO", "symbol": "BTC/USD", "name": "Bitcoin", "status": "active"},
    ]
    assert [(each.symbol, each.market) for each in alpaca.search("spy", 5)] == [
        ("SPY", "XNYS"), ("SPYX", "XNAS"), ("MUS", "XNAS"),
    ]  # fmt: skip
    (btc,) = alpaca.search("bitcoin", 5)
    assert (btc.symbol, btc.market, btc.currency, btc.asset_class) == ("BTC/USD", "24/7", "USD", AssetClass.CRYPTO)


def test_an_asset_is_looked_up_by_its_symbol(server: AlpacaServer, alpaca: Alpaca) -> None:
    """The exchange is in Alpaca's words."""
    server.assets = [
        {"class": "us_equity", "exchange": "ARCA", "status": "active", "symbol": "SPY", "name": "SPDR S&P 500"}
    ]
    found = alpaca.lookup(SPY)
    assert found is not None
    assert (found.market, found.exchange, alpaca.lookup(BRK)) == ("XNYS", "ARCA", None)


def test_assets_are_looked_up_at_once_and_listed_anew_each_day(
    server: AlpacaServer, alpaca: Alpaca, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asset that was listed meanwhile is found on the next day."""
    asset = {"class": "us_equity", "exchange": "ARCA", "status": "active", "name": "A share"}
    server.assets = [{**asset, "symbol": "SPY"}, {**asset, "symbol": "OTHER"}]
    monkeypatch.setattr("services.marketdata.providers.alpaca.utc_now", lambda: NOW)
    assert [each.symbol for each in alpaca.lookups([SPY, BRK])] == ["SPY"]
    server.assets.append({**asset, "symbol": "BRK.B"})
    assert [each.symbol for each in alpaca.lookups([SPY, BRK])] == ["SPY"]
    assert len(server.asked) == 1
    monkeypatch.setattr("services.marketdata.providers.alpaca.utc_now", lambda: NOW + timedelta(days=1))
    assert [each.symbol for each in alpaca.lookups([SPY, BRK])] == ["SPY", "BRK.B"]


def test_news(server: AlpacaServer, alpaca: Alpaca) -> None:
    article = {"headline": "Coins rise", "url": "https://x/1", "created_at": "2024-06-05T12:00:00Z",
               "symbols": ["BTCUSD", "ETHUSD"], "source": "benzinga", "summary": "Up."}  # fmt: skip
    server.news = [article, {**article, "url": ""}]
    (headline,) = alpaca.news([BTC], datetime(2024, 6, 5, tzinfo=UTC))
    assert (headline.symbols, headline.title, headline.score) == (("BTC/USD",), "Coins rise", None)


def test_the_stream_brings_trades_and_quotes(server: AlpacaServer, streams: AlpacaStreamServer) -> None:
    """Repeated, older and far-ahead frames change nothing, nor do trades at prices that are not the market's."""
    server.snapshots["SPY"] = snapshot(530.5, AT)
    reader = Reader(provider(server, stream_url=streams.url).stream([SPY]))
    streams.wait_for(lambda: any("SPY" in each.get("quotes", ()) for each in streams.received))
    first = 1_717_599_600 * SECOND
    traded = trade("SPY", 531.0, at=stamp(first), number=7)
    streams.send(
        streams.frames(
            quote("SPY", 530.9, 531.1, at=stamp(first - SECOND)),
            traded,
            traded,
            trade("SPY", 99.0, at=stamp(first - 2 * SECOND), number=6),
            trade("SPY", 98.0, at=stamp(first + 1), number=8, c=["W"]),
            trade("OTHER", 97.0, at=stamp(first), number=9),
            trade("SPY", 96.0, at=stamp(4_000_000_000 * SECOND), number=9),
            quote("SPY", 95.0, 96.0, at=stamp(4_000_000_000 * SECOND)),
        )
    )
    streams.send(streams.frames({"T": "error", "code": 400, "msg": "invalid syntax"}, trade("SPY", 531.5, number=10)))
    reader.wait_for(3)
    assert [(each.last, each.bid, each.volume) for each in reader.quotes] == [
        numbers("530.5 530.9 0"),
        numbers("531.0 530.9 10"),
        numbers("531.5 530.9 10"),
    ]
    assert reader.quotes[1].quoted_at == datetime.fromtimestamp(1_717_599_600, UTC)
    reader.stream.close()
    assert reader.join() is None


def test_a_cut_stream_is_an_error(server: AlpacaServer, streams: AlpacaStreamServer) -> None:
    """alpaca-py would open it again by itself, and nobody would know of the gap."""
    reader = Reader(provider(server, stream_url=streams.url).stream([SPY]))
    streams.wait_for(lambda: streams.received)
    streams.cut()
    assert isinstance(reader.join(), ProviderDown)
    assert streams.connected == 1


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ({"T": "error", "code": 402, "msg": "auth failed"}, KeyRefused),
        ({"T": "error", "code": 406, "msg": "connection limit exceeded"}, Throttled),
        ({"T": "error", "code": 409, "msg": "insufficient subscription"}, KeyRefused),
    ],
)
def test_a_refused_stream_says_why(
    server: AlpacaServer, streams: AlpacaStreamServer, refusal: dict[str, Any], error: type[Exception]
) -> None:
    streams.refusal = refusal
    assert isinstance(Reader(provider(server, stream_url=streams.url).stream([SPY])).join(), error)
