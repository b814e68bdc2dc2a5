"""Headlines as plain text, the address of a page in one spelling, and the symbols that a headline is about."""

import re
from collections.abc import Mapping
from html import unescape
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from shared.contracts.written import PRINTABLE

LONGEST_TITLE, LONGEST_SUMMARY, LONGEST_URL, LONGEST_SOURCE = 300, 1000, 2000, 100
#: Elements whose content nobody reads.
_UNREAD = {"script", "style", "template", "noscript", "iframe", "object", "svg", "math"}
#: Parameters that say where a reader comes from.
_TRACKING = re.compile(r"utm_.*|fbclid|gclid|dclid|msclkid|yclid|mc_[ce]id|\.tsrc|guccounter|ref|src|cmpid|ncid|soc_.*")
_INVISIBLE = re.compile(PRINTABLE.replace("^[^", "[").replace("]*$", "]"))
#: Words of a company's name that do not tell it from others.
_LEGAL = re.compile(
    r"[,.]?\s+(incorporated|inc|corporation|corp|company|co|plc|ltd|limited|ag|se|sa|nv|n\.v|holdings?|group|"
    r"class [a-c]|the)\b\.?",
    re.IGNORECASE,
)
#: Capitals in a headline that are no symbols, though some symbol has them.
_ACRONYMS = frozenset((
    "AND", "ARE", "ALL", "BIG", "CAN", "CAR", "CEO", "CFO", "COO", "CTO", "DAY", "EPS", "ETF", "EUR", "FBI", "FDA",
    "FED", "FOR", "FTC", "GDP", "HAS", "IPO", "IRS", "LOW", "NEW", "NOW", "NYSE", "OPEC", "OUT", "SEC", "THE", "TOP",
    "USA", "USD", "WTO",
))  # fmt: skip
_WORD = re.compile(r"[^\W_]+(?:[.'&-][^\W_]+)*")


class _Reader(HTMLParser):
    """Collects the text that a reader would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self._unread = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._unread += tag in _UNREAD
        self.words.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._unread = max(0, self._unread - (tag in _UNREAD))
        self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.words.append(data)


def plain_text(given: str, longest: int) -> str:
    """Return the text without markup, also markup that was escaped, and without invisible characters."""
    text = given[: 20 * longest]
    for _ in range(2):
        reader = _Reader()
        reader.feed(text)
        reader.close()
        text = "".join(reader.words)
    words = " ".join(_INVISIBLE.sub(" ", unescape(text).replace("<", " ").replace(">", " ")).split())
    return words if len(words) <= longest else words[: longest - 1].rstrip() + "…"


def canonical_url(given: str) -> str | None:
    """Return the address without what differs between links to one page. None if it is not of a page on the web."""
    try:
        parts = urlsplit(given.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not host or parts.username or len(given) > LONGEST_URL:
        return None
    if _INVISIBLE.search(given) or " " in given.strip():
        return None
    place = f"[{host}]" if ":" in host else host
    place += f":{port}" if port not in {None, 80, 443} else ""
    kept = [(name, value) for name, value in parse_qsl(parts.query) if not _TRACKING.fullmatch(name.lower())]
    return urlunsplit(("https", place.removeprefix("www."), parts.path.rstrip("/"), urlencode(sorted(kept)), ""))


def title_key(title: str, source: str) -> str:
    """Return what is equal for one title of one source, whatever its case and punctuation."""
    return f"{source.lower()}: {' '.join(_WORD.findall(title.lower()))}"


def mentioned(title: str, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the symbols of ``names``, symbol → the instrument's name, that the headline is about.

    A symbol counts where it is written as one: $AAPL, (AAPL) or (NASDAQ: AAPL), and from three letters on also alone,
    unless it is a usual acronym or all is in capitals. A name counts without "Inc." and the like, if it has at least
    four characters.
    """
    marked = set(re.findall(r"\$([A-Z][A-Z0-9.]{0,9})\b", title))
    marked |= set(re.findall(r"\((?:[A-Za-z ]{2,12}:\s?)?([A-Z][A-Z0-9.]{0,9})\)", title))
    if title != title.upper():
        marked |= set(re.findall(r"(?<![\w$.])([A-Z]{3,10})(?![\w.])", title)) - _ACRONYMS
    found = []
    for symbol, name in names.items():
        short = _LEGAL.sub("", name).strip(" ,.")
        named = len(short) >= 4 and re.search(rf"(?<!\w){re.escape(short)}(?!\w)", title) is not None
        if symbol in marked or named:
            found.append(symbol)
    return tuple(found)
