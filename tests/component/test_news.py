"""News from a local server of feeds and from a provider that a test wrote, on a real PostgreSQL."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import pytest

from services.gateway.alerts.evaluator import Evaluator
from services.marketdata.news.fetch import FetchFailed, HostDown, fetch
from services.marketdata.persistence.news import followed
from services.marketdata.providers.provider import Headline, Listed, Part, Provider, ProviderDown, Traits
from services.marketdata.usecases import indicators
from services.marketdata.usecases.update_news import update_news
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.indicators import AddIndicator, IndicatorName
from shared.contracts.instruments import AssetClass
from shared.public_hosts import is_public
from shared.resilience.breakers import BreakerOpen
from tests.component.alert_rows import evaluate_until_resolved, execute, notifications, open_alerts
from tests.component.news_server import ATOM, FeedServer, feed_server, item, redirect, rss
from tests.component.watching import context_of, marketdata_at
from tests.component.watchlist_rows import watch
from tests.conftest import FakeClock
from tests.support import rows

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEEP = timedelta(days=30)


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """AAPL and IBM are followed, since they have indicators."""
    with marketdata_at(NOON, urls, clock) as context:
        with context.unit_of_work() as uow:
            for symbol in ("AAPL", "IBM"):
                indicators.add(
                    uow, AddIndicator(symbol=symbol, interval="1d", name=IndicatorName.SMA, requested_at=NOON)
                )
        yield context


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with feed_server() as made:
        yield made


def run(
    context: ServiceContext, *feeds: str, order: Any = None, seconds: float = 5.0, counts: int | None = None
) -> dict[str, int]:
    found = update_news(
        context, order or {}, feeds, partial(fetch, seconds=seconds), keep=KEEP, progress=lambda _done, _total: None
    )
    assert counts is None or found["headlines_added"] == counts, found
    return found


def news(context: ServiceContext) -> list[Any]:
    return rows(
        context.engine,
        """
        SELECT n.*, ARRAY(SELECT symbol FROM marketdata.news_symbols_v1 WHERE news_id = n.id ORDER BY 1) AS symbols
        FROM marketdata.news n ORDER BY title
        """,
    )


def test_headlines_of_followed_symbols_are_stored_with_their_sentiment(
    marketdata: ServiceContext, server: FeedServer
) -> None:
    """A feed for each symbol, and one for all, from which headlines are taken that name a symbol."""
    server.answers = {
        "/AAPL.xml": rss(item("Maker of phones beats estimates", "https://example.com/a")),
        "/IBM.xml": rss(item("IBM cuts full-year guidance, shares plunge", "https://example.com/b")),
        "/all.xml": ATOM.format(
            items="<entry><title>Apple opens a shop</title><link href='https://example.com/c'/>"
            "<updated>2026-11-23T10:00:00Z</updated></entry>"
            "<entry><title>Weather is fine</title><link href='https://example.com/d'/></entry>"
        ),
    }
    counts = run(marketdata, f"{server.url}/{{symbol}}.xml", f"{server.url}/all.xml")
    assert counts == {"headlines_added": 3, "requests": 3, "requests_failed": 0, "requests_deferred": 0}
    shop, bad, good = news(marketdata)
    assert [each.symbols for each in (shop, bad, good)] == [["AAPL"], ["IBM"], ["AAPL"]]
    assert (good.score > 0.5, shop.score, bad.score < -0.6) == (True, 0, True)
    assert {each.scored_by for each in (shop, bad, good)} == {"lexicon"}
    assert (shop.source, shop.published_at) == ("Atom Wire", datetime(2026, 11, 23, 10, tzinfo=UTC))
    assert (bad.source, bad.published_at, bad.received_at) == ("Example Wire", NOON - timedelta(hours=1), NOON)


def test_one_story_is_stored_once(marketdata: ServiceContext, server: FeedServer, clock: FakeClock) -> None:
    """By its address, however it is written, and by its title in one source within a day. Its symbols add up."""
    server.answers["/all.xml"] = rss(
        item("Apple and IBM agree", "http://www.example.com/a?utm_source=rss"),
        item("Apple &amp; IBM agree, again", "https://example.com/a/"),
        item("APPLE and IBM: agree!", "https://example.com/other"),
    )
    run(marketdata, f"{server.url}/all.xml", counts=1)
    run(marketdata, f"{server.url}/all.xml", counts=0)
    server.answers["/all.xml"] = rss(
        item("Apple and IBM agree", "https://example.com/new", "Tue, 24 Nov 2026 10:00:00 GMT"),
        item("Apple and IBM agree", "https://example.com/newer", "Wed, 25 Nov 2026 12:00:00 GMT"),
    )
    clock.now = NOON + timedelta(days=3)
    run(marketdata, f"{server.url}/all.xml", counts=1)
    assert [each.symbols for each in news(marketdata)] == [["AAPL", "IBM"]] * 2
    server.answers["/all.xml"] = rss(item("$AAPL rises", "https://example.com/x"))
    server.answers["/IBM.xml"] = rss(item("$AAPL rises", "https://example.com/x"))
    run(marketdata, f"{server.url}/all.xml", counts=1)
    run(marketdata, f"{server.url}/{{symbol}}.xml", counts=0)
    assert news(marketdata)[0].symbols == ["AAPL", "IBM"]


def test_text_is_plain_and_bad_entries_are_left_out(marketdata: ServiceContext, server: FeedServer) -> None:
    """Nothing of a feed is markup on a page. The rest of a feed is kept."""
    server.answers["/all.xml"] = rss(
        item("Apple &lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;up&lt;/b&gt; &#x202e;now", "https://example.com/1",
             summary="&lt;img src=x onerror=alert(2)&gt;Read &lt;a href='javascript:x'&gt;this&lt;/a&gt;"),
        item("Apple links to code", "javascript:alert(1)"),
        item("Apple links to a file", "file:///etc/passwd"),
        item("", "https://example.com/2"),
        item("Apple " + "x" * 5000, "https://example.com/3"),
        item("Apple is far away", "https://example.com/" + "y" * 3000),
    )  # fmt: skip
    run(marketdata, f"{server.url}/all.xml", counts=2)
    plain, long = news(marketdata)
    assert (plain.title, plain.summary) == ("Apple up now", "Read this")
    assert len(long.title) == 300


@pytest.mark.parametrize(
    ("date", "published"),
    [
        ("Tue, 24 Nov 2026 11:00:00 GMT", NOON),  # ahead
        ("yesterday or so", NOON),
        ("Mon, 99 Foo 2026 99:99:99 GMT", NOON),
        ("Mon, 23 Nov 2026 06:00:00 -0500", NOON - timedelta(hours=1)),
        ("Mon, 23 Nov 1998 11:00:00 GMT", None),  # too old to be kept
        ("Mon, 01 Jan 0001 00:00:00 GMT", None),
    ],
)
def test_a_date_that_cannot_be_is_the_time_of_arrival(
    marketdata: ServiceContext, server: FeedServer, date: str, published: datetime | None
) -> None:
    server.answers["/all.xml"] = rss(item("Apple rises", "https://example.com/1", date))
    run(marketdata, f"{server.url}/all.xml")
    assert [each.published_at for each in news(marketdata)] == ([] if published is None else [published])


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY a "aaaaaaaaaaaaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(ord(old) + 1)} "{f"&{old};" * 10}">' for old in "abcdefgh")
    + "]><rss version='2.0'><channel><title>&i;</title></channel></rss>"
)


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (rss(item("Apple rises", "https://example.com/1"))[:-40], 1),
        (rss(item("Apple & IBM <rise", "https://example.com/1"), item("Apple falls", "https://example.com/2")), 2),
        ("<html><body><script>1</script><h1>Not found</h1></body></html>", 0),
        ("", 0),
        ("\x00\x01\x02", 0),
        ('{"news": []}', 0),
        (BOMB, 0),
    ],
)
def test_a_broken_feed_is_read_as_far_as_it_goes(
    marketdata: ServiceContext, server: FeedServer, body: str, stored: int
) -> None:
    """The other feed of the run is stored in any case."""
    server.answers = {"/bad.xml": body, "/good.xml": rss(item("IBM rises", "https://example.com/ibm"))}
    run(marketdata, f"{server.url}/bad.xml", f"{server.url}/good.xml", counts=stored + 1)


def test_a_fetch_is_bounded_in_time_and_size(server: FeedServer) -> None:
    """Also if each byte comes in time, and if nothing comes at all."""
    ended = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
            while not ended.wait(0.02):
                handler.wfile.write(b" ")

    def silent(_handler: BaseHTTPRequestHandler) -> None:
        ended.wait(10)

    def huge(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
            for _ in range(100):
                handler.wfile.write(b" " * 100_000)

    server.answers = {"/drip": drip, "/silent": silent, "/huge": huge}
    try:
        for path in ("/drip", "/silent"):
            with pytest.raises(HostDown, match="longer than"):
                fetch(server.url + path, seconds=0.3)
        with pytest.raises(FetchFailed, match="more than 2000000 bytes"):
            fetch(server.url + "/huge")
    finally:
        ended.set()


@pytest.mark.parametrize(
    "place",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://localhost:9/",
        "//0.0.0.0/",
        "file:///etc/passwd",
        "ftp://example.com/",
        "http://user:password@example.com/",
    ],
)
def test_a_redirect_into_our_network_is_refused(server: FeedServer, place: str) -> None:
    """The feed's own address is private here: an operator chose that, and its server may redirect to itself."""
    server.answers = {
        "/feed": redirect("/moved"),
        "/moved": rss(),
        "/evil": redirect(place),
        "/loop": redirect("/loop"),
    }
    assert fetch(server.url + "/feed").body == rss().encode()
    with pytest.raises(FetchFailed, match="refused"):
        fetch(server.url + "/evil")
    with pytest.raises(FetchFailed, match="more than 3 times"):
        fetch(server.url + "/loop")


