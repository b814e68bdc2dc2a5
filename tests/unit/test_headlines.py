"""Headlines: plain text, one spelling of an address, the symbols that are meant, and how a headline sounds."""

import pytest

from services.marketdata.news.sentiment import FINANCE, PHRASES, score
from services.marketdata.news.text import canonical_url, mentioned, plain_text, title_key

NAMES = {
    "AAPL": "Apple Inc.",
    "IBM": "International Business Machines Corporation",
    "MSFT": "Microsoft Corporation",
    "NOW": "ServiceNow, Inc.",
    "T": "AT&T Inc.",
}


@pytest.mark.parametrize(
    ("title", "low", "high"),
    [
        ("Apple beats estimates as sales surge", 0.6, 1),
        ("Goldman upgrades Microsoft to buy", 0.3, 1),
        ("Microsoft announces $60 billion buyback", 0.3, 1),
        ("Intel raises full-year guidance", 0.4, 1),
        ("FDA approves drug of Pfizer", 0.4, 1),
        ("Apple cuts full-year guidance, shares plunge", -1, -0.6),
        ("IBM files for bankruptcy protection", -1, -0.6),
        ("Lender files for Chapter 11", -1, -0.6),
        ("Boeing issues profit warning", -1, -0.4),
        ("Nike misses estimates", -1, -0.4),
        ("SEC opens probe into accounting of Tesla", -1, -0.3),
        ("Ford recalls 400,000 vehicles", -1, -0.3),
        ("Moody's downgrades Intel", -1, -0.3),
        ("Apple to report earnings on Thursday", 0, 0),
        ("Vice president speaks on crude oil and interest rates", 0, 0),
        ("Holders of shares in gross terms", 0, 0),
        ("", 0, 0),
    ],
)
def test_a_headline_sounds_as_the_market_reads_it(title: str, low: float, high: float) -> None:
    assert low <= score(title) <= high


def test_the_summary_counts_where_the_title_is_neutral() -> None:
    assert score("Statement of the company", "It files for bankruptcy.") < 0
    assert score("Apple surges", "It files for bankruptcy.") == score("Apple surges")


def test_every_phrase_has_a_weight() -> None:
    assert set(PHRASES) <= set(FINANCE)
    assert all(-4 <= weight <= 4 for weight in FINANCE.values())


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("http://www.Example.com:80/a/?utm_source=x&b=2&a=1#part", "https://example.com/a?a=1&b=2"),
        ("https://example.com/a?.tsrc=rss&ref=feed", "https://example.com/a"),
        ("https://example.com:8443/a", "https://example.com:8443/a"),
        ("https://[2001:db8::1]/a", "https://[2001:db8::1]/a"),
        ("javascript:alert(1)", None),
        ("https://user:password@example.com/", None),
        ("https://example.com:port/", None),
        ("https:///a", None),
        ("https://example.com/a b", None),
        ("https://example.com/\u202ea", None),
        ("/a", None),
        ("https://example.com/" + "a" * 2000, None),
    ],
)
def test_an_address_has_one_spelling(given: str, canonical: str | None) -> None:
    assert canonical_url(given) == canonical


@pytest.mark.parametrize(
    ("title", "symbols"),
    [
        ("Apple and Microsoft agree", ("AAPL", "MSFT")),
        ("Pineapple prices rise", ()),
        ("Rally ($AAPL) and (NYSE: IBM)", ("AAPL", "IBM")),
        ("IBM rises", ("IBM",)),
        ("What to do NOW", ()),
        ("Watch $NOW and ServiceNow", ("NOW",)),
        ("IBM AND ALL THE REST", ()),
        ("AT&T cuts jobs", ("T",)),
        ("T is a letter", ()),
    ],
)
def test_a_headline_is_about_the_symbols_that_it_names(title: str, symbols: tuple[str, ...]) -> None:
    assert mentioned(title, NAMES) == symbols


def test_text_has_no_markup_and_a_bounded_length() -> None:
    assert plain_text("a &lt;b onclick=x&gt;c&lt;/b&gt; &amp;amp; d<style>e</style>\x00\u200bf", 100) == "a c & d f"
    assert plain_text("x" * 50, 10) == "x" * 9 + "…"
    assert plain_text("<" * 5000, 10) == ""


def test_titles_are_compared_without_case_and_punctuation() -> None:
    assert title_key("IBM: Up, 3%!", "Wire") == title_key("ibm up 3", "WIRE")
    assert title_key("IBM up", "Wire") != title_key("IBM up", "Other")
