"""Yahoo Finance's answers to the requests of yfinance: cookie, crumb, quotes, charts and search."""

from typing import Any

from tests.servers.provider_http import Asked, ProviderServer, Reply

CRUMB = "Zq1.pB7xKwo"


def quote(symbol: str, price: float, at: int, **other: Any) -> dict[str, Any]:
    """One result of ``/v7/finance/quote``: that of a US share in regular trading, but for ``other``."""
    return {
        "language": "en-US",
        "region": "US",
        "quoteType": "EQUITY",
        "typeDisp": "Equity",
        "quoteSourceName": "Nasdaq Real Time Price",
        "triggerable": True,
        "currency": "USD",
        "exchange": "NYQ",
        "fullExchangeName": "NYSE",
        "shortName": f"{symbol} Inc.",
        "longName": f"{symbol} Incorporated",
        "marketState": "REGULAR",
        "exchangeTimezoneName": "America/New_York",
        "exchangeTimezoneShortName": "EDT",
        "gmtOffSetMilliseconds": -14400000,
        "exchangeDataDelayedBy": 0,
        "sourceInterval": 15,
        "priceHint": 2,
        "tradeable": False,
        "regularMarketPrice": price,
        "regularMarketTime": at,
        "regularMarketOpen": price,
        "regularMarketDayHigh": price,
        "regularMarketDayLow": price,
        "regularMarketDayRange": f"{price} - {price}",
        "regularMarketVolume": 1000,
        "regularMarketPreviousClose": price,
        "bid": price - 0.01,
        "ask": price + 0.01,
        "bidSize": 8,
        "askSize": 9,
        "fiftyTwoWeekRange": "1.0 - 900.0",
        "marketCap": 4212345678901,
        "symbol": symbol,
        **other,
    }


class YahooServer(ProviderServer):
    """Yahoo. ``quotes`` and ``charts`` are by Yahoo's symbols. A symbol without one is unknown, as there."""

    def __init__(self) -> None:
        self.quotes: dict[str, dict[str, Any]] = {}
        self.charts: dict[str, dict[str, Any]] = {}
        self.found: list[dict[str, Any]] = []
        self.news: list[dict[str, Any]] = []
        self.crumb = CRUMB
        super().__init__()

    def put(self, symbol: str, price: float, at: int, **other: Any) -> None:
        self.quotes[symbol] = quote(symbol, price, at, **other)

    def reply(self, asked: Asked) -> Reply:
        if asked.path.startswith("/v8/finance/chart/"):
            return self._chart(asked)
        if asked.path == "/v7/finance/quote":
            return self._quotes(asked)
        form = '<form><input name="csrfToken" value="t"/><input name="sessionId" value="s"/></form>'
        other = {
            "/": Reply("", 404, {"Set-Cookie": "A3=d=AQABBO; Path=/; Max-Age=31557600"}),  # fc.yahoo.com
            "/v1/test/getcrumb": Reply(self.crumb),
            "/consent": Reply(f"<html><body>{form}</body></html>"),
            "/v2/collectConsent": Reply(""),
            "/copyConsent": Reply(""),
            "/v1/finance/search": Reply({"count": len(self.found), "quotes": self.found, "news": self.news}),
        }
        error = {"code": "Not Found", "description": asked.path}
        return other.get(asked.path) or Reply({"finance": {"result": None, "error": error}}, 404)

    def _quotes(self, asked: Asked) -> Reply:
        if asked.query.get("crumb") != self.crumb:
            error = {"code": "Unauthorized", "description": "Invalid Crumb"}
            return Reply({"finance": {"result": None, "error": error}}, 401)
        known = [self.quotes[each] for each in asked.query["symbols"].split(",") if each in self.quotes]
        return Reply({"quoteResponse": {"result": known, "error": None}})

    def _chart(self, asked: Asked) -> Reply:
        symbol = asked.path.rsplit("/", 1)[1]
        chart = self.charts.get(symbol)
        if chart is None:
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            return Reply({"chart": {"result": None, "error": error}}, 404)
        begin, end = int(asked.query["period1"]), int(asked.query["period2"])
        rows = [row for row in chart["rows"] if begin <= row[0] < end]
        quote = {name: [row[at] for row in rows] for at, name in enumerate(_COLUMNS, start=1)}
        result: dict[str, Any] = {"meta": {"symbol": symbol, **chart["meta"]}, "indicators": {"quote": [quote]}}
        if rows:
            result["timestamp"] = [row[0] for row in rows]
        events = {
            kind: {key: event for key, event in of_kind.items() if begin <= event["date"] < end}
            for kind, of_kind in chart.get("events", {}).items()
        }
        if asked.query.get("events") and any(events.values()):
            result["events"] = {kind: of_kind for kind, of_kind in events.items() if of_kind}
        return Reply({"chart": {"result": [result], "error": None}})


_COLUMNS = ("open", "high", "low", "close", "volume")


def chart(
    rows: list[tuple[Any, ...]], *, currency: str = "USD", timezone: str = "America/New_York", **events: Any
) -> dict[str, Any]:
    """A chart: rows of timestamp, open, high, low, close and volume, with ``splits`` and ``dividends`` by timestamp."""
    meta = {
        "currency": currency,
        "exchangeName": "NYQ",
        "fullExchangeName": "NYSE",
        "instrumentType": "EQUITY",
        "firstTradeDate": 345479400,
        "hasPrePostMarketData": True,
        "exchangeTimezoneName": timezone,
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
    }
    return {"meta": meta, "rows": rows, "events": events}