def test_a_public_name_with_a_private_address_is_refused(server: FeedServer) -> None:
    """Of several addresses, one that is private is enough."""
    server.answers["/feed"] = redirect("http://rebound.example/")
    names = {"127.0.0.1": ["127.0.0.1"], "rebound.example": ["93.184.215.14", "192.168.1.1"]}
    with pytest.raises(FetchFailed, match=r"rebound\.example is refused"):
        fetch(server.url + "/feed", resolve=lambda host, _port: names[host])
    assert is_public("93.184.215.14")
    assert is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")


class Wire(Provider):
    """A provider with news, whose answers the test sets."""

    traits: ClassVar[Traits] = Traits(
        name="wire", parts=frozenset({Part.NEWS}), asset_classes=frozenset({AssetClass.US_EQUITY})
    )

    def __init__(self) -> None:
        self.answer: list[Headline] | Exception = []
        self.asked: list[str] = []

    def news(self, instruments: Sequence[Listed], since: datetime) -> list[Headline]:
        assert since < NOON
        self.asked += [each.symbol for each in instruments]
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def headline(title: str, score: float | None, *symbols: str) -> Headline:
    return Headline(
        title=title,
        url=f"https://example.com/{title.replace(' ', '-')}",
        published_at=NOON - timedelta(minutes=1),
        symbols=symbols,
        source="Wire",
        score=score,
    )


def test_a_provider_s_own_score_is_kept_and_its_other_symbols_are_not(marketdata: ServiceContext) -> None:
    """A score that is none is replaced by that of the lexicon."""
    wire = Wire()
    wire.answer = [
        headline("Apple plunges", 0.25, "AAPL", "TSLA"),
        headline("IBM plunges", float("nan"), "IBM"),
        headline("Tesla plunges", -0.9, "TSLA"),
    ]
    run(marketdata, order={AssetClass.US_EQUITY: [wire]}, counts=2)
    apple, ibm = news(marketdata)
    assert (apple.score, apple.scored_by, apple.symbols) == (0.25, "provider", ["AAPL"])
    assert (ibm.score < -0.5, ibm.scored_by) == (True, "lexicon")
    assert wire.asked == ["AAPL", "IBM"]


def test_a_provider_is_asked_for_as_many_symbols_at_once_as_it_takes(marketdata: ServiceContext) -> None:
    """A request for both, where the limits of a key count requests."""
    wire = Wire()
    wire.traits = replace(Wire.traits, news_batch=50)  # type: ignore[misc]
    wire.answer = [headline("Both rise", 0.5, "AAPL", "IBM")]
    run(marketdata, order={AssetClass.US_EQUITY: [wire]}, counts=1)
    assert wire.asked == ["AAPL", "IBM"]


def test_a_source_that_fails_keeps_no_other_waiting_and_all_of_them_defer_the_run(
    marketdata: ServiceContext, server: FeedServer, clock: FakeClock
) -> None:
    """A run that raises BreakerOpen is run again at its next attempt, and has not failed."""
    wire = Wire()
    wire.answer = ProviderDown("no answer")
    order = {AssetClass.US_EQUITY: [wire]}
    server.answers["/all.xml"] = rss(item("Apple rises", "https://example.com/1"))
    counts = run(marketdata, f"{server.url}/all.xml", order=order, counts=1)
    assert counts["requests_failed"] == 2
    for _ in range(3):
        run(marketdata, f"{server.url}/all.xml", order=order)
    assert run(marketdata, f"{server.url}/all.xml", order=order)["requests_deferred"] == 2
    with pytest.raises(BreakerOpen):
        run(marketdata, order=order)


def test_news_of_watched_symbols_is_fetched_before_that_of_symbols_with_indicators(
    marketdata: ServiceContext, urls: dict[str, str], clock: FakeClock
) -> None:
    """AAPL and IBM have indicators here. A symbol that is no instrument is left out."""
    with context_of("gateway", urls, clock) as gateway:
        watch(gateway, NOON, "MSFT", "IBM", "GONE")
    with marketdata.engine.begin() as connection:
        assert [each.listed.symbol for each in followed(connection, 300)] == ["IBM", "MSFT", "AAPL"]
        assert [each.listed.symbol for each in followed(connection, 2)] == ["IBM", "MSFT"]


def test_bad_news_of_a_held_symbol_raises_one_alert(
    marketdata: ServiceContext, gateway: ServiceContext, clock: FakeClock, urls: dict[str, str]
) -> None:
    """Once for each headline, also if the symbol is sold and bought again. News of others raises none."""
    wire = Wire()
    wire.answer = [headline("Apple files for bankruptcy", -0.9, "AAPL"), headline("IBM sued", -0.95, "IBM")]
    wire.answer.append(headline("Apple is a little worse", -0.5, "AAPL"))
    run(marketdata, order={AssetClass.US_EQUITY: [wire]}, counts=3)
    evaluator = Evaluator(gateway, None, queue_age=timedelta(minutes=5), news_score=-0.6)
    evaluator.evaluate()
    assert [kind for kind, _ in open_alerts(gateway)] == []
    with context_of("orders", urls, clock) as orders:
        hold(orders, NOON)
        evaluator.evaluate()
        (told,) = notifications(gateway)
        assert told.kind == "bad_news"
        assert told.message == (
            "Negative news of AAPL, which accounts hold (score -0.90, Wire): Apple files for bankruptcy."
            " Read it at /api/news?symbol=AAPL."
        )
        execute(orders, "DELETE FROM orders.positions")
        evaluate_until_resolved(evaluator, clock)
        hold(orders, NOON)
        evaluator.evaluate()
    assert (len(notifications(gateway)), open_alerts(gateway)) == (1, [])


def hold(orders: ServiceContext, now: datetime) -> None:
    execute(
        orders,
        """
        WITH opened AS (
          INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
          VALUES (gen_random_uuid(), gen_random_uuid()::text, 'holder', 'USD', 1, :now) RETURNING id
        )
        INSERT INTO orders.positions (account_id, symbol, qty, cost, updated_at)
        SELECT id, 'AAPL', 1, 1, :now FROM opened
        """,
        now=now,
    )
